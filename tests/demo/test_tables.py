"""Tables of a page: labels are escaped, long tables are cut."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from seatrial.demo.tables import MOST_ROWS, boxes_table, refusal
from seatrial.demo.workbench import Choice, Workbench
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


def test_an_error_as_a_person_reads_it() -> None:
    assert refusal(InvalidImage("the JPEG is cut off")) == "the JPEG is cut off."
    assert refusal(ServiceFailed("it is gone", hint="start it")) == "it is gone. Start it."
