"""Tables of a page: labels are escaped, long tables are cut."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

from seatrial.demo.tables import (
    MOST_ROWS,
    as_markdown,
    boxes_table,
    refusal,
    stages_table,
    summary,
)
from seatrial.demo.workbench import Choice, View, Workbench
from seatrial.errors import InvalidImage, ServiceFailed


def cells(table: str) -> list[list[str]]:
    """Text of an HTML table, row by row."""
    rows = re.findall(r"<tr>(.*?)</tr>", table)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]


def test_labels_are_text_not_html(
    workbench: Workbench, pale_media: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = workbench.view(pale_media, Choice())
    monkeypatch.setattr(view.model, "labels", ("<script>alert(1)</script>", "green", "blue"))
    table = boxes_table(view)
    assert "<script" not in table
    assert "&lt;script&gt;" in table


def test_a_crowd_is_cut_and_counted(workbench: Workbench, pale_media: Any) -> None:
    view = workbench.view(pale_media, Choice())
    many = view.shown[0][np.repeat(np.arange(3), 50)]
    table = boxes_table(replace(view, shown=(many,)))
    assert len(cells(table)) == 1 + MOST_ROWS
    assert f"and {150 - MOST_ROWS} more" in table


def test_a_video_has_tracks_not_objects(clip_view: View) -> None:
    assert summary(clip_view) == "1 track of 3 boxes in 3 frames of walk.mp4 (128 x 128)."
    assert cells(boxes_table(clip_view))[1][:3] == ["red", "1", "3 of 3"]


def test_times_of_a_video_are_medians_of_measured_times(clip_view: View) -> None:
    """The total too: a sum of medians is no time that a frame took."""
    times = (
        {"infer": 1.0, "queue": 9.0},
        {"infer": 5.0, "queue": 1.0},
        {"infer": 2.0, "queue": 8.0},
    )
    answers = tuple(
        replace(answer, timing_ms=timing)
        for answer, timing in zip(clip_view.answers, times, strict=True)
    )
    table = cells(stages_table(replace(clip_view, answers=answers)))
    assert dict(table[1:]) == {"infer": "2.0", "queue": "8.0", "total": "10.0"}


def test_the_total_of_a_service_is_its_own(view: View) -> None:
    answer = replace(view.answers[0], timing_ms={"infer": 2.0, "total": 7.5})
    assert cells(stages_table(replace(view, answers=(answer,))))[1:] == [
        ["infer", "2.0"],
        ["total", "7.5"],
    ]


def test_an_error_as_a_person_reads_it() -> None:
    assert refusal(InvalidImage("the JPEG is cut off")) == "the JPEG is cut off."
    assert refusal(ServiceFailed("it is gone", hint="start it")) == "it is gone. Start it."


def test_a_name_with_a_line_end_makes_no_block_of_markdown() -> None:
    text = as_markdown("3 objects in a\n\n# b\n- c")
    assert MarkdownIt("gfm-like", {"linkify": False}).render(text).count("<") == 2


@pytest.mark.parametrize(
    "name",
    ["shop[a](b).jpg", "__init__ *x*", "`a` <b> ~~c~~", "$1$ :red[x] :smile:", "a\\[b]", "box [/]"],
)
def test_names_in_markdown_are_shown_as_they_are(name: str) -> None:
    shown = MarkdownIt("gfm-like", {"linkify": False}).render(as_markdown(f"3 objects in {name}"))
    assert html.unescape(shown) == f"<p>3 objects in {name}</p>\n"
