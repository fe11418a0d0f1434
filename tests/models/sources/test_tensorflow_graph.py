"""Nodes of a frozen graph that some tensors need, and no others."""

from __future__ import annotations

import pytest

from seatrial.models.sources.tensorflow_graph import prune

pytest.importorskip("google.protobuf")


def field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message that holds bytes; shorter than 128."""
    return bytes([number << 3 | 2, len(content)]) + content


def node(name: str, *inputs: str, more: bytes = b"") -> bytes:
    fields = [field(1, name.encode()), *(field(3, one.encode()) for one in inputs)]
    return field(1, b"".join(fields) + more)


OP = field(2, b"Const")  # a field that is not read
GRAPH = [
    node("image"),
    node("cast", "image"),
    node("scale", more=OP),
    node("net", "cast:0", "scale:1", "^check"),
    node("check", "image"),
    node("boxes", "net"),
    node("other", "net", "unused"),
    node("unused"),
]


def test_what_outputs_need_is_kept_in_its_order_with_all_its_fields() -> None:
    assert prune(b"".join(GRAPH), (), ["boxes"]) == b"".join(GRAPH[:6])


def test_inputs_are_kept_without_what_they_are_computed_from() -> None:
    found = prune(b"".join(GRAPH), {"net"}, ["boxes"])
    assert found == node("net") + node("boxes", "net")


def test_an_input_that_no_output_needs_is_kept() -> None:
    assert prune(b"".join(GRAPH), {"unused"}, ["scale"]) == GRAPH[2] + GRAPH[7]


@pytest.mark.parametrize(("inputs", "outputs"), [({"absent"}, ["net"]), (set(), ["absent"])])
def test_a_node_that_is_not_there_is_named(inputs: set[str], outputs: list[str]) -> None:
    with pytest.raises(KeyError, match="absent"):
        prune(b"".join(GRAPH), inputs, outputs)


@pytest.mark.parametrize("damaged", [b"".join(GRAPH)[:-1], b"<html>", b"\x0a\x05a"])
def test_bytes_that_are_not_a_graph_are_refused(damaged: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        prune(damaged, (), [])
