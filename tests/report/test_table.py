"""Tables at any width: every word and every figure is there, whole."""

from __future__ import annotations

import io
import random

import pytest
from rich.console import Console
from rich.text import Text

from seatrial.report.table import Table

WORDS = ["name", "a-rather-long-name-of-an-artifact", "0.4401", "+0.0012 to +0.0134", "", "x"]


def printed(table: Table, width: int, *, terminal: bool = True) -> str:
    file = io.StringIO()
    options = {"force_terminal": terminal, "color_system": None}
    Console(file=file, width=width, **options).print(table, crop=False)  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
@pytest.mark.parametrize("seed", range(8))
def test_no_word_is_lost_and_no_table_is_wider_than_the_terminal(width: int, seed: int) -> None:
    draw = random.Random(seed)
    columns = draw.randint(1, 8)
    headers = draw.choices(["figure", "highest confidence", "at", ""], k=columns)
    table = Table(*headers)
    rows = [draw.choices(WORDS, k=columns) for _ in range(3)]
    for row in rows:
        table.add_row(*row)
    text = printed(table, width)
    wanted = [word for row in rows for cell in row for word in cell.split()]
    for word in {*wanted, *" ".join(headers).split()}:
        assert text.count(word) >= wanted.count(word), (word, text)
    if "│" in text:
        assert max(map(len, text.splitlines())) <= width


def test_a_table_that_fits_stays_as_rich_draws_it() -> None:
    import rich.table

    ours, theirs = Table("a", "b"), rich.table.Table("a", "b")
    for table in (ours, theirs):
        table.add_row("1", "two words")
    assert printed(ours, 80) == printed(theirs, 80)  # type: ignore[arg-type]


def test_words_are_wrapped_before_rows_become_lists() -> None:
    table = Table("name", "what is wrong")
    table.add_row("a.jpg", "the box is outside of the image")
    wrapped = printed(table, 30)
    assert "│" in wrapped
    assert "outside" in wrapped
    lists = printed(table, 14)
    assert "│" not in lists
    assert lists.splitlines()[:2] == [
        "name           a.jpg", "what is wrong  the box is outside of the image",
    ]  # fmt: skip


def test_narrow_columns_get_what_they_need_and_wide_ones_the_rest() -> None:
    table = Table("a", "b", "c")
    table.add_row("one two", "three four", "so many words that they fit into no line")
    top, head, *_ = printed(table, 50).splitlines()
    widths = [len(part) for part in head.replace("┃", "|").strip("|").split("|")]
    assert len(top) == 50
    # A blank to each side; the last column has what the first two leave.
    assert widths == [len(" one two "), len(" three four "), 50 - 4 - 9 - 12]


def test_columns_that_all_need_more_share_alike() -> None:
    table = Table("a", "b")
    table.add_row("word " * 20, "word " * 20)
    _, head, *_ = printed(table, 41).splitlines()
    assert [len(part) for part in head.replace("┃", "|").strip("|").split("|")] == [19, 19]


def test_lines_of_a_cell_stay_under_each_other_in_a_list() -> None:
    table = Table("", "where", caption=Text("a note"))
    table.add_row(Text("error", style="red"), "first\nsecond-and-much-longer-than-it-fits")
    assert printed(table, 12).splitlines() == [
        "       error", "where  first", "       second-and-much-longer-than-it-fits", "", "a note",
    ]  # fmt: skip


def test_a_pipe_gets_the_table_as_wide_as_its_words_are() -> None:
    table = Table("name", "figure")
    table.add_row("n" * 150, "0.25")
    text = printed(table, 120, terminal=False)
    assert "n" * 150 in text
    assert "│ 0.25" in text


def test_a_table_that_is_drawn_keeps_its_columns() -> None:
    table = Table("name", "text")
    table.add_row("a", "some words that do not fit")
    printed(table, 20)
    assert [column.width for column in table.columns] == [None, None]
