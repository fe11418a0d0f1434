"""A side-by-side report for the terminal: a table for each load, a row for each setup."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Group, RenderableType
from rich.text import Text

from seatrial.bench.side_by_side import LoadRow, SideBySide, Spread
from seatrial.bench.terminal import findings_list, plain_table
from seatrial.load.statistics import PERCENTILES
from seatrial.report.numbers import MISSING, mebibytes, optional, sessions, significant
from seatrial.report.table import Table

COLUMNS = ("good/s", *PERCENTILES, "CPU", "memory", "good", "failed", "rounds")


def render_side_by_side(report: SideBySide) -> RenderableType:
    """The report in short: summary, caveats, the tables, what the rounds do not tell apart."""
    parts: list[RenderableType] = [Text(report.of_kind("headline")[0].text, style="bold"), Text()]
    parts += findings_list("Read first", report.of_kind("caveat"))
    for scenario, count, rows in report.loads():
        parts += [_table(f"{scenario}, {sessions(count)}", [row for _, row in rows]), Text()]
    parts += findings_list("What it means", report.of_kind("explanation"))
    return Group(*parts)


def _table(title: str, rows: list[LoadRow]) -> Table:
    table = plain_table("runtime, protocol", *COLUMNS)
    table.title, table.title_justify = Text(title, style="bold"), "left"
    for row in rows:
        *figures, failed, rounds = cells_of(row)
        marked = Text(failed, style="red" if row.failed else "")
        table.add_row(Text(f"{row.runtime}, {row.protocol}"), *figures, marked, rounds)
    table.caption = Text(
        "median of the rounds (lowest to highest); latency, and CPU time of the service for a good "
        "answer, in ms; a dash: not known, or a sample that is too small"
    )
    return table


def cells_of(row: LoadRow) -> list[str]:
    """The figures of a row as they are written, in the order of `COLUMNS`."""
    spreads = [row.goodput_per_s, *row.percentiles.values(), row.cpu_ms]
    return [
        *(spread_in_words(one) for one in spreads),
        optional(row.memory_bytes, mebibytes),
        f"{row.good:,}",
        f"{row.failed:,}",
        str(row.rounds),
    ]


def spread_in_words(spread: Spread | None, form: Callable[[float], str] = significant) -> str:
    """``24.1 (23.8-24.4)``; the median alone where nothing differs as it is written."""
    if spread is None:
        return MISSING
    low, median, high = form(spread.low), form(spread.median), form(spread.high)
    return median if low == high else f"{median} ({low}\N{EN DASH}{high})"
