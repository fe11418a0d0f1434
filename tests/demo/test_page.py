"""What pages say."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from seatrial.artifact import Artifact
from seatrial.demo.media import open_media
from seatrial.demo.models import Model, Models
from seatrial.demo.page import NO_RIVAL, show
from seatrial.demo.tables import boxes_table, stages_table
from seatrial.demo.workbench import Choice, Workbench


def cells(table: str) -> list[list[str]]:
    """Text of an HTML table, row by row."""
    rows = re.findall(r"<tr>(.*?)</tr>", table)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]


def test_a_picture_in_words_and_tables(workbench: Workbench, pale_media: Any) -> None:
    page = show(workbench, pale_media, Choice(0.5))
    assert page.rival is None
    assert page.summary == (
        "2 objects in pale.png (128 x 128); 1 more over 0.05 are hidden by the settings."
    )
    head, *rows = cells(boxes_table(page.view))
    assert head == ["label", "confidence", "left", "top", "right", "bottom"]
    assert [row[:2] for row in rows] == [["red", "1.00"], ["red", "0.60"]]
    assert rows[0][2:] == [f"{value:.0f}" for value in page.view.shown[0].xyxy[0].tolist()]
    stages = dict(cells(stages_table(page.view))[1:])
    assert list(stages) == ["decode", "preprocess", "queue", "infer", "postprocess", "total"]
    assert float(stages["total"]) == pytest.approx(
        sum(float(value) for stage, value in stages.items() if stage != "total"), abs=0.4
    )


def test_nothing_found(
    workbench: Workbench, picture: Callable[..., Any], encode: Callable[..., bytes]
) -> None:
    page = show(workbench, open_media("grey.jpg", encode(picture({}))), Choice())
    assert page.summary == "No objects in grey.jpg (128 x 128)."
    assert cells(boxes_table(page.view))[1:] == [["nothing"]]


def test_a_video_in_words_and_tables(
    workbench: Workbench, clip: Callable[..., bytes], picture: Callable[..., Any]
) -> None:
    shown: list[dict[tuple[int, int], str]] = [
        {(2, 2): "red"}, {(2, 2): "red", (5, 5): "red"}, {(2, 2): "blue"}, {},
    ]  # fmt: skip
    media = open_media("v.mp4", clip([picture(patches) for patches in shown]))
    page = show(workbench, media, Choice(0.4), rival="again")
    assert page.summary == (
        "1 track of 4 boxes in 4 frames of v.mp4 (128 x 128). Videos are not compared: give an "
        "image."
    )
    rows = [row[:4] for row in cells(boxes_table(page.view))[1:]]
    assert rows == [["red", "1", "2 of 4", "2"], ["blue", "0", "1 of 4", "1"]]


def test_a_model_and_itself_agree(workbench: Workbench, pale_media: Any) -> None:
    page = show(workbench, pale_media, Choice(), rival="again")
    assert page.rival is not None
    assert page.rival.model.name == "again"
    assert page.summary.endswith(
        "Both see 3 objects, with a mean IoU of 1.00; 0 only tiny, 0 only again. Compared from "
        "confidence 0.25 on, at IoU 0.7, with one class a box; seatrial evaluate --parent: from "
        "0.25 on, at 0.7, with several."
    )
    assert show(workbench, pale_media, Choice(), rival=NO_RIVAL).rival is None


def test_classes_are_compared_by_name(
    open_tiny: Callable[..., Model], other_artifact: Artifact, pale_media: Any
) -> None:
    with Models(open_tiny(), {"other": lambda: open_tiny("other", other_artifact)}) as models:
        page = show(Workbench(models), pale_media, Choice(), rival="other")
    # The blue box is one object; what one calls red is crimson to the other.
    words = "Both see 1 object, with a mean IoU of 1.00; 2 only tiny, 2 only other."
    assert words in page.summary
