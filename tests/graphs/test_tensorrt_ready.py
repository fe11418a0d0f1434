"""Graphs tried in TensorRT's own parser and builder: TensorRT-RTX builds without a GPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from seatrial.artifact import Artifact, Store
from seatrial.errors import InvalidArtifact, MissingExtra
from seatrial.graphs.tensorrt_ready import Problem, cast_images_first, validate_for_tensorrt
from seatrial.models.import_onnx import import_onnx

ModelFile = Callable[..., Path]
RTX = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX is not installed"
)
BATCH = np.random.default_rng(2).integers(0, 256, (1, 64, 64, 3), np.uint8)


def write(path: Path, nodes: list[Any], inputs: Any, outputs: Any, constants: Any = None) -> Path:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path
    )
    return path


def transposed_first(path: Path) -> Path:
    """Pictures in, as uint8: transposed, cast, divided, convolved."""
    return write(
        path,
        [
            helper.make_node("Transpose", ["image"], ["nchw"], perm=[0, 3, 1, 2]),
            helper.make_node("Cast", ["nchw"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["pixels", "scale"], ["scaled"]),
            helper.make_node("Conv", ["scaled", "weights"], ["y"]),
        ],
        [("image", TensorProto.UINT8, ["batch", 64, 64, 3])],
        [("y", TensorProto.FLOAT, ["batch", 4, 62, 62])],
        {
            "scale": np.array(255, np.float32),
            "weights": np.random.default_rng(1).normal(size=(4, 3, 3, 3)).astype(np.float32),
        },
    )


@RTX
def test_uint8_may_only_be_cast(tmp_path: Path) -> None:
    (problem,) = validate_for_tensorrt(transposed_first(tmp_path / "graph.onnx"))
    assert problem.operator == "Transpose"
    assert "UInt8" in problem.message
    assert "CUDA driver" not in problem.message
    assert str(problem).startswith("Transpose ")


def test_the_cast_moves_first_and_nothing_else_changes(tmp_path: Path) -> None:
    path = transposed_first(tmp_path / "graph.onnx")
    before = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    assert cast_images_first(model) == 1
    assert cast_images_first(model) == 0
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Cast", "Transpose", "Div", "Conv"]
    after = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"image": BATCH}
    np.testing.assert_array_equal(before.run(None, feeds)[0], after.run(None, feeds)[0])


@RTX
@pytest.mark.parametrize("variant", [{}, {"batch": "batch"}, {"half": True}], ids=str)
def test_an_imported_detector_is_ready(
    store: Store, model_file: Callable[..., Path], variant: dict[str, Any]
) -> None:
    assert validate_for_tensorrt(import_onnx(store, model_file(**variant)).file("onnx")) == []


@RTX
def test_yolo11n_is_ready(store: Store, shared_yolo: Path) -> None:
    artifact = import_onnx(store, shared_yolo)
    assert artifact.manifest.inputs[0].dtype == "uint8"
    assert validate_for_tensorrt(artifact.file("onnx")) == []


@RTX
def test_the_ssd_is_ready(ssd: Artifact) -> None:
    assert validate_for_tensorrt(ssd.file("onnx")) == []


@RTX
def test_signed_symmetric_quantisation_is_ready(tmp_path: Path, quantised: ModelFile) -> None:
    assert validate_for_tensorrt(quantised(tmp_path / "graph.onnx")) == []


@RTX
@pytest.mark.parametrize(
    ("changes", "node", "said"),
    [
        ({"kind": np.uint8}, "quantise", "uint8"),
        ({"kind": np.uint8, "zero": 128}, "quantise", "uint8"),
        ({"zero": 5}, "quantise", "zero point"),
        ({"bias": np.int32}, "dequantise_bias", "Int32"),
    ],
    ids=str,
)
def test_other_quantisation_is_refused(
    tmp_path: Path, changes: dict[str, Any], node: str, said: str, quantised: ModelFile
) -> None:
    problems = validate_for_tensorrt(quantised(tmp_path / "graph.onnx", **changes))
    assert problems[0].node == node
    assert said in problems[0].message


@RTX
def test_postprocessing_with_nonzero_is_refused(tmp_path: Path) -> None:
    path = write(
        tmp_path / "graph.onnx",
        [
            helper.make_node("Greater", ["scores", "least"], ["kept"]),
            helper.make_node("NonZero", ["kept"], ["where"], "which"),
        ],
        [("scores", TensorProto.FLOAT, [1, 2, 100])],
        [("where", TensorProto.INT64, [3, "found"])],
        {"least": np.array(0.5, np.float32)},
    )
    (problem,) = validate_for_tensorrt(path)
    assert (problem.operator, problem.node) == ("NonZero", "which")


@RTX
def test_what_parses_and_does_not_build_is_refused(tmp_path: Path) -> None:
    path = write(
        tmp_path / "graph.onnx",
        [helper.make_node("NonMaxSuppression", ["boxes", "scores", "most"], ["kept"], "nms")],
        [("boxes", TensorProto.FLOAT, [1, 100, 4]), ("scores", TensorProto.FLOAT, [1, 2, 100])],
        [("kept", TensorProto.INT64, ["found", 3])],
        {"most": np.array([10], np.int64)},
    )
    assert any("nms" in problem.message for problem in validate_for_tensorrt(path))


@RTX
def test_open_heights_and_widths_are_refused(tmp_path: Path) -> None:
    path = write(
        tmp_path / "graph.onnx",
        [helper.make_node("Relu", ["x"], ["y"])],
        [("x", TensorProto.FLOAT, [1, 3, "height", "width"])],
        [("y", TensorProto.FLOAT, [1, 3, "height", "width"])],
    )
    with pytest.raises(InvalidArtifact, match="x has open sizes") as refusal:
        validate_for_tensorrt(path)
    assert "--imgsz" in refusal.value.hint


@RTX
def test_a_file_that_is_no_graph(tmp_path: Path) -> None:
    (tmp_path / "graph.onnx").write_bytes(b"not a graph")
    with pytest.raises(InvalidArtifact, match="not a readable ONNX"):
        validate_for_tensorrt(tmp_path / "graph.onnx")


def test_without_the_validator_its_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantised: ModelFile
) -> None:
    path = quantised(tmp_path / "graph.onnx")
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: None if n == "tensorrt_rtx" else find_spec(n)
    )
    with pytest.raises(MissingExtra) as refusal:
        validate_for_tensorrt(path)
    assert "[tensorrt-check]" in refusal.value.hint


def test_a_problem_in_words() -> None:
    assert str(Problem("no", "conv", "Conv")) == "Conv conv: no"
    assert str(Problem("no")) == "no"
