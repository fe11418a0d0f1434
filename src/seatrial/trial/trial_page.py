"""The page of a trial, ``trial.html``: verdict, candidates, and the Pareto front."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from markupsafe import Markup

from seatrial.conditions import condition_rows
from seatrial.config import encode_json
from seatrial.gate import reasons
from seatrial.report import numbers
from seatrial.report.blocks import clauses, facts, heading, section, table, tiles
from seatrial.report.page import page as html_page
from seatrial.report.svg import Frame, ceiling, dot, drawing, element, text, ticks
from seatrial.system.files import write_atomically, writing
from seatrial.trial.outcome import WORDS
from seatrial.trial.trial_report import TRIAL_JSON, TRIAL_PAGE, TrialReport, TrialRow

MIB = 2**20


def write_trial(report: TrialReport, folder: Path) -> None:
    """Write ``trial.html`` and ``trial.json``.

    Raises:
        NotWritable: The folder cannot be written to.
    """
    with writing(folder):
        write_atomically(folder / TRIAL_PAGE, to_html(report).encode())
        write_atomically(folder / TRIAL_JSON, encode_json(report))


def to_html(report: TrialReport) -> str:
    """The page: no script, no request; links lead to files of the same folder."""
    verdict = report.verdict
    return html_page(
        f"Seatrial trial: {report.contract.name}",
        heading(
            "Seatrial trial",
            f"{WORDS[verdict.outcome]}: {report.contract.name}.",
            report.statement,
            *(f"{reason}." for reason in reasons(verdict.rows)),
            *(f"{caveat}." for caveat in report.caveats),
            f"{', '.join(report.models)} \N{MIDDLE DOT} {numbers.date(report.created_at)} "
            f"\N{MIDDLE DOT} {numbers.duration(report.elapsed_s)} of "
            f"{numbers.duration(report.budget_s)}",
        ),
        tiles(_figures(report)),
        section("Clauses", clauses(verdict)),
        section(
            "Recommended deployment",
            element("pre", report.deployment, class_="card") if report.deployment else Markup(),
        ),
        section("Candidates that were served", *_charts(report), lead=FRONT),
        section("All candidates", table(NAMES, _rows(report), _marked(report), words=True)),
        section("Conditions", facts(condition_rows(report.conditions))),
    )


FRONT = (
    "Filled points are on the Pareto front: no other candidate is better in one of accuracy, "
    "capacity, latency at the wanted rate and memory and as good in the others."
)
NAMES = (
    "candidate", "AP", "engine alone", "capacity", "latency", "memory", "served for", "outcome",
)  # fmt: skip


def _figures(report: TrialReport) -> Iterator[tuple[str, str, str]]:
    server, found = report.contract.server, report.capacity
    if found is not None:
        ends = f"{found.low_hz:.3g} to {found.high_hz:.3g}/s"
        ends += " at 95 %" if report.measured_anew else ", the best of several"
        yield "Capacity", numbers.per_second(found.rate_hz), ends
    if server is not None:
        law = f"{server.arrivals} arrivals, {server.percentile} at most {server.at_most_ms:g} ms"
        yield "Wanted", numbers.per_second(server.rate_per_s), law
    if report.headroom is not None:
        yield "Headroom", f"{report.headroom:+.0%}", "capacity over the wanted rate"
    if report.times_default is not None:
        yield (
            "Default deployment",
            f"about {report.times_default:.2g} times",
            "capacity against its",
        )


def _charts(report: TrialReport) -> Iterator[Markup]:
    rows = [row for row in report.rows if row.capacity is not None]
    server = report.contract.server
    name = "latency" if server is None else f"{server.percentile} latency"
    axes: tuple[tuple[str, Callable[[TrialRow], float | None]], ...] = (
        ("AP", lambda row: row.ap),
        (f"{name} at the wanted rate, ms", lambda row: row.latency_ms),
        ("memory, MiB", lambda row: row.memory_bytes / MIB or None),
    )
    charts = [(title, _chart(rows, title, value)) for title, value in axes]
    figures = [
        element("figure", element("h3", f"Capacity over {title}"), chart, class_="card")
        for title, chart in charts
        if chart is not None
    ]
    if figures:
        yield element("div", *figures, class_="charts apart")


def _chart(
    rows: Sequence[TrialRow], title: str, value: Callable[[TrialRow], float | None]
) -> Markup | None:
    """Capacity over another figure, a point for each candidate; None without any."""
    known = [
        (x, row.capacity.rate_hz, row)
        for row in rows
        if row.capacity is not None and (x := value(row)) is not None
    ]
    if not known:
        return None
    right = ceiling(max(x for x, _, _ in known) * 1.05 or 1.0)
    top = ceiling(max(y for _, y, _ in known) * 1.1 or 1.0)
    frame = Frame((0.0, right), top)
    parts = frame.axes(ticks(right), title)
    for x, y, row in known:
        tip = f"{row.name}: {numbers.per_second(y)}"
        kind = "mark s0" if row.on_front else "mark s1"
        parts.append(dot(frame.x(x), frame.y(y), kind, tip, 5.0 if row.on_front else 3.0))
        if row.stage == "chosen":
            parts.append(text("chosen", frame.x(x), frame.y(y) - 9, "value", "middle"))
    return drawing(frame.width, frame.height, f"Capacity over {title}", parts)


def _rows(report: TrialReport) -> Iterator[tuple[str, ...]]:
    for row in report.rows:
        ends = "" if row.ap_low is None else f" ({row.ap_low:.3f} to {row.ap_high:.3f})"
        found = row.capacity
        yield (
            f"{row.name}{' (default)' if row.is_default else ''}",
            "" if row.ap is None else f"{row.ap:.4f}{ends}",
            "" if row.raw_hz is None else numbers.per_second(row.raw_hz),
            ""
            if found is None
            else f"{found.rate_hz:.3g}/s ({found.low_hz:.3g} to {found.high_hz:.3g})",
            "" if row.latency_ms is None else numbers.milliseconds(row.latency_ms),
            numbers.mebibytes(row.memory_bytes) if row.memory_bytes else "",
            numbers.duration(row.served_s) if row.served_s else "",
            row.reason or row.stage,
        )


def _marked(report: TrialReport) -> list[int]:
    return [number for number, row in enumerate(report.rows) if row.stage == "chosen"]
