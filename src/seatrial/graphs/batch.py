"""Graphs of a fixed batch size, made to take one image."""

from __future__ import annotations

from typing import Any

from seatrial.system.extras import require

# Operator -> the input that holds a shape, whose first number is the batch size.
SHAPE_INPUTS = {"Reshape": 1, "Expand": 1, "ConstantOfShape": 0, "Resize": 3}


def for_one_image(model: Any, batch: int) -> Any:
    """A copy of a graph that takes one image in place of `batch` of them.

    Exporters write the batch size into the shapes that a graph computes with. Those that begin with
    it are changed. Whether the copy answers as the graph does is for the caller to prove.

    Args:
        model: ``onnx.ModelProto``.
        batch: Its fixed batch size.

    Returns:
        ``onnx.ModelProto``.
    """
    onnx = require("onnx", extra="onnxruntime", purpose="writing ONNX files")
    copy = type(model)()
    copy.CopyFrom(model)
    graph = copy.graph
    for value in (*graph.input, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].dim_value == batch:
            dims[0].dim_value = 1
    del graph.value_info[:]  # shapes of the old batch size
    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {
        node.output[0]: attribute.t
        for node in graph.node
        for attribute in node.attribute
        if node.op_type == "Constant" and attribute.name == "value"
    }
    for index, node in enumerate(graph.node):
        place = SHAPE_INPUTS.get(node.op_type, len(node.input))
        tensor = constants.get(node.input[place]) if place < len(node.input) else None
        if tensor is None:
            continue
        shape = onnx.numpy_helper.to_array(tensor).copy()
        if shape.ndim == 1 and len(shape) and shape[0] == batch:
            shape[0] = 1
            node.input[place] = f"seatrial_shape{index}"
            graph.initializer.append(onnx.numpy_helper.from_array(shape, node.input[place]))
    return copy
