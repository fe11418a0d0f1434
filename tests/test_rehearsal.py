"""Whether an artifact may take the place of a served one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import onnx
import pytest

from dimmed_artifacts import dimmed_artifact
from seatrial.artifact import Artifact, Store
from seatrial.deployment import CoreLayout, Deployment, Reload
from seatrial.errors import EngineFailed, InvalidArtifact, InvalidConfig, NotSwapped
from seatrial.rehearsal import DRAWN, MOST_IMAGES, _images, rehearse

ONE_LANE = CoreLayout(1, 1, 1, wide=False)


@pytest.fixture
def dimmed(tiny_model: Callable[..., Any], tmp_path: Path) -> Callable[..., Artifact]:
    def made(share: float, name: str, **variant: Any) -> Artifact:
        return dimmed_artifact(tiny_model, tmp_path, share, name, **variant)

    return made


def deployment(**rules: Any) -> Deployment:
    return Deployment("tiny", engine="onnxruntime", layout=ONE_LANE, reload=Reload(**rules))


def twice(folder: Path) -> None:
    """Have a COCO folder hold each image twice: four are too few for an interval."""
    file = folder / "instances.json"
    labels = json.loads(file.read_text())
    more = len(labels["images"])
    for image in labels["images"][:]:
        name = f"{image['id'] + more}.png"
        shutil.copy(folder / image["file_name"], folder / name)
        labels["images"].append({**image, "id": image["id"] + more, "file_name": name})
    for box in labels["annotations"][:]:
        labels["annotations"].append({**box, "image_id": box["image_id"] + more})
    file.write_text(json.dumps(labels))


def test_one_that_answers_alike_passes_with_its_memory_and_its_boxes(
    tiny_artifact: Artifact, dimmed: Callable[..., Artifact], scenes: Path
) -> None:
    other = dimmed(0.8, "other")
    found = rehearse(tiny_artifact, other, deployment())
    assert (found.name, found.digest, found.images) == ("other", other.digest, DRAWN)
    assert found.comparison.parent_boxes > 0  # the drawn images show something
    given = rehearse(tiny_artifact, other, deployment(images=str(scenes)))
    assert (given.images, given.comparison.matched, given.comparison.lost) == (4, 6, 0)
    assert given.comparison.mean_shift == pytest.approx(-0.2, abs=0.02)
    assert given.memory_bytes < 2**30
    assert msgspec.json.encode(given)


def test_one_that_disagrees_is_refused(
    tiny_artifact: Artifact, dimmed: Callable[..., Artifact], scenes: Path
) -> None:
    blind = dimmed(0.1, "blind")
    with pytest.raises(NotSwapped, match="agree on 0% of their boxes on 4 images"):
        rehearse(tiny_artifact, blind, deployment(images=str(scenes)))
    assert rehearse(tiny_artifact, blind, deployment(images=str(scenes), agreement=0.0))


def test_agreement_that_is_asked_for_and_cannot_be_measured_is_refused(
    dimmed: Callable[..., Artifact], tmp_path: Path
) -> None:
    """As with an SSD on drawn images: a dead model looks there as a good one does."""
    served, dead = dimmed(0.1, "served"), dimmed(0.05, "dead")
    images = tmp_path / "black"
    images.mkdir()
    for number in range(3):
        assert cv2.imwrite(str(images / f"{number}.png"), np.zeros((64, 64, 3), np.uint8))
    for folder, count in ((None, DRAWN), (str(images), 3)):
        with pytest.raises(NotSwapped, match=f"sees anything on any of the {count} images") as told:
            rehearse(served, dead, deployment(images=folder, agreement=0.5))
        assert "reload.images" in told.value.hint
        for rules in ({}, {"agreement": 0.0}):
            found = rehearse(served, dead, deployment(images=folder, **rules))
            assert found.comparison.agreement is None


def test_other_classes_and_another_family_are_refused(
    tiny_artifact: Artifact, dimmed: Callable[..., Artifact]
) -> None:
    fewer = dimmed(1.0, "fewer", names=("red", "green"))
    with pytest.raises(NotSwapped, match="the same classes: blue"):
        rehearse(tiny_artifact, fewer, deployment())
    turned = dimmed(1.0, "turned", names=("green", "red", "blue"))
    with pytest.raises(NotSwapped, match="in another order"):
        rehearse(tiny_artifact, turned, deployment())
    manifest = msgspec.structs.replace(tiny_artifact.manifest, family="ssd")
    with pytest.raises(NotSwapped, match="of the family ssd, and fewer of yolo"):
        rehearse(fewer, Artifact(tiny_artifact.path, manifest, "0" * 64), deployment())


def test_the_contract_decides_where_there_are_labels(
    tiny_artifact: Artifact, dimmed: Callable[..., Artifact], scenes: Path, tmp_path: Path
) -> None:
    contract = tmp_path / "contract.toml"
    contract.write_text('name = "scenes"\n[accuracy]\nap50 = 0.5\n')
    labelled = {"dataset": f"coco:{scenes}", "contract": str(contract)}
    child = dimmed(0.9, "good")
    with pytest.raises(NotSwapped, match=r"cannot be decided for good: AP50 at least 0.5: 1.0000"):
        rehearse(tiny_artifact, child, deployment(**labelled))
    twice(scenes)
    good = rehearse(tiny_artifact, child, deployment(**labelled))
    assert good.verdict is not None
    assert good.verdict.outcome == "holds"
    # Its boxes are half as large, so that no label is met.
    wrong = dimmed(1.0, "wrong", size_hw=(128, 128))
    with pytest.raises(NotSwapped, match=r"scenes fails for wrong: AP50 at least 0.5: 0.0000"):
        rehearse(tiny_artifact, wrong, deployment(agreement=0.0, **labelled))


def test_one_that_is_damaged_or_raises_is_refused(
    tiny_artifact: Artifact, dimmed: Callable[..., Artifact], tmp_path: Path
) -> None:
    other = dimmed(0.8, "other")
    graph = other.path / other.manifest.formats["onnx"]
    model = onnx.load(graph)
    # It loads, and its reshape cannot do with the number of cells.
    flat = next(one for one in model.graph.initializer if one.name == "flat")
    flat.CopyFrom(onnx.numpy_helper.from_array(np.array([0, 7, -1], np.int64), "flat"))
    with Store(tmp_path / "odd").staging() as staged:
        onnx.save(model, staged / graph.name)
        raising = Store(tmp_path / "odd").commit(staged, other.manifest)
    with pytest.raises((InvalidArtifact, EngineFailed), match=r"onnxruntime|ONNX Runtime"):
        rehearse(tiny_artifact, raising, deployment())
    graph.chmod(0o600)
    graph.write_bytes(graph.read_bytes()[:-1])
    with pytest.raises(InvalidArtifact, match="size or sha256 differs"):
        Artifact.open(other.path)


def test_the_first_images_of_a_folder_by_name_are_answered(tmp_path: Path) -> None:
    for number in reversed(range(MOST_IMAGES + 2)):
        (tmp_path / f"{number:03}.jpg").write_bytes(str(number).encode())
    assert _images(str(tmp_path)) == [str(number).encode() for number in range(MOST_IMAGES)]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidConfig, match="there is no image in"):
        _images(str(tmp_path / "empty"))


GIVES_WAY = """
import os
from pathlib import Path
from seatrial.rehearsal import give_way

give_way()
print(os.nice(0), Path("/proc/self/oom_score_adj").read_text().strip())
"""


def test_the_process_of_a_rehearsal_goes_before_the_service() -> None:
    """In time, and when memory is short."""
    done = subprocess.run(
        [sys.executable, "-c", GIVES_WAY], capture_output=True, text=True, check=True
    )
    assert done.stdout == "19 1000\n"
