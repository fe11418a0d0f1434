"""ONNX graphs for TensorRT: adapted, and tried in its parser and builder without a GPU.

The trial runs in TensorRT-RTX, NVIDIA's variant for consumer GPUs: it has the same parser and the
same typing rules, and builds without a GPU. It has fewer operators than TensorRT, so a graph
that it refuses may still work there. Seatrial calls a graph that it accepts ready.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from seatrial.engines.tensorrt import message_log
from seatrial.errors import InvalidArtifact
from seatrial.graphs import onnx_file
from seatrial.system.extras import require


class Problem(msgspec.Struct, frozen=True):
    """A part of a graph that TensorRT refuses.

    Attributes:
        message: The reason, as the parser or the builder gives it.
        node: Name of the node, or its number in the graph where it has no name.
        operator: Operator of the node.
    """

    message: str
    node: str = ""
    operator: str = ""

    def __str__(self) -> str:
        place = f"{self.operator} {self.node}: " if self.operator else ""
        return place + self.message


def cast_images_first(model: Any) -> int:
    """Move the cast of a uint8 input before its transpose; the values stay the same.

    TensorRT takes uint8 only at the border of a network: the first operator must be the cast.

    Args:
        model: ``onnx.ModelProto``; changed in place.

    Returns:
        Number of moved casts.
    """
    onnx = require("onnx", extra="onnxruntime", purpose="writing ONNX files")
    images = {
        value.name
        for value in model.graph.input
        if value.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    }
    moved = 0
    for first in model.graph.node:
        readers = [node for node in model.graph.node if first.output[0] in node.input]
        chain = [first.op_type, *(node.op_type for node in readers)]
        if chain != ["Transpose", "Cast"] or first.input[0] not in images:
            continue
        second = readers[0]
        # The nodes swap operator and attributes; names and places in the graph stay.
        does = [(node.op_type, list(node.attribute)) for node in (first, second)]
        for node, (operator, attributes) in zip((second, first), does, strict=True):
            node.op_type = operator
            del node.attribute[:]
            node.attribute.extend(attributes)
        # The recorded type of the tensor between them no longer holds.
        kept = [value for value in model.graph.value_info if value.name != first.output[0]]
        del model.graph.value_info[:]
        model.graph.value_info.extend(kept)
        moved += 1
    return moved


def validate_for_tensorrt(path: Path) -> list[Problem]:
    """Parse an ONNX file and build an engine of it, without a GPU.

    Args:
        path: The ONNX file, with or without QuantizeLinear and DequantizeLinear nodes.

    Returns:
        The refused parts; empty for a graph that is ready.

    Raises:
        InvalidArtifact: The file is not ONNX.
        MissingExtra: TensorRT-RTX is not installed.
    """
    trt = require("tensorrt_rtx", extra="tensorrt-check", purpose="trying graphs for TensorRT")
    log = message_log(trt)
    builder = trt.Builder(log)
    network, problems = parse(trt, builder, log, path)
    if not problems:
        config = builder.create_builder_config()
        add_profile(builder, network, config)
        if builder.build_serialized_network(network, config) is None:
            problems += [Problem(text) for text in errors(log.messages)]
    return problems


def parse(trt: Any, builder: Any, log: Any, path: Path) -> tuple[Any, list[Problem]]:
    """Read an ONNX file into a strongly typed TensorRT network.

    Args:
        trt: The module ``tensorrt`` or ``tensorrt_rtx``.
        builder: Builder of that module; must outlive the network.
        log: Logger from `message_log`.
        path: The file; weights may lie beside it.

    Returns:
        The network, and the refused parts.

    Raises:
        InvalidArtifact: The file is not ONNX.
    """
    problems = [*_unsigned_quantisation(onnx_file.load(path))]
    # Strong typing is optional in TensorRT 10; later versions have no other typing.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(path)):
        for error in (parser.get_error(index) for index in range(parser.num_errors)):
            message = " ".join(errors(error.desc().splitlines()))
            node = error.node_name() or f"number {error.node()}"
            problems.append(Problem(message, node, error.node_operator()))
    return network, problems


def add_profile(builder: Any, network: Any, config: Any) -> None:
    """Fix an open batch size at one image, as lanes run it.

    Raises:
        InvalidArtifact: Another size is open.
    """
    profile, needed = builder.create_optimization_profile(), False
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if -1 not in shape:
            continue
        if -1 in shape[1:]:
            raise InvalidArtifact(
                f"the input {tensor.name} has open sizes: {shape}",
                hint="export with fixed height and width (--imgsz)",
            )
        one = (1, *shape[1:])
        profile.set_shape(tensor.name, one, one, one)
        needed = True
    if needed:
        config.add_optimization_profile(profile)


def errors(lines: list[str]) -> list[str]:
    """Messages without the lines about the missing GPU."""
    return [line.strip() for line in lines if line.strip() and "CUDA driver" not in line]


def _unsigned_quantisation(model: Any) -> Iterator[Problem]:
    """Problems of uint8 quantisation: the parser accepts it with zero point 0, GPUs do not."""
    onnx = require("onnx", extra="onnxruntime", purpose="reading ONNX files")
    unsigned = {
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.UINT8
    }
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and unsigned & {*node.input[2:3]}:
            yield Problem(
                "quantised to uint8; TensorRT computes in int8 with zero points of 0",
                node.name or node.output[0],
                node.op_type,
            )
