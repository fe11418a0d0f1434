"""The head is found from the graph alone, the same in both formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import openvino
import pytest

from seatrial.artifact import Artifact
from seatrial.errors import InvalidArtifact
from seatrial.quantise.float_part import Node, find_head, onnx_nodes, openvino_nodes
from seatrial.quantise.openvino_nncf import OpenVinoBackend
from seatrial.quantise.workspace import Workspace


def test_the_head_of_an_onnx_graph_begins_behind_the_last_convolutions(
    small: Callable[..., Artifact],
) -> None:
    model = onnx.load(small().file("onnx"))
    head = find_head(*onnx_nodes(model))
    assert head.fed_by == ("scores/Conv", "sides/Conv")
    assert {"dfl_softmax/Softmax", "dfl/Conv", "output0/Concat", "clipped/Clip"} <= {*head.nodes}
    assert not {name for name in head.nodes if "block" in name or "seatrial" in name}


def test_the_head_of_an_openvino_graph_is_the_same(
    small: Callable[..., Artifact], tmp_path: Path
) -> None:
    pytest.importorskip("nncf", reason="NNCF is not installed")
    (tmp_path / "work").mkdir()
    backend, work = OpenVinoBackend(), Workspace(tmp_path / "work")
    head = backend.prepare(small(), work)
    assert head.fed_by == ("scores/Conv", "sides/Conv")
    model = openvino.Core().read_model(tmp_path / "work" / "float" / "model.xml")
    nodes, _ = openvino_nodes(model)
    assert {nodes[name].kind for name in head.fed_by} == {"bias"}
    assert "dfl/Conv" in head.nodes
    assert not {name for name in head.nodes if "block" in name}


def test_attention_in_the_middle_does_not_end_up_in_the_head() -> None:
    nodes = {
        "stem": Node("convolution", ()),
        "flat": Node("reshape", ("stem",)),
        "attention": Node("other", ("flat",)),
        "map": Node("reshape", ("attention",)),
        "position": Node("convolution", ("map",)),
        "join": Node("other", ("position", "map")),
        "last": Node("convolution", ("join",)),
        "mixed": Node("convolution", ("stem",)),
        "out": Node("reshape", ("last",)),
        "end": Node("other", ("out", "mixed")),
    }
    head = find_head(nodes, ["end"])
    assert head.fed_by == ("last", "mixed")
    assert head.nodes == ("end", "out")


def test_a_transformers_decoder_stays_float_as_a_whole() -> None:
    nodes = {
        "backbone": Node("convolution", ()),
        "projection": Node("convolution", ("backbone",)),
        "tokens": Node("reshape", ("projection",)),
        "encoder": Node("other", ("tokens",)),
        "decoder": Node("other", ("encoder", "tokens")),
    }
    head = find_head(nodes, ["decoder"])
    assert head.fed_by == ("projection",)
    assert head.nodes == ("decoder", "encoder", "tokens")


def test_a_graph_without_convolutions_is_an_error() -> None:
    with pytest.raises(InvalidArtifact, match="no convolution"):
        find_head({"a": Node("other", ()), "b": Node("other", ("a",))}, ["b"])
