from __future__ import annotations

import io

from rich.console import Console

from seatrial.bench.history import HistoryEntry, series_of
from seatrial.bench.history_terminal import commit_words, render_history, summary

FIGURE = "single-stream, 1 session: p50_ms"


def entries(levels, figure=FIGURE, machine="EPYC"):
    return [
        HistoryEntry(
            at=f"2026-10-{number + 1:02}T10:00:00+00:00",
            commit=f"{number:x}" * 40,
            changed=number == 9,
            machine=machine,
            model="tiny",
            figures={figure: level + 0.01 * (number % 3)},
        )
        for number, level in enumerate(levels)
    ]


def shown(series):
    console = Console(file=io.StringIO(), width=200)
    console.print(render_history(series))
    return console.file.getvalue()


def test_the_last_change_for_the_worse_comes_first_then_all_of_them():
    text = shown(series_of(entries([20.0] * 8 + [22.0] * 4 + [18.0] * 4)))
    first, *rest = text.splitlines()
    assert first == (
        "1 series of up to 16 benchmarks: last change for the worse at 8888888888: "
        f"{FIGURE} +10.0%."
    )
    rows = [line for line in rest if FIGURE in line]
    assert len(rows) == 2
    assert "8888888888 (after 7777777777)" in rows[0]
    assert "2026-10-09 10:00 UTC" in rows[0]
    assert "20.0 ms" in rows[0]
    assert "22.0 ms" in rows[0]
    assert rows[0].rstrip().endswith("worse")
    assert "-18." in rows[1]
    assert rows[1].rstrip().endswith("better")
    assert "EPYC \N{MIDDLE DOT} tiny" in text


def test_of_two_changes_for_the_worse_the_last_is_told():
    found = summary(series_of(entries([20.0] * 10 + [22.0] * 10 + [26.0] * 10)))
    assert "at 1414141414: " in found
    assert "+18." in found


def test_a_rate_is_written_as_one():
    text = shown(series_of(entries([20.0] * 8 + [18.0] * 8, figure="x: goodput_per_s")))
    assert "20.0/s" in text
    assert "-10.0%" in text


def test_nothing_for_the_worse_is_said():
    better = series_of(entries([22.0] * 8 + [20.0] * 8))
    assert summary(better).endswith("16 benchmarks: 1 change, none for the worse.")
    assert summary(series_of(entries([20.0] * 12))).endswith("0 changes, none for the worse.")


def test_machines_without_a_change_have_no_table():
    rows = entries([20.0] * 8 + [22.0] * 8) + entries([20.0] * 8, machine="Xeon")
    text = shown(series_of(rows))
    assert "EPYC" in text
    assert "Xeon" not in text


def test_a_short_history_says_how_long_it_must_be():
    assert "a change shows from 11 benchmarks" in summary(series_of(entries([20.0] * 5)))
    assert "none for the worse" in summary(series_of(entries([20.0] * 12)))
    assert "a change shows" in summary([])


def test_a_commit_is_short_and_says_where_files_differed():
    first, *_, tenth = entries([20.0] * 10)
    assert commit_words(first) == "0000000000"
    assert commit_words(tenth) == "9999999999+"
    nameless = HistoryEntry(at="2026-10-01T10:00:00", machine="", figures={})
    assert commit_words(nameless) == "2026-10-01 10:00 UTC"
