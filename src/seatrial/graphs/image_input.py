"""The prologue that lets an ONNX graph take images as they are: uint8, channels last."""

from __future__ import annotations

from typing import Any

import numpy as np

from seatrial.graphs.signature import IMAGE_INPUT, VALID_HW, Channels
from seatrial.system.extras import require


def add_image_input(
    model: Any,
    *,
    scale: float,
    size_hw: tuple[int, int],
    mean_std: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    channels: Channels = "rgb",
    mask_input: str | None = None,
) -> None:
    """Put a prologue before a ``[N, 3, H, W]`` input, which turns uint8 NHWC into normalised NCHW.

    The conversion runs inside the engine, which threads and vectorises it, with a quarter of the
    memory traffic of a float input. Half-precision inputs are cast; outputs of
    half precision are cast to float32. The new input is called ``image``, or ``seatrial_image``
    where the graph has an ``image`` already.

    Args:
        model: ``onnx.ModelProto``; changed in place.
        scale: Divisor of pixel values.
        size_hw: Canvas (height, width), fixed in the new input; the batch size stays as it is.
        mean_std: Means and deviations of the divided values, in the order of `channels`.
        channels: Order in which the ``[N, 3, H, W]`` input takes red, green and blue; images are
            RGB.
        mask_input: An input ``[N, rows, columns]`` that is computed from a new one, ``valid_hw``;
            where it is 0, the normalised image is 0 too, as transformers pads it.
    """
    onnx = require("onnx", extra="onnxruntime", purpose="writing ONNX files")
    helper, types = onnx.helper, onnx.TensorProto
    graph = model.graph
    old = next(v for v in graph.input if v.name not in {t.name for t in graph.initializer})
    kind = old.type.tensor_type.elem_type
    dims = old.type.tensor_type.shape.dim
    batch = dims[0].dim_value if dims[0].HasField("dim_value") else (dims[0].dim_param or "N")
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    name = IMAGE_INPUT if IMAGE_INPUT not in taken else f"seatrial_{IMAGE_INPUT}"
    image = helper.make_tensor_value_info(name, types.UINT8, [batch, *size_hw, 3])
    inputs = [image if v.name == old.name else v for v in graph.input]
    if channels == "bgr" and mean_std is not None:
        mean_std = (mean_std[0][::-1], mean_std[1][::-1])
    prologue = _normalise(model, name, kind, scale, mean_std)
    pixels = old.name if mask_input is None else "seatrial_nchw"
    planes = pixels if channels == "rgb" else "seatrial_rgb"
    prologue.append(
        helper.make_node("Transpose", [prologue[-1].output[0]], [planes], perm=[0, 3, 1, 2])
    )
    if channels == "bgr":  # whole planes are copied: cheaper than to reorder pixel by pixel
        order = onnx.numpy_helper.from_array(np.array([2, 1, 0], np.int64), "seatrial_bgr")
        graph.initializer.append(order)
        prologue.append(helper.make_node("Gather", [planes, order.name], [pixels], axis=1))
    if mask_input is not None:
        mask = next(v for v in graph.input if v.name == mask_input)
        prologue += add_mask(model, mask, size_hw, kind)
        prologue.append(helper.make_node("Mul", [pixels, "seatrial_inside"], [old.name]))
        valid = helper.make_tensor_value_info(VALID_HW, types.INT64, [batch, 2])
        inputs = [valid if v.name == mask_input else v for v in inputs]
    nodes = [*prologue, *graph.node]
    del graph.input[:], graph.node[:]
    graph.input.extend(inputs)
    graph.node.extend(nodes)
    _widen_outputs(model)


def _normalise(
    model: Any,
    name: str,
    kind: int,
    scale: float,
    mean_std: tuple[tuple[float, ...], tuple[float, ...]] | None,
) -> list[Any]:
    """Nodes that turn the bytes of the image into normalised values, channels last.

    The cast comes first, since TensorRT takes bytes into no other operator. Channels stay last,
    since an engine would fold a division next to the convolution into its weights and round them
    again under bf16: YOLO11n lost 0.0022 AP in OpenVINO that way, and loses 0.0005 this way.
    """
    onnx = require("onnx", extra="onnxruntime", purpose="writing ONNX files")
    helper = onnx.helper
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    steps = [("Div", "seatrial_scale", np.array(scale, dtype))]
    if mean_std is not None:
        mean, std = (np.array(values, dtype).reshape(1, 1, 1, 3) for values in mean_std)
        steps += [("Sub", "seatrial_mean", mean), ("Div", "seatrial_std", std)]
    nodes = [helper.make_node("Cast", [name], ["seatrial_float"], to=kind)]
    for index, (operator, constant, value) in enumerate(steps):
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, constant))
        operands = [nodes[-1].output[0], constant]
        nodes.append(helper.make_node(operator, operands, [f"seatrial_step{index}"]))
    return nodes


def add_mask(model: Any, mask: Any, size_hw: tuple[int, int], kind: int) -> list[Any]:
    """Nodes that compute a pixel mask from ``valid_hw``.

    Args:
        model: ``onnx.ModelProto``; the constants of the nodes are added to it.
        mask: ``onnx.ValueInfoProto`` of the input ``[N, rows, columns]`` that the nodes replace;
            it may be coarser than the image.
        size_hw: Canvas (height, width).
        kind: Numeric type of the image.

    Returns:
        The nodes, which also compute ``seatrial_inside``, ``[N, 1, H, W]`` of type `kind`.
    """
    onnx = require("onnx", extra="onnxruntime", purpose="writing ONNX files")
    helper = onnx.helper
    dims = mask.type.tensor_type.shape.dim
    coarse = (dims[1].dim_value or size_hw[0], dims[2].dim_value or size_hw[1])
    nodes: list[Any] = []

    def constant(name: str, value: Any) -> str:
        tensor = onnx.numpy_helper.from_array(np.asarray(value), name)
        model.graph.initializer.append(tensor)
        return name

    def inside(prefix: str, count_hw: tuple[int, int]) -> str:
        axes = []
        for axis, (count, full) in enumerate(zip(count_hw, size_hw, strict=True)):
            # The pixel that nearest-neighbour sampling reads.
            places = (np.arange(count) * full // count).astype(np.int64)
            shape = (1, count, 1) if axis == 0 else (1, 1, count)
            places_name = constant(f"{prefix}_places{axis}", places.reshape(shape))
            valid, less = f"{prefix}_valid{axis}", f"{prefix}_less{axis}"
            index = constant(f"{prefix}_index{axis}", np.array([axis], np.int64))
            nodes.append(helper.make_node("Gather", [VALID_HW, index], [f"{valid}_flat"], axis=1))
            last = constant(f"{prefix}_last{axis}", np.array([2], np.int64))
            nodes.append(helper.make_node("Unsqueeze", [f"{valid}_flat", last], [valid]))
            nodes.append(helper.make_node("Less", [places_name, valid], [less]))
            axes.append(less)
        nodes.append(helper.make_node("And", axes, [prefix]))
        return prefix

    to = mask.type.tensor_type.elem_type
    nodes.append(helper.make_node("Cast", [inside("seatrial_mask", coarse)], [mask.name], to=to))
    whole = inside("seatrial_whole", size_hw)
    channel = constant("seatrial_channel", np.array([1], np.int64))
    nodes.append(helper.make_node("Unsqueeze", [whole, channel], ["seatrial_whole4"]))
    nodes.append(helper.make_node("Cast", ["seatrial_whole4"], ["seatrial_inside"], to=kind))
    return nodes


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
