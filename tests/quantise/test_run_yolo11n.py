"""YOLO11n: what INT8 must reach on labelled COCO pictures, and that TensorRT takes its Q/DQ."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from seatrial.artifact import Artifact, Store
from seatrial.datasets.read import read_labelled
from seatrial.progress import silent
from seatrial.quantise.calibration_images import CalibrationImages, find_images
from seatrial.quantise.options import QuantiseOptions
from seatrial.quantise.registry import open_backend
from seatrial.quantise.report import QuantiseReport
from seatrial.quantise.run import compress_int8
from seatrial.quantise.workspace import Workspace

RECIPE = {"openvino": "fast-bias-correction", "onnxruntime": "minmax"}
# Both far below what a quiet machine shows (2.5 and 2.0): another program on one of the cores
# slows INT8 more than it slows float32.
LEAST_SPEED = {"openvino": 1.7, "onnxruntime": 1.3}


@pytest.fixture(scope="module", params=RECIPE)
def compressed(
    request: pytest.FixtureRequest,
    yolo: Artifact,
    shared_data: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, Artifact, QuantiseReport]:
    to: str = request.param
    made, report = compress_int8(
        Store(tmp_path_factory.mktemp("int8")),
        yolo,
        QuantiseOptions(to=to, recipes=(RECIPE[to],)),
        calibration=shared_data / "coco-train" / "images",
        labelled=read_labelled(f"coco:{shared_data / 'coco-val'}"),
    )
    return to, made, report


def test_accuracy_and_confidences_are_kept_without_restoring(
    compressed: tuple[str, Artifact, QuantiseReport],
) -> None:
    _, made, report = compressed
    assert report.finding.drop <= 0.008
    assert report.finding.mean_shift is not None
    assert abs(report.finding.mean_shift) <= 0.03
    assert report.quantised == 87  # all but the convolution of DFL
    assert len(report.head) >= 20
    assert made.manifest.metrics["coco_ap"] > 0.43


def test_53_images_cannot_certify_half_a_point(
    compressed: tuple[str, Artifact, QuantiseReport],
) -> None:
    _, _, report = compressed
    assert report.finding.images == 53
    assert report.verdict.outcome == "undecided"
    assert "too small to decide" in report.verdict.statement


def test_it_is_faster(compressed: tuple[str, Artifact, QuantiseReport]) -> None:
    to, _, report = compressed
    assert report.speed is not None
    assert report.speed.ratio > LEAST_SPEED[to]


def test_tensorrt_parses_and_builds_yolo11n(
    yolo: Artifact, shared_data: Path, tmp_path: Path
) -> None:
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("no tensorrt_rtx: pip install 'seatrial[tensorrt-check]'")
    from seatrial.graphs.tensorrt_ready import validate_for_tensorrt

    work, backend = Workspace(tmp_path), open_backend("tensorrt")
    backend.prepare(yolo, work)
    files = find_images(shared_data / "coco-train" / "images")[:4]
    images = CalibrationImages(files, yolo.manifest)
    folder = backend.quantise("minmax", images, work, silent)
    assert validate_for_tensorrt(folder / "model.onnx") == []
