"""ONNX files: read, checked, described."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from seatrial.errors import InvalidArtifact
from seatrial.graphs.onnx_file import load, signature, weights_precision


def test_signature_of_inputs_outputs_and_metadata(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model(batch="batch", dynamic_size=True)
    # Older exporters list initialisers among the inputs.
    model.graph.input.append(
        helper.make_tensor_value_info("weights", TensorProto.FLOAT, [3, 3, 8, 8])
    )
    graph = signature(model)
    (image,) = graph.inputs
    assert (image.name, image.dtype, image.shape) == ("images", "float32", (-1, 3, -1, -1))
    (output,) = graph.outputs
    assert (output.dtype, output.shape) == ("float32", (-1, 7, -1))
    assert graph.metadata["names"] == "{0: 'red', 1: 'green', 2: 'blue'}"


def test_types_that_numpy_has_no_name_for_are_still_described() -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    value.type.tensor_type.elem_type = 999
    model = helper.make_model(helper.make_graph([], "g", [value], [value]))
    assert signature(model).inputs[0].dtype == "onnx type 999"


@pytest.mark.parametrize("half", [False, True])
def test_precision_is_that_of_most_weights(tiny_model: Callable[..., Any], half: bool) -> None:
    model = tiny_model(half=half)
    assert weights_precision(model) == ("f16" if half else "f32")
    single = onnx.numpy_helper.from_array(np.array([1], np.float32 if half else np.float16), "one")
    model.graph.initializer.append(single)
    assert weights_precision(model) == ("f16" if half else "f32")


def test_a_file_that_is_sound(model_file: Callable[..., Path]) -> None:
    assert load(model_file()).graph.name == "tiny"


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.6, 0.9, 0.999])
def test_a_file_that_is_cut_off(model_file: Callable[..., Path], keep: float) -> None:
    path = model_file()
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(InvalidArtifact) as refusal:
        load(path)
    assert str(path) in refusal.value.message


@pytest.mark.parametrize("content", [b"hello", b"\x89PNG\r\n\x1a\n" * 9])
def test_a_file_of_another_kind(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(InvalidArtifact, match=r"is not a readable ONNX model|holds no graph"):
        load(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "gone.onnx", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(InvalidArtifact, match=said):
            load(path)


def test_weights_kept_beside_the_file_that_are_missing(
    tmp_path: Path, tiny_model: Callable[..., Any]
) -> None:
    onnx.save(
        tiny_model(), tmp_path / "m.onnx", save_as_external_data=True, location="m.data",
        size_threshold=0,
    )  # fmt: skip
    assert load(tmp_path / "m.onnx").graph.node
    (tmp_path / "m.data").unlink()
    with pytest.raises(InvalidArtifact, match=r"m\.data"):
        load(tmp_path / "m.onnx")


def test_a_graph_that_is_not_valid(tmp_path: Path, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model()
    model.graph.node[0].input[0] = "nobody makes this"
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(InvalidArtifact, match="nobody makes this"):
        load(tmp_path / "m.onnx")
