"""ONNX graphs with Q/DQ pairs: types for each engine, and a head without rounding."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from quantised_graphs import onnx_model, producers
from seatrial.quantise import kernels
from seatrial.quantise.workspace import Workspace


@pytest.mark.parametrize("to", ["onnxruntime", "tensorrt"])
def test_onnx_head_reads_what_convolutions_gave_and_rounds_nothing_itself(
    quantised: Callable[..., tuple[Any, Path]], to: str
) -> None:
    _, folder = quantised(to)
    model = onnx_model(folder)
    made = producers(model)
    heads = [n for n in model.graph.node if n.op_type in ("Softmax", "Concat", "Transpose", "Clip")]
    inside = {"dfl_softmax", "output0", "dfl_transpose", "dfl", "by_anchor", "sides_px"}
    seen = [n for n in heads if {*n.output} & inside]
    assert len(seen) >= 3
    for node in seen:
        for name in node.input:
            assert name not in made or made[name].op_type != "DequantizeLinear", node.name
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_onnxruntime_gets_signed_weights_per_channel_and_activations_for_the_cpu(
    quantised: Callable[..., tuple[Any, Path]],
) -> None:
    _, folder = quantised("onnxruntime")
    model = onnx_model(folder)
    made, constants = producers(model), {t.name: t for t in model.graph.initializer}
    conv = next(n for n in model.graph.node if n.name == "block0.up/Conv")
    source, weights, bias = (made[name] for name in conv.input)
    kind = onnx.TensorProto.UINT8 if kernels.is_x86() else onnx.TensorProto.INT8
    assert constants[source.input[2]].data_type == kind
    assert constants[weights.input[0]].data_type == onnx.TensorProto.INT8
    assert list(constants[weights.input[1]].dims) == [6]  # a scale for each output channel
    assert constants[bias.input[0]].data_type == onnx.TensorProto.INT32


def test_tensorrt_gets_signed_symmetric_pairs_and_float_biases(
    quantised: Callable[..., tuple[Any, Path]],
) -> None:
    _, folder = quantised("tensorrt")
    model = onnx_model(folder)
    constants = {t.name: t for t in model.graph.initializer}
    pairs = [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    for node in pairs:
        zero = constants[node.input[2]]
        assert zero.data_type == onnx.TensorProto.INT8
        assert not onnx.numpy_helper.to_array(zero).any()
    for node in model.graph.node:
        if node.op_type == "Conv" and len(node.input) == 3:
            assert constants[node.input[2]].data_type == onnx.TensorProto.FLOAT
    first = next(n for n in model.graph.node if "image" in n.input)
    assert first.op_type == "Cast"  # TensorRT takes uint8 at the border of the network alone


@pytest.mark.parametrize("recipe", ["minmax", "percentile"])
def test_tensorrt_parses_and_builds_the_graph(
    quantised: Callable[..., tuple[Any, Path]], work: Workspace, recipe: str, tmp_path: Path
) -> None:
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("no tensorrt_rtx: pip install 'seatrial[tensorrt-check]'")
    from seatrial.graphs.tensorrt_ready import validate_for_tensorrt

    backend, folder = quantised("tensorrt", recipe)
    assert validate_for_tensorrt(folder / "model.onnx") == []
    (tmp_path / "restored").mkdir()
    backend.restore(folder, ["block1.down/Conv"], tmp_path / "restored", work)
    assert validate_for_tensorrt(tmp_path / "restored" / "model.onnx") == []
