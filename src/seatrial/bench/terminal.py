"""A report for the terminal: small tables and the findings, as rich renderables."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from seatrial.bench.measurement import Measurement
from seatrial.bench.report_data import BenchReport, Finding
from seatrial.bench.report_sections import loop_words
from seatrial.load.statistics import INTERVAL_LEVEL, PERCENTILES, Percentile
from seatrial.report.numbers import MISSING, cores, mebibytes, optional, seconds, significant
from seatrial.report.table import Table

COLOURS = {"good": "green", "info": "cyan", "warn": "yellow", "bad": "red"}


def render_terminal(report: BenchReport) -> RenderableType:
    """The report in short: summary, caveats, every point, explanations, advice.

    Names that come from outside (files, models, error kinds) are never read as markup.
    """
    parts: list[RenderableType] = [
        Text(f"Seatrial benchmark, {loop_words(report)}", style="cyan"),
        Text(report.of_kind("headline")[0].text, style="bold"),
        Text(),
    ]
    parts += findings_list("Read first", report.of_kind("caveat"))
    points = [(run.scenario, point) for run in report.runs for point in run.points]
    parts += [_latencies(points), Text()]
    due = [(name, point) for name, point in points if point.generator is not None]
    if due:
        parts += [_generated(due), Text()]
    parts += [_costs(points), Text()]
    parts += findings_list("What it means", report.of_kind("explanation"))
    parts += findings_list("What to change next", report.of_kind("advice"))
    return Group(*parts)


def findings_list(title: str, rows: Sequence[Finding]) -> list[RenderableType]:
    """A title and a list of findings; nothing where there are none."""
    if not rows:
        return []
    table = Table.grid(padding=(0, 1))
    for row in rows:
        table.add_row(Text("\N{BULLET}", style=COLOURS[row.severity]), Text(row.text))
    return [Text(title, style="bold"), Padding(table, (0, 0, 1, 1))]


def _latencies(points: Sequence[tuple[str, Measurement]]) -> Table:
    table = plain_table("scenario", "load", "good/s", *PERCENTILES, "mean ms", "good", "failed")
    for scenario, point in points:
        table.add_row(
            Text(scenario),
            Text(point.load),
            significant(point.goodput_per_s),
            *(_with_interval(point.latency.at(name)) for name in PERCENTILES),
            optional(point.latency.mean_ms, significant),
            str(point.good),
            Text(str(point.failed), style="red" if point.failed else ""),
        )
    table.caption = Text(
        "latency in ms; a dash: the sample is too small for this percentile; below a percentile "
        f"its {INTERVAL_LEVEL:.0%} interval"
    )
    return table


def _with_interval(found: Percentile) -> Text:
    """A percentile, and on a second line its interval where there is one."""
    if found.value_ms is None:
        return Text(MISSING)
    if found.low_ms is None and found.high_ms is None:  # an older report
        return Text(significant(found.value_ms))
    ends = [optional(end, significant) for end in (found.low_ms, found.high_ms)]
    return Text.assemble(significant(found.value_ms), ("\n" + " to ".join(ends), "dim"))


def _generated(points: Sequence[tuple[str, Measurement]]) -> Table:
    table = plain_table(
        "open loop",
        "load",
        "offered/s",
        "sent/s",
        "late p50",
        "late p99",
        "late max",
        "void slices",
    )
    for scenario, point in points:
        check = point.generator
        assert check is not None  # noqa: S101 - chosen so
        table.add_row(
            Text(scenario),
            Text(point.load),
            significant(check.offered_per_s),
            significant(check.sent_per_s),
            *map(significant, (check.late_p50_ms, check.late_p99_ms, check.late_max_ms)),
            Text("all" if check.void else str(check.void_slices), style="red" * bool(check.void)),
        )
    table.caption = Text("late: time in ms from when a request was due to when it was sent")
    return table


def _costs(points: Sequence[tuple[str, Measurement]]) -> Table:
    table = plain_table(
        "scenario", "load", "window", "service cores", "client cores", "other cores", "memory"
    )
    for scenario, point in points:
        server, machine = point.usage.server, point.usage.machine
        table.add_row(
            Text(scenario),
            Text(point.load),
            seconds(point.window_s),
            cores(server.busy_cores) if server else MISSING,
            cores(point.usage.client.busy_cores),
            optional(machine.other_cores, cores) if machine else MISSING,
            mebibytes(server.rss_peak_bytes) if server else MISSING,
        )
    table.caption = Text("busy cores over the window; memory: peak resident set of all processes")
    return table


def plain_table(*columns: str) -> Table:
    """A table whose first column holds names, and the others figures."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    for n, name in enumerate(columns):
        table.add_column(name, justify="left" if n == 0 else "right", no_wrap=True)
    return table
