"""What the metadata of an export says; the families that read it are tested in files of theirs."""

from __future__ import annotations

import pytest

from seatrial.detect.families import ultralytics
from seatrial.errors import InvalidArtifact
from seatrial.graphs.signature import GraphSignature
from seatrial.manifest import TensorSpec

IMAGE = TensorSpec("images", "float32", (1, 3, -1, -1))


def graph(**metadata: str) -> GraphSignature:
    return GraphSignature((IMAGE,), (), metadata)


def test_the_author_or_the_description_names_ultralytics() -> None:
    assert ultralytics.is_export(graph(author="Ultralytics"))
    assert ultralytics.is_export(graph(description="Ultralytics YOLOv8n model"))
    assert not ultralytics.is_export(graph(names="['a']", stride="32"))


@pytest.mark.parametrize(("imgsz", "size_hw"), [("640", (640, 640)), ("[480, 640]", (480, 640))])
def test_an_open_canvas_is_that_of_the_metadata(imgsz: str, size_hw: tuple[int, int]) -> None:
    assert ultralytics.size_hw(graph(imgsz=imgsz)) == size_hw


def test_a_canvas_that_nothing_says_asks_for_the_option() -> None:
    with pytest.raises(InvalidArtifact, match="dynamic") as refusal:
        ultralytics.size_hw(graph())
    assert "--imgsz 640" in refusal.value.hint


def test_the_head_in_the_metadata_goes_before_the_name_of_the_model() -> None:
    named = "Ultralytics my-rtdetr-like model"
    assert ultralytics.is_rt_detr(graph(description=named))
    assert not ultralytics.is_rt_detr(graph(description=named, head="Detect"))
    assert ultralytics.is_rt_detr(graph(description="Ultralytics mine", head="RTDETRDecoder"))
    assert not ultralytics.is_rt_detr(graph(description="Ultralytics YOLOv8n model"))
