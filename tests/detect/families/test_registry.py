from __future__ import annotations

import msgspec
import pytest

from seatrial.artifact import Artifact
from seatrial.detect.families.registry import FAMILIES, family_class, family_of, possible
from seatrial.detect.families.yolo import Yolo
from seatrial.errors import InvalidArtifact, UnknownFamily
from seatrial.graphs.signature import GraphSignature
from seatrial.manifest import TensorSpec


def test_an_unknown_family_names_the_known_ones(tiny_artifact: Artifact) -> None:
    with pytest.raises(InvalidArtifact, match="unknown family 'yollo'") as refusal:
        family_class("yollo")
    assert all(name in refusal.value.hint for name in FAMILIES)
    odd = msgspec.structs.replace(tiny_artifact.manifest, family="yollo")
    with pytest.raises(InvalidArtifact, match="yollo"):
        family_of(odd)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_in_the_table_is_there(name: str) -> None:
    assert family_class(name).accepts


def test_the_family_of_an_artifact(tiny_artifact: Artifact) -> None:
    assert isinstance(family_of(tiny_artifact.manifest), Yolo)


def test_a_graph_that_no_family_knows_is_refused_with_what_was_seen_and_what_is_accepted() -> None:
    graph = GraphSignature(
        inputs=(TensorSpec("pixels", "float32", (-1, 3, 224, 224)),),
        outputs=(TensorSpec("logits", "float32", (-1, 1000)),),
        metadata={},
    )
    with pytest.raises(UnknownFamily) as refusal:
        possible(graph, origin="resnet50.onnx")[0]
    message, hint = refusal.value.message, refusal.value.hint
    assert "resnet50.onnx" in message
    assert "pixels float32 [-1, 3, 224, 224]" in message
    assert "logits float32 [-1, 1000]" in message
    assert "[N, 4 + classes, anchors], [N, anchors, 5 + classes] or [N, K, 6]" in hint
    assert all(f"{name}: " in hint for name in FAMILIES)


def test_a_graph_without_inputs_can_still_be_described() -> None:
    assert GraphSignature((), (), {}).describe() == "inputs: none; outputs: none; metadata: none"
