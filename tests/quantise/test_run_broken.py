"""What breaks a compression: one clear error each, and the store is left as it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from full_disk import largest_file
from seatrial.artifact import Artifact, Store
from seatrial.datasets.labels import LabelledSet
from seatrial.datasets.read import read_labelled
from seatrial.errors import (
    Diverged,
    InvalidArtifact,
    InvalidDataset,
    InvalidInput,
    NotWritable,
    SeatrialError,
)
from seatrial.graphs import onnx_file
from seatrial.models import proof
from seatrial.models.import_onnx import import_onnx
from seatrial.quantise.registry import BACKENDS
from seatrial.quantise.report import QuantiseReport
from small_detector import OUTLIER, build_small, contents

pytest.importorskip("nncf", reason="NNCF is not installed")

Compress = Callable[..., tuple[Artifact, QuantiseReport]]
NO_PICTURE = b"\xff\xd8\xff\xe0 no picture"


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., SeatrialError]:
    """Calls what must raise, and sees that the store is as it was before."""

    def run(kind: type[SeatrialError], work: Callable[[], object]) -> SeatrialError:
        before = contents(tmp_path / "store")
        with pytest.raises(kind) as refusal:
            work()
        assert contents(tmp_path / "store") == before
        assert refusal.value.message
        return refusal.value

    return run


@pytest.fixture
def folder(scene: Path, tmp_path: Path) -> Path:
    """A copy of the scene that a test may break."""
    shutil.copytree(scene, tmp_path / "pictures")
    return tmp_path / "pictures"


def test_a_broken_calibration_picture_is_skipped_and_reported(
    small: Callable[..., Artifact], compress: Compress, labelled: LabelledSet, folder: Path
) -> None:
    (folder / "03.jpg").write_bytes(NO_PICTURE)
    made, report = compress(
        small(), "onnxruntime", labelled=labelled, run={"calibration": folder}, calibration=16
    )
    assert [one.file for one in report.skipped] == ["03.jpg"]
    assert report.skipped[0].reason
    assert (report.calibration["pictures"], report.calibration["skipped"]) == (15, 1)
    assert made.manifest.step.config["calibration"] == report.calibration
    (folder / "03.jpg").unlink()
    again, whole = compress(
        small("other"), "onnxruntime", labelled=labelled, run={"calibration": folder},
        calibration=16,
    )  # fmt: skip
    assert whole.skipped == ()
    # The ranges are those of the fifteen others, as if it had never been there.
    assert again.file("onnx").read_bytes() == made.file("onnx").read_bytes()


def test_without_labels_a_broken_picture_is_not_judged_on_either(
    small: Callable[..., Artifact], compress: Compress, folder: Path
) -> None:
    for name in ("03.jpg", "11.jpg"):
        (folder / name).write_bytes(NO_PICTURE)
    _, report = compress(small(), "onnxruntime", run={"calibration": folder})
    assert sorted(one.file for one in report.skipped) == ["03.jpg", "11.jpg"]
    assert report.finding.images + int(report.calibration["pictures"]) == 14


def test_a_folder_of_broken_images(
    small: Callable[..., Artifact], compress: Compress, folder: Path,
    refused: Callable[..., SeatrialError],
) -> None:  # fmt: skip
    for file in folder.glob("*.jpg"):
        file.write_bytes(NO_PICTURE)
    parent = small()
    error = refused(InvalidDataset, lambda: compress(parent, run={"calibration": folder}))
    assert "none of the 6 calibration images" in error.message
    assert ".jpg" in error.message


def test_an_empty_folder(
    small: Callable[..., Artifact], compress: Compress, tmp_path: Path,
    refused: Callable[..., SeatrialError],
) -> None:  # fmt: skip
    (tmp_path / "empty").mkdir()
    parent = small()
    error = refused(
        InvalidDataset, lambda: compress(parent, run={"calibration": tmp_path / "empty"})
    )
    assert "holds no images" in error.message


def test_labels_that_match_no_picture(
    small: Callable[..., Artifact], compress: Compress, folder: Path,
    refused: Callable[..., SeatrialError],
) -> None:  # fmt: skip
    labels = json.loads((folder / "instances.json").read_text())
    for row in labels["annotations"]:
        row["image_id"] += 1000
    (folder / "instances.json").write_text(json.dumps(labels))
    parent = small()
    error = refused(
        InvalidDataset, lambda: compress(parent, labelled=read_labelled(f"coco:{folder}"))
    )
    assert "1000" in error.message


def test_labels_of_images_that_are_not_there(
    small: Callable[..., Artifact], compress: Compress, folder: Path,
    refused: Callable[..., SeatrialError],
) -> None:  # fmt: skip
    (folder / "05.jpg").unlink()
    parent = small()
    error = refused(
        InvalidDataset, lambda: compress(parent, labelled=read_labelled(f"coco:{folder}"))
    )
    assert "05.jpg" in error.message


def test_a_labelled_picture_that_is_broken_is_never_left_out(
    small: Callable[..., Artifact], compress: Compress, folder: Path,
    refused: Callable[..., SeatrialError],
) -> None:  # fmt: skip
    parent, broken = small(), read_labelled(f"coco:{folder}")
    (folder / "15.jpg").write_bytes(NO_PICTURE)  # reading it broken would end before
    error = refused(InvalidDataset, lambda: compress(parent, "onnxruntime", labelled=broken))
    assert "15.jpg" in error.message


@pytest.mark.parametrize("to", BACKENDS)
def test_weights_that_are_no_numbers(
    compress: Compress,
    tmp_path: Path,
    refused: Callable[..., SeatrialError],
    to: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = build_small()
    wrong = next(t for t in model.graph.initializer if t.name == "block1.up.weight")
    values = numpy_helper.to_array(wrong).copy()
    values[2, 1] = np.nan
    wrong.CopyFrom(numpy_helper.from_array(values, wrong.name))
    onnx.save(model, tmp_path / "nan.onnx")
    with monkeypatch.context() as patch:  # import refuses it; an older store may hold one
        patch.setattr(onnx_file, "check_weights", lambda model, name: None)
        patch.setattr(proof, "prove", lambda *_, **__: None)
        parent = import_onnx(Store(tmp_path / "store"), tmp_path / "nan.onnx")
    error = refused(InvalidArtifact, lambda: compress(parent, to))
    assert "not numbers (NaN)" in error.message


def test_a_model_that_overflows_on_the_images(
    small: Callable[..., Artifact],
    compress: Compress,
    refused: Callable[..., SeatrialError],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:  # the images of the import would show it
        patch.setattr(proof, "prove", lambda *_, **__: None)
        parent = small(outlier=float("inf"))
    error = refused(InvalidArtifact, lambda: compress(parent, "onnxruntime"))
    assert "block1.up" in error.message


@pytest.mark.parametrize(
    ("to", "size"),
    [
        ("openvino", 12_000),  # while the float graph is written
        ("openvino", 25_000),  # while the quantised one is
        ("openvino", 41_000),  # while the parent's boxes are
        ("onnxruntime", 5_000),  # while constants are folded
        ("onnxruntime", 100_000),  # while histograms are
    ],
)
def test_a_full_disk(
    small: Callable[..., Artifact], compress: Compress, tmp_path: Path,
    refused: Callable[..., SeatrialError], to: str, size: int,
) -> None:  # fmt: skip
    parent = small()

    def run() -> None:
        with largest_file(size):
            compress(parent, to)

    error = refused(NotWritable, run)
    assert "cannot be written" in error.message
    assert str(tmp_path / "store") in error.message
    assert "free some space" in error.hint
    assert error.exit_code == 7


def test_half_precision_is_no_parent(
    model_file: Callable[..., Path], compress: Compress, tmp_path: Path,
    refused: Callable[..., SeatrialError],
) -> None:  # fmt: skip
    half = import_onnx(Store(tmp_path / "store"), model_file(half=True))
    assert "f16" in refused(InvalidArtifact, lambda: compress(half)).message


def test_a_name_that_is_taken_is_refused_before_the_work(
    small: Callable[..., Artifact], compress: Compress, refused: Callable[..., SeatrialError]
) -> None:
    parent = small()
    told: list[str] = []
    error = refused(
        InvalidInput,
        lambda: compress(parent, run={"name": "small"}, on_progress=lambda *what: told.append("")),
    )
    assert "already has another artifact named 'small'" in error.message
    assert told == []


def test_a_gate_that_cannot_be_met(
    small: Callable[..., Artifact], compress: Compress, labelled: LabelledSet,
    refused: Callable[..., SeatrialError], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """No layer may be given back: none is ranked, which takes longer than all the rest."""
    monkeypatch.setattr("seatrial.quantise.run.rank", lambda *_: pytest.fail("layers are ranked"))
    parent = small(outlier=OUTLIER)
    error = refused(Diverged, lambda: compress(parent, labelled=labelled, most_restored=0))
    assert "gate fails" in error.message
    assert isinstance(error.report, QuantiseReport)  # type: ignore[attr-defined]
    assert error.report.verdict.outcome == "fails"  # type: ignore[attr-defined]
    assert error.exit_code == 8
