"""Which part of a detector stays float: everything after the last convolutions.

There boxes (0 to 640 pixels), distances and scores (0 to 1) meet in one tensor; one scale for all
of them rounds every score to 0. `find_head` knows neither ONNX nor OpenVINO: both become `Node`s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from seatrial.errors import InvalidArtifact
from seatrial.quantise.workspace import Workspace

Kind = Literal["convolution", "bias", "reshape", "other"]

_ONNX_KINDS: dict[str, Kind] = {"Conv": "convolution", "Reshape": "reshape", "Flatten": "reshape"}
_OPENVINO_KINDS: dict[str, Kind] = {
    "Convolution": "convolution",
    "GroupConvolution": "convolution",
    "Reshape": "reshape",
}
_OPENVINO_LEAVES = ("Constant", "Parameter")


class Node(msgspec.Struct, frozen=True):
    """One operator.

    Attributes:
        kind: ``bias`` is a constant added to a convolution: part of it, to engines.
        inputs: Names of the nodes that feed it; constants and graph inputs left out.
    """

    kind: Kind
    inputs: tuple[str, ...]


class Head(msgspec.Struct, frozen=True):
    """The end of a detector.

    Attributes:
        nodes: Names of what stays float, sorted.
        fed_by: Names of the last convolutions (or of their biases), sorted: their outputs are the
            logits and box encodings that the head turns into boxes.
    """

    nodes: tuple[str, ...]
    fed_by: tuple[str, ...]


def stored_head(work: Workspace) -> Head:
    """The head that a backend found when it prepared a graph."""

    def unprepared() -> Head:
        raise RuntimeError("the backend was not prepared")

    return work.value("head", Head, unprepared)


def find_head(nodes: Mapping[str, Node], outputs: Sequence[str]) -> Head:
    """Walk back from the outputs to the last convolutions on feature maps.

    A convolution that reads what was reshaped after the convolutions before it belongs to the
    head: it weighs the bins of a distribution (YOLO's DFL) and reads no feature map. Products of
    matrices do not end the walk, so that the decoder of a transformer stays float as a whole.

    Args:
        nodes: Name -> node.
        outputs: Names of the nodes that give the graph's outputs.

    Raises:
        InvalidArtifact: No convolution is found: there is nothing to quantise before the head.
    """
    inside: set[str] = set()
    fed_by: set[str] = set()
    waiting = list(outputs)
    while waiting:
        name = waiting.pop()
        if name in inside or name in fed_by:
            continue
        if _sees_features(nodes, name):
            fed_by.add(name)
            continue
        inside.add(name)
        waiting += nodes[name].inputs
    if not fed_by:
        raise InvalidArtifact(
            "the graph has no convolution that could be quantised",
            hint="INT8 is for detectors with a convolutional backbone",
        )
    return Head(tuple(sorted(inside)), tuple(sorted(fed_by)))


def _sees_features(nodes: Mapping[str, Node], name: str) -> bool:
    """Whether this is a convolution whose input is a feature map."""
    node = nodes[name]
    if node.kind == "bias":
        return _sees_features(nodes, node.inputs[0])
    if node.kind != "convolution":
        return False
    # Along some way back there is another convolution, or the image, and no reshape before it.
    seen: set[str] = set()
    waiting = [*node.inputs]
    while waiting:
        before = waiting.pop()
        if before in seen or nodes[before].kind == "reshape":
            continue
        if nodes[before].kind == "convolution" or not nodes[before].inputs:
            return True
        seen.add(before)
        waiting += nodes[before].inputs
    return not node.inputs


def onnx_nodes(model: Any) -> tuple[dict[str, Node], list[str]]:
    """An ONNX model's nodes, all of which have names, and those that give its outputs."""
    producers = {name: node.name for node in model.graph.node for name in node.output if name}
    nodes: dict[str, Node] = {}
    for node in model.graph.node:
        inputs = tuple(producers[name] for name in node.input if name in producers)
        kind = _ONNX_KINDS.get(node.op_type, "other")
        if node.op_type == "Add" and len(inputs) == 1 and nodes[inputs[0]].kind == "convolution":
            kind = "bias"
        nodes[node.name] = Node(kind, inputs)
    return nodes, [producers[output.name] for output in model.graph.output]


def openvino_nodes(model: Any) -> tuple[dict[str, Node], list[str]]:
    """An OpenVINO model's nodes by their friendly names, and those that give its outputs."""
    nodes: dict[str, Node] = {}
    for node in model.get_ordered_ops():
        operator = node.get_type_name()
        if operator in (*_OPENVINO_LEAVES, "Result"):
            continue
        sources = (value.get_node() for value in node.input_values())
        inputs = tuple(
            source.get_friendly_name()
            for source in sources
            if source.get_type_name() not in _OPENVINO_LEAVES
        )
        kind = _OPENVINO_KINDS.get(operator, "other")
        if operator == "Add" and len(inputs) == 1 and nodes[inputs[0]].kind == "convolution":
            kind = "bias"
        nodes[node.get_friendly_name()] = Node(kind, inputs)
    ends = [result.input_value(0).get_node().get_friendly_name() for result in model.get_results()]
    return nodes, ends
