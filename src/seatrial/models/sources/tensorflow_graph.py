"""A frozen TensorFlow graph without the nodes that some of its tensors do not need.

OpenVINO's frontend takes time for each node of a file, also for those that no output needs: for
the detector of `sample_ssd`, 17 s of 18 s. TensorFlow is not needed to leave them out.

Source: TensorFlow ``core/framework/graph.proto`` and ``node_def.proto``.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable
from typing import Any

from seatrial.system.extras import require

_TEXT, _MESSAGE = 9, 11  # types of fields, and their labels, in descriptor.proto
_OPTIONAL, _REPEATED = 1, 3


def prune(graph: bytes, inputs: Collection[str], outputs: Iterable[str]) -> bytes:
    """The nodes between some tensors, in their order.

    Args:
        graph: A serialised ``GraphDef``.
        inputs: Names of nodes that are kept without what they are computed from.
        outputs: Names of nodes that are kept with all that they are computed from.

    Returns:
        A serialised ``GraphDef``.

    Raises:
        KeyError: The graph lacks a node; its name.
        MissingExtra: protobuf, a dependency of ONNX, is not installed.
        ValueError: The bytes are not a ``GraphDef``.
    """
    decode_error = require(
        "google.protobuf.message", extra="openvino", purpose="reading TensorFlow graphs"
    ).DecodeError
    try:
        whole = _graph_type().FromString(graph)
    except decode_error as error:
        raise ValueError(str(error)) from error
    nodes = {node.name: node for node in whole.node}
    kept: set[str] = set()
    waiting = [*inputs, *outputs]
    while waiting:
        name = waiting.pop()
        if name in kept:
            continue
        kept.add(name)
        if name not in inputs:
            # "name:1" is the second output of a node, "^name" a node that runs before.
            waiting += (one.lstrip("^").partition(":")[0] for one in nodes[name].input)
    for name in inputs:
        del nodes[name].input[:]
    part = _graph_type()()
    part.node.extend(node for node in whole.node if node.name in kept)
    serialised: bytes = part.SerializeToString()
    return serialised


@functools.cache
def _graph_type() -> Any:
    """``GraphDef`` with the fields that are read here; others are carried along unread."""
    protobuf = {
        name: require(
            f"google.protobuf.{name}", extra="openvino", purpose="reading TensorFlow graphs"
        )
        for name in ("descriptor_pb2", "descriptor_pool", "message_factory")
    }
    file = protobuf["descriptor_pb2"].FileDescriptorProto(
        name="seatrial/graph.proto", package="seatrial", syntax="proto3"
    )
    node = file.message_type.add(name="Node")
    node.field.add(name="name", number=1, type=_TEXT, label=_OPTIONAL)
    node.field.add(name="input", number=3, type=_TEXT, label=_REPEATED)
    graph = file.message_type.add(name="Graph")
    graph.field.add(
        name="node", number=1, type=_MESSAGE, label=_REPEATED, type_name=".seatrial.Node"
    )
    pool = protobuf["descriptor_pool"].DescriptorPool()
    pool.Add(file)
    return protobuf["message_factory"].GetMessageClass(pool.FindMessageTypeByName("seatrial.Graph"))
