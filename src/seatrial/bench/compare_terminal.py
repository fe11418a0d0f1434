"""A comparison for the terminal: the answer in a sentence, what to know, the table."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from seatrial.bench.compare_options import PER_SECOND
from seatrial.bench.compare_report import CompareReport, Contrast
from seatrial.bench.compare_words import change, figure_words, plain_percent, signed
from seatrial.bench.terminal import plain_table
from seatrial.report.numbers import milliseconds, per_second
from seatrial.report.table import Table

COLUMNS = ("figure", "service", "difference", "interval", "answer", "A", "the service")
COLOURS = {"faster": "green", "slower": "red", "same": "green", "undecided": "yellow"}


def render_comparison(report: CompareReport) -> RenderableType:
    """The comparison in short. Names that come from outside are never read as markup."""
    parts: list[RenderableType] = [Text(one, style="bold") for one in report.statements]
    parts += [Text()]
    parts += [Text(f"\N{BULLET} {one}") for one in report.caveats]
    return Group(*parts, _table(report))


def _table(report: CompareReport) -> Table:
    table = plain_table(*COLUMNS)
    for one in report.contrasts:
        colours: dict[str, str] = {one.answer: COLOURS[one.answer]}
        table.add_row(*(Text(cell, style=colours.get(cell, "")) for cell in cells_of(one)))
    table.caption = Text(caption(report))
    return table


def cells_of(one: Contrast) -> list[str]:
    """A row of the table as it is written, in the order of `COLUMNS`."""
    form = per_second if one.figure in PER_SECOND else milliseconds
    return [
        figure_words(one.figure),
        one.label,
        change(one.ratio),
        f"{signed(one.ratio.low)} to {signed(one.ratio.high)}",
        one.answer,
        form(one.base),
        form(one.value),
    ]


def caption(report: CompareReport) -> str:
    """The load, blocks and rounds that the figures of the table rest on."""
    level = plain_percent(report.contrasts[0].ratio.level)
    if not report.blocks:
        return f"{report.load}; intervals at {level}, of the requests of each run alone"
    rounds, length = report.contrasts[0].ratio.rounds, report.blocks[0].window_s
    return (
        f"{report.load}; blocks of {length:.3g} s; differences within each of {rounds} rounds, "
        f"with intervals at {level}; same: within {plain_percent(report.margin)}; values: medians "
        "of all blocks, whose ratio is another one than that of the rounds"
    )
