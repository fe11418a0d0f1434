"""The charts of each run of a report, with their titles, captions and legends."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from markupsafe import Markup

from seatrial.bench import report_chart_rates, report_chart_tail, report_chart_timeline
from seatrial.bench import report_charts as charts
from seatrial.bench.analysis import Cutoffs
from seatrial.bench.measurement import Measurement
from seatrial.bench.open_loop_analysis import rate_knee
from seatrial.bench.report_data import BenchReport, Run
from seatrial.load.rate_search import RateSearch

# Scenarios whose window is long enough for memory to change.
LONG = ("soak",)
# Drawn arrivals of a rate are a few more or fewer than it says.
NEAR = 1.02


class LegendEntry(msgspec.Struct, frozen=True):
    """A line of a chart: its name, the CSS variable of its colour, how it is drawn."""

    name: str
    colour: str
    style: str = ""


class Chart(msgspec.Struct, frozen=True):
    """A chart with its words."""

    title: str
    caption: str
    drawing: Markup
    legend: tuple[LegendEntry, ...] = ()


class RunSection(msgspec.Struct, frozen=True):
    """The charts of one run.

    Attributes:
        title: Scenario and loop in words.
        charts: Its charts, at least one.
    """

    title: str
    charts: tuple[Chart, ...]


def loop_words(report: BenchReport) -> str:
    """Word of the report's title: whether its loads were open loops, closed ones, or both."""
    loops = dict.fromkeys(run.loop for run in report.runs)
    return " and ".join(f"{loop} loop" for loop in loops)


def run_sections(report: BenchReport) -> list[RunSection]:
    """A section for each run of which there is anything to draw."""
    sections = []
    for run in report.runs:
        if run.loop == "open":
            drawn = _open_charts(run, report.analysis.thresholds, report.options.latency_limit_ms)
        elif run.scenario == "scaling":
            drawn = _scaling_charts(run, report)
        else:
            drawn = _distributions(run.points[-1], run.points[-1].load)
        shown = tuple(chart for chart in drawn if chart is not None)
        if shown:
            sections.append(RunSection(f"{run.scenario}, {run.loop} loop", shown))
    return sections


def _chart(title: str, caption: str, drawing: Markup | None, *legend: LegendEntry) -> Chart | None:
    return None if drawing is None else Chart(title, caption, drawing, legend)


def _scaling_charts(run: Run, report: BenchReport) -> list[Chart | None]:
    found = report.analysis.knee if report.analysis.curve_told else None
    knee = None if found is None else found.index
    names = charts.latency_names(run.points)
    return [
        _chart(
            "Goodput over sessions", "Good answers per second of wall time",
            charts.throughput(run.points, knee),
            LegendEntry("measured", "s0"), LegendEntry("ideal scaling", "faint", "dashed"),
        ),
        _chart(
            "Latency over sessions", "Milliseconds; whiskers are 99% upper bounds",
            charts.latency(run.points, knee),
            *(LegendEntry(name, colour) for name, colour in names.items()),
        ),
    ]  # fmt: skip


def _open_charts(run: Run, limits: Cutoffs, limit_ms: float | None) -> list[Chart | None]:
    if not run.points:  # a search that had no time for a trial
        return []
    band = run.search
    found, behind = rate_knee(run.points, limits.follows)
    # A search says itself where the highest rate lies.
    kept = None if found is None or band is not None else run.points[found]
    knee = None if behind is None else kept  # it lies above all rates
    limit_ms = run.limit_ms or limit_ms
    reached = "" if kept is None or knee is not None else "the knee lies above these rates"
    said = "void points are hollow" if any(one.void for one in run.points) else ""
    held = (
        "the band is where the highest rate that holds lies"
        if band is not None and band.ended != "void"
        else ""
    )
    names = report_chart_rates.names(run.points)
    valid = [one for one in run.points if not one.void] or list(run.points)
    shown, last = kept or _held(valid, band) or valid[-1], valid[-1]
    return [
        _chart(
            "Goodput over the offered rate",
            _sentence("Requests per second", said, held, reached),
            report_chart_rates.rates(run.points, knee, band),
            LegendEntry("good answers", "s0"), LegendEntry("answers of any kind", "s1"),
            LegendEntry("nothing lost", "faint", "dashed"),
        ),
        _chart(
            "Latency over the offered rate",
            _sentence("Milliseconds from the due time", said, held),
            report_chart_rates.latencies(run.points, knee, band, limit_ms),
            *(LegendEntry(name, colour) for name, colour in names.items()),
        ),
        *_distributions(shown, _named(shown)),
        _chart(
            "Requests over time", _named(last),
            report_chart_timeline.requests(last),
            LegendEntry("due", "s3", "broad"), LegendEntry("answered", "s1"),
            LegendEntry("good, by due time", "s0"), *_shaded(last),
        ),
        _chart(
            "Latency and machine over time", _named(last),
            report_chart_timeline.machine(last, memory=run.scenario in LONG),
            LegendEntry("median", "s0"), LegendEntry("slowest", "s1"), *_shaded(last),
        ),
    ]  # fmt: skip


def _held(points: Sequence[Measurement], band: RateSearch | None) -> Measurement | None:
    """The measurement with most requests at a rate that a search found to hold."""
    rated = report_chart_rates.by_rate(points)
    held = [one for rate, one in rated if band is not None and rate <= band.low_hz * NEAR]
    return max(held, key=lambda one: one.finished, default=None)


def _distributions(point: Measurement, load: str) -> list[Chart | None]:
    bare = LegendEntry("from the due time" if point.law else "latency", "s0")
    sent = (LegendEntry("from the send", "s1", "thin"),) if point.law else ()
    few = LegendEntry("too few requests for a percentile", "s0", "faded")
    return [
        _chart(
            "Latency with its tail",
            f"Share of the requests that took longer; {load}",
            report_chart_tail.tail(point), bare, *sent, few,
        ),
        _chart(
            "Requests by latency", f"{point.good} good answers; {load}", charts.distribution(point)
        ),
    ]  # fmt: skip


def _named(point: Measurement) -> str:
    return f"{point.load}, void: {point.void[0]}" if point.void else point.load


def _shaded(point: Measurement) -> Sequence[LegendEntry]:
    cut = point.timeline
    void = cut is not None and any(one.void for one in cut.slices)
    return (LegendEntry("void", "bad", "shade"),) if void else ()


def _sentence(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
