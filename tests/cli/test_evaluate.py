"""``seatrial evaluate``: tables or JSON, the comparison with a parent, the verdict as exit code."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seatrial.artifact import Artifact, Store
from seatrial.cli.evaluate import evaluate as command
from seatrial.errors import InvalidArtifact, InvalidConfig, NotWritable
from seatrial.manifest import Step
from seatrial.serve.process import ServiceProcess


def test_it_compares_with_a_parent(
    tiny_artifact: Artifact, scenes: Path, tmp_path: Path, capsysbinary: Any
) -> None:
    command(
        str(tiny_artifact.path),
        dataset=f"coco:{scenes}",
        parent=str(tiny_artifact.path),
        save_detections=tmp_path / "found.json",
        json=True,
    )
    report = json.loads(capsysbinary.readouterr().out)
    assert report["scores"]["figures"]["ap"] == pytest.approx(1)
    assert report["parent"]["ap"]["difference"] == 0
    rows = json.loads((tmp_path / "found.json").read_bytes())
    assert {row["category_id"] for row in rows} == {5, 15, 25}
    assert len(rows) == 6


def test_a_served_child_is_found_by_its_digest(
    start_service: Callable[..., ServiceProcess],
    tiny_artifact: Artifact,
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: Any,
) -> None:
    """What was finetuned may give other boxes than its parent: AP alone is judged."""
    monkeypatch.setenv("SEATRIAL_HOME", str(tmp_path))
    store = Store(tmp_path / "artifacts")
    facts = {"name": "trained", "parent": tiny_artifact.digest, "step": Step("finetune")}
    with store.staging() as folder:
        shutil.copy(tiny_artifact.file("onnx"), folder)
        child = store.commit(folder, msgspec.structs.replace(tiny_artifact.manifest, **facts))
    with start_service(child) as service:
        command(
            url=service.url,
            dataset=f"coco:{scenes}",
            parent=str(tiny_artifact.path),
            json=True,
        )
    report = json.loads(capsysbinary.readouterr().out)
    metrics = [row["clause"]["metric"] for row in report["parent_verdict"]["rows"]]
    assert metrics == ["ap_drop"]


def test_it_prints_a_table_for_people(
    tiny_artifact: Artifact, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(str(tiny_artifact.path), dataset=f"coco:{scenes}")
    shown = capsys.readouterr().out
    assert "ap_small" in shown
    assert "green" in shown
    assert {"precision", "recall", "best"} <= set(shown.split())  # the operating point
    assert "against the parent" not in shown


def test_it_shows_how_confidences_moved(
    tiny_artifact: Artifact, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tiny_artifact.path)
    command(path, dataset=f"coco:{scenes}", parent=path)
    shown = capsys.readouterr().out
    (mean,) = re.findall(r"mean shift of confidence\W+([\d.]+)", shown)
    (top,) = re.findall(r"0\.9 to 1\.0\W+(\d+)\W+([\d.]+)\W+([\d.]+)", shown)
    assert float(mean) == 0
    assert int(top[0]) > 0
    assert top[1] == top[2]


def test_it_ends_with_the_verdict(
    tiny_artifact: Artifact, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contract = tmp_path / "contract.toml"
    contract.write_text('name = "gate"\n[accuracy]\nap = 0.9\n')
    with pytest.raises(SystemExit) as ended:
        command(str(tiny_artifact.path), dataset=f"coco:{scenes}", contract=contract)
    assert ended.value.code == 9  # perfect, on too few images
    assert "gate cannot be decided" in capsys.readouterr().err
    labels = json.loads((scenes / "instances.json").read_text())
    few = len(labels["images"])
    for copy in (1, 2):
        for image in labels["images"][:few]:
            name = f"{copy}-{image['file_name']}"
            (scenes / name).write_bytes((scenes / image["file_name"]).read_bytes())
            number = image["id"] + 1000 * copy
            labels["images"].append({**image, "id": number, "file_name": name})
            labels["annotations"] += [
                {**row, "image_id": number}
                for row in labels["annotations"]
                if row["image_id"] == image["id"]
            ]
    (scenes / "instances.json").write_text(json.dumps(labels))
    command(str(tiny_artifact.path), dataset=f"coco:{scenes}", contract=contract)
    assert "gate holds" in capsys.readouterr().err
    half = scenes / "half.json"
    for row in labels["annotations"]:
        row["bbox"][2] /= 2
    half.write_text(json.dumps(labels))
    with pytest.raises(SystemExit) as ended:
        command(
            str(tiny_artifact.path),
            dataset=f"coco:{scenes}",
            annotations=half,
            contract=contract,
            json=True,
        )
    printed = capsys.readouterr()
    assert ended.value.code == 8
    assert json.loads(printed.out)["verdict"]["outcome"] == "fails"
    assert "gate fails" in printed.err


def test_it_refuses_engine_options_for_a_running_service(scenes: Path) -> None:
    from seatrial.cli.deployment import DeploymentOptions

    with pytest.raises(InvalidConfig, match="--url measures a running service"):
        command(
            dataset=f"coco:{scenes}",
            url="http://127.0.0.1:1",
            options=DeploymentOptions(precision="bf16"),
        )
    with pytest.raises(InvalidConfig, match="--threshold 2"):
        command("x", dataset=f"coco:{scenes}", threshold=2)


def test_boxes_that_cannot_be_written_are_one_error_before_the_work(
    scenes: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotWritable) as refusal:
        command(
            "no-such-model",
            dataset=f"coco:{scenes}",
            save_detections=tmp_path / "file" / "found.json",
        )
    assert "--save-detections" in refusal.value.hint


def test_an_unknown_parent_is_reported_before_the_work(
    tiny_artifact: Artifact, scenes: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SEATRIAL_HOME", str(tmp_path))
    monkeypatch.setattr(
        "seatrial.accuracy.evaluate.evaluate", lambda *given, **options: pytest.fail("measured")
    )
    with pytest.raises(InvalidArtifact, match="no artifact named 'no-such-parent'"):
        command(str(tiny_artifact.path), dataset=f"coco:{scenes}", parent="no-such-parent")
