"""YOLO11n: what INT8 must reach on labelled COCO pictures, and that TensorRT takes its Q/DQ."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import onnx
import onnxruntime
import openvino
import pytest

from seatrial.accuracy.limits import LossLimits
from seatrial.artifact import Artifact, Store
from seatrial.datasets.read import read_labelled
from seatrial.progress import silent
from seatrial.quantise import measure
from seatrial.quantise.calibration_images import CalibrationImages, find_images
from seatrial.quantise.kernels import saturates
from seatrial.quantise.options import QuantiseOptions
from seatrial.quantise.registry import open_backend
from seatrial.quantise.report import QuantiseReport
from seatrial.quantise.run import compress_int8
from seatrial.quantise.workspace import Workspace

pytestmark = pytest.mark.slow

RECIPE = {"openvino": "fast-bias-correction", "onnxruntime": "minmax"}
IMAGES = {"openvino": 10, "onnxruntime": 20}
# CPUs without VNNI get weights of 7 bits, which cost about a point of AP and move confidences.
MOST_DROP, MOST_SHIFT = (0.02, 0.1) if saturates() else (0.008, 0.03)
LIMITS = LossLimits(drop=MOST_DROP, shift=MOST_SHIFT)
BEFORE_THE_HEAD = 87  # convolutions, without the one of DFL


@pytest.fixture(scope="module", params=RECIPE)
def compressed(
    request: pytest.FixtureRequest,
    yolo: Artifact,
    shared_data: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, Artifact, QuantiseReport]:
    to: str = request.param
    with pytest.MonkeyPatch.context() as patch:
        # The ratio depends on the machine: not tested.
        patch.setattr(measure, "ROUND_S", 0.01)
        patch.setattr(measure, "ROUNDS", 1)
        made, report = compress_int8(
            Store(tmp_path_factory.mktemp("int8")),
            yolo,
            # Part of the images is enough for the ranges; those that judge are all there are. No
            # layer may be given back: what does not keep within the limits is an error at once.
            QuantiseOptions(
                to=to,
                recipes=(RECIPE[to],),
                gate=LIMITS,
                calibration=IMAGES[to],
                most_restored=0,
            ),
            calibration=shared_data / "coco-train" / "images",
            labelled=read_labelled(f"coco:{shared_data / 'coco-val'}"),
        )
    return to, made, report


def test_accuracy_and_confidences_are_kept_without_restoring(
    compressed: tuple[str, Artifact, QuantiseReport],
) -> None:
    _, made, report = compressed
    assert report.quantised == report.convolutions == BEFORE_THE_HEAD
    assert report.finding.drop <= MOST_DROP
    assert report.finding.mean_shift is not None
    assert abs(report.finding.mean_shift) <= MOST_SHIFT
    assert len(report.head) >= 20
    assert made.manifest.metrics["coco_ap"] > 0.44 - MOST_DROP


def test_53_images_cannot_certify_half_a_point(
    compressed: tuple[str, Artifact, QuantiseReport],
) -> None:
    _, _, report = compressed
    assert report.finding.images == 53
    assert report.verdict.outcome == "undecided"
    assert "too small to decide" in report.verdict.statement


def test_convolutions_run_in_int8(
    compressed: tuple[str, Artifact, QuantiseReport], tmp_path: Path
) -> None:
    """In the kernels that the engine chose, not only in the file."""
    to, made, _ = compressed
    count = {"openvino": int8_in_openvino, "onnxruntime": int8_in_onnxruntime}[to]
    # An engine may run one with few channels in float: which one depends on the CPU.
    assert BEFORE_THE_HEAD - 3 <= count(made, tmp_path) <= BEFORE_THE_HEAD


def int8_in_openvino(made: Artifact, folder: Path) -> int:
    compiled = openvino.Core().compile_model(made.file("openvino"), "CPU")
    facts = [op.get_rt_info() for op in compiled.get_runtime_model().get_ops()]
    return sum(
        info["layerType"].astype(str) == "Convolution"
        and info["runtimePrecision"].astype(str) in ("i8", "u8")
        for info in facts
    )


def int8_in_onnxruntime(made: Artifact, folder: Path) -> int:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(made.file("onnx"), options, ["CPUExecutionProvider"])
    nodes = onnx.load(folder / "optimised.onnx").graph.node
    return sum(node.op_type in ("QLinearConv", "ConvInteger") for node in nodes)


def test_tensorrt_parses_and_builds_yolo11n(
    yolo: Artifact, shared_data: Path, tmp_path: Path
) -> None:
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("no tensorrt_rtx: pip install 'seatrial[tensorrt-check]'")
    from seatrial.graphs.tensorrt_ready import validate_for_tensorrt

    work, backend = Workspace(tmp_path), open_backend("tensorrt")
    backend.prepare(yolo, work)
    files = find_images(shared_data / "coco-train" / "images")[:1]
    images = CalibrationImages(files, yolo.manifest)
    folder = backend.quantise("minmax", images, work, silent)
    assert validate_for_tensorrt(folder / "model.onnx") == []
