"""Reading an ONNX file's signature, and giving it an input that takes pictures as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from seatrial.artifact import TensorSpec
from seatrial.errors import InvalidArtifact
from seatrial.extras import require
from seatrial.families.base import GraphSignature

IMAGE_INPUT = "image"


def load(path: Path) -> Any:
    """Read and check an ONNX file.

    Returns:
        ``onnx.ModelProto``.

    Raises:
        InvalidArtifact: The file is missing, cut off, not ONNX or not valid.
    """
    onnx = require("onnx", extra="onnxruntime", purpose="reading ONNX files")
    if not path.is_file():
        raise InvalidArtifact(f"{path} does not exist", hint="give the path of an .onnx file")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and onnx's errors share no base but Exception
        raise InvalidArtifact(
            f"{path} is not a readable ONNX model ({type(error).__name__}: {_brief(error)})",
            hint="the file may be cut off: compare its size with the original",
        ) from error
    if not model.graph.node:
        raise InvalidArtifact(f"{path} holds no graph")
    return model


def signature(model: Any) -> GraphSignature:
    """Inputs, outputs and metadata of an ONNX model."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return GraphSignature(
        inputs=tuple(_spec(v) for v in model.graph.input if v.name not in constants),
        outputs=tuple(_spec(v) for v in model.graph.output),
        metadata={entry.key: entry.value for entry in model.metadata_props},
    )


def weights_precision(model: Any) -> str:
    """``f16`` if most weights are half precision, else ``f32``."""
    onnx = require("onnx", extra="onnxruntime", purpose="reading ONNX files")
    count = {onnx.TensorProto.FLOAT: 0, onnx.TensorProto.FLOAT16: 0}
    for tensor in model.graph.initializer:
        if tensor.data_type in count:
            count[tensor.data_type] += int(np.prod(tensor.dims))
    return "f16" if count[onnx.TensorProto.FLOAT16] > count[onnx.TensorProto.FLOAT] else "f32"


def add_image_input(model: Any, *, scale: float, size_hw: tuple[int, int]) -> None:
    """Put a prologue before a ``[N, 3, H, W]`` input: uint8 NHWC in, normalised NCHW on.

    The conversion runs inside the engine, where it is threaded and vectorised and costs a
    quarter of the memory traffic of a float input. Half-precision inputs are cast; outputs of
    half precision are cast to float32. The new input is called ``image``, or ``seatrial_image``
    where the graph has an ``image`` already.

    Args:
        model: ``onnx.ModelProto``; changed in place.
        scale: Pixel values are divided by this.
        size_hw: Canvas (height, width), fixed in the new input; the batch size stays as it is.
    """
    onnx = require("onnx", extra="onnxruntime", purpose="writing ONNX files")
    helper, types = onnx.helper, onnx.TensorProto
    graph = model.graph
    old = next(v for v in graph.input if v.name not in {t.name for t in graph.initializer})
    kind = old.type.tensor_type.elem_type
    dims = old.type.tensor_type.shape.dim
    batch = dims[0].dim_value if dims[0].HasField("dim_value") else (dims[0].dim_param or "N")
    dtype = np.float16 if kind == types.FLOAT16 else np.float32
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(scale, dtype), "seatrial_scale"))
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    name = IMAGE_INPUT if IMAGE_INPUT not in taken else f"seatrial_{IMAGE_INPUT}"
    prologue = [
        helper.make_node("Transpose", [name], ["seatrial_nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["seatrial_nchw"], ["seatrial_float"], to=kind),
        helper.make_node("Div", ["seatrial_float", "seatrial_scale"], [old.name]),
    ]
    image = helper.make_tensor_value_info(name, types.UINT8, [batch, *size_hw, 3])
    inputs = [image if v.name == old.name else v for v in graph.input]
    nodes = [*prologue, *graph.node]
    del graph.input[:], graph.node[:]
    graph.input.extend(inputs)
    graph.node.extend(nodes)
    _widen_outputs(model)


def _widen_outputs(model: Any) -> None:
    onnx = require("onnx", extra="onnxruntime", purpose="writing ONNX files")
    types = onnx.TensorProto
    for output in model.graph.output:
        if output.type.tensor_type.elem_type != types.FLOAT16:
            continue
        inner = f"{output.name}_f16"
        for node in model.graph.node:
            node.output[:] = [inner if name == output.name else name for name in node.output]
            node.input[:] = [inner if name == output.name else name for name in node.input]
        model.graph.node.append(
            onnx.helper.make_node("Cast", [inner], [output.name], to=types.FLOAT)
        )
        output.type.tensor_type.elem_type = types.FLOAT


def _spec(value: Any) -> TensorSpec:
    onnx = require("onnx", extra="onnxruntime", purpose="reading ONNX files")
    tensor = value.type.tensor_type
    shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    except KeyError:
        dtype = f"onnx type {tensor.elem_type}"
    return TensorSpec(value.name, dtype, shape)


def _brief(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no details"])[0][:200]
