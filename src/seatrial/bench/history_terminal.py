"""The history of a service for the terminal: what changed, and at which commit."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from seatrial.bench.change_points import ChangePoint
from seatrial.bench.compare_words import signed
from seatrial.bench.history import (
    HIGHER_IS_BETTER,
    SHARE,
    FigureSeries,
    HistoryEntry,
    fewest_entries,
)
from seatrial.bench.terminal import plain_table
from seatrial.report.numbers import counted, date, milliseconds, per_second, percent

COLUMNS = ("figure", "changed at", "date", "before", "after", "difference", "by chance", "")


def render_history(series: Sequence[FigureSeries]) -> RenderableType:
    """A sentence, and a table of the changes for each machine and model."""
    parts: list[RenderableType] = [Text(summary(series), style="bold")]
    for place in dict.fromkeys((one.machine, one.model, one.setup) for one in series):
        mine = [
            one for one in series if (one.machine, one.model, one.setup) == place and one.changes
        ]
        if not mine:
            continue
        table = plain_table(*COLUMNS)
        table.title = Text(" \N{MIDDLE DOT} ".join(filter(None, place)))
        table.title_justify = "left"
        for one in mine:
            for change in one.changes:
                *cells, better = cells_of(one, change)
                table.add_row(*map(Text, cells), Text(better, "red" * (better == "worse")))
        parts += [Text(), table]
    return Group(*parts)


def summary(series: Sequence[FigureSeries]) -> str:
    """How much was read, and the last change for the worse."""
    entries = max((len(one.entries) for one in series), default=0)
    read = f"{counted(len(series), 'series', 'series')} of up to {counted(entries, 'benchmark')}"
    if entries < fewest_entries():
        return f"{read}: a change shows from {fewest_entries()} benchmarks of one machine on."
    worse = [
        (one.entries[change.index].at, one, change)
        for one in series
        for change in one.changes
        if one.worse(change)
    ]
    if not worse:
        changes = sum(len(one.changes) for one in series)
        return f"{read}: {counted(changes, 'change')}, none for the worse."
    _, one, change = max(worse, key=lambda found: found[0])
    return (
        f"{read}: last change for the worse at {commit_words(one.entries[change.index])}: "
        f"{one.figure} {_difference(change)}."
    )


def cells_of(one: FigureSeries, change: ChangePoint) -> list[str]:
    """A row of the table, in the order of `COLUMNS`."""
    entry = one.entries[change.index]
    forms = {HIGHER_IS_BETTER: per_second, SHARE: percent}
    form = next((made for end, made in forms.items() if one.figure.endswith(end)), milliseconds)
    return [
        one.figure,
        between(one, change),
        date(entry.at),
        form(change.before),
        form(change.after),
        _difference(change),
        f"{100 * change.chance:.2g}%",
        "worse" if one.worse(change) else "better",
    ]


def _difference(change: ChangePoint) -> str:
    return signed(change.ratio) if change.before else "from 0"


def between(one: FigureSeries, change: ChangePoint) -> str:
    """The commit at which a series changed, and the last that was measured before."""
    before, after = one.entries[change.index - 1], one.entries[change.index]
    return f"{commit_words(after)} (after {commit_words(before)})"


def commit_words(entry: HistoryEntry) -> str:
    """``1a2b3c4d5e``, with a + where files differed from the commit; the date without one."""
    if not entry.commit:
        return date(entry.at)
    return f"{entry.commit[:10]}{'+' if entry.changed else ''}"
