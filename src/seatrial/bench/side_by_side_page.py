"""A side-by-side report as JSON and as one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from seatrial.bench.report import conditions_of, image_as, model_rows, write_both
from seatrial.bench.report_data import BenchReport, Finding
from seatrial.bench.side_by_side import LoadRow, SideBySide, leaders
from seatrial.bench.side_by_side_terminal import COLUMNS, cells_of, spread_in_words
from seatrial.conditions import condition_rows
from seatrial.config import encode_json
from seatrial.report import numbers, svg
from seatrial.report.blocks import facts, heading, section, table, unbroken
from seatrial.report.page import page
from seatrial.report.svg import element

LEAD = (
    "The median of the rounds, and the lowest and the highest of them. Latencies in milliseconds: "
    "percentiles rank failed requests as infinitely late, and a dash means that the sample of a "
    "round is too small. CPU: milliseconds of one core that the service takes for a good answer. "
    "Memory: the largest resident set of all its processes. Marked rows have most good answers: "
    "the best one, and those whose ranges overlap with its range."
)


def write_side_by_side(report: SideBySide, html: Path) -> tuple[Path, Path]:
    """Write the page, and the JSON beside it; see `seatrial.bench.report.write_report`."""
    return write_both(html, to_html(report), encode_json(report))


def to_html(report: SideBySide) -> str:
    """The page: no script, no request from outside."""
    machine, name = report.environment, str(report.deployment.get("model", "a deployment"))
    return page(
        f"Seatrial benchmark: {name}",
        heading(
            "Seatrial benchmark, side by side",
            report.of_kind("headline")[0].text,
            f"{name} \N{MIDDLE DOT} {numbers.date(report.created_at)} \N{MIDDLE DOT} "
            f"{machine.cpu.model}, {machine.cpu.cores} usable of {machine.cpu.cores_online} cores",
        ),
        _findings(report.of_kind("caveat"), "caveats"),
        section("Good answers a second", _figures(report)),
        *(
            section(f"{scenario}, {numbers.sessions(count)}", _rows(rows), lead=lead)
            for (scenario, count, rows), lead in zip(report.loads(), _leads(), strict=False)
        ),
        section("What it means", _findings(report.of_kind("explanation"))),
        section("Deployment", facts(flat(report.deployment))),
        *(
            section(setup.name, facts(_service(setup.reports[0])))
            for setup in report.setups
            if setup.reports
        ),
        section("Conditions", facts(_conditions(report))),
    )


def _figures(report: SideBySide) -> Markup:
    """A chart for each load."""
    caption = "Bars are medians, and lines go from the lowest round to the highest"
    figures = [
        element(
            "figure",
            element("h3", f"{scenario}, {numbers.sessions(count)}"),
            element("figcaption", caption),
            goodput([row for _, row in rows]),
            class_="card",
        )
        for scenario, count, rows in report.loads()
    ]
    return element("div", *figures, class_="charts apart")


def goodput(rows: Sequence[LoadRow]) -> Markup:
    """Goodput of each setup under one load, on one axis that begins at 0."""
    row_height, width, right = 36.0, 420.0, 64.0
    scale = (width - right) / (max(row.goodput_per_s.high for row in rows) or 1.0)
    parts = []
    for number, row in enumerate(rows):
        y, found = number * row_height, row.goodput_per_s
        tip = f"{row.runtime}, {row.protocol}: {spread_in_words(found)} good answers a second"
        parts.append(svg.text(f"{row.runtime}, {row.protocol}", 0.0, y + 12, "tick"))
        parts.append(svg.bar(0.0, y + 17, found.median * scale, 12.0, "bin", tip))
        parts.append(svg.line(found.low * scale, y + 23, found.high * scale, y + 23, "whisker s1"))
        value = numbers.significant(found.median)
        parts.append(svg.text(value, found.high * scale + 6, y + 27, "value"))
    return svg.drawing(width, row_height * len(rows), "Good answers a second", parts)


def _leads() -> Iterator[str]:
    """The words before the first table; nothing before the others."""
    yield LEAD
    while True:
        yield ""


def _rows(rows: Sequence[tuple[int, LoadRow]]) -> Markup:
    names = ["Runtime, protocol", *COLUMNS]
    cells = [[f"{row.runtime}, {row.protocol}", *cells_of(row)] for _, row in rows]
    return table(names, cells, marked=leaders([row for _, row in rows]))


def _findings(rows: Sequence[Finding], extra: str = "") -> Markup:
    """Sentences, each with the values that it quotes and where they stand in the JSON."""
    if not rows:
        return Markup()
    return element("ul", *map(_finding, rows), class_=f"findings card {extra}".rstrip())


def _finding(row: Finding) -> Markup:
    proofs = (
        element(
            "tr",
            element("td", element("code", proof.path)),
            element("td", str(proof.value)),
        )
        for proof in row.evidence
    )
    summary = element("summary", unbroken(row.text))
    details = element("details", summary, element("table", element("tbody", *proofs)))
    return element("li", details, class_=row.severity)


def _service(report: BenchReport) -> Iterator[tuple[str, str]]:
    yield "image as", image_as(report.target)
    yield "path", report.target.path
    yield from model_rows(report.model)


def _conditions(report: SideBySide) -> Iterator[tuple[str, str]]:
    images, options = report.images, report.options
    yield "images", f"{images.folder}: {images.used} of {images.found}, seed {images.seed}"
    yield "digest of the images", images.digest
    yield "rounds", str(report.rounds)
    yield "warm-up", f"{numbers.seconds(options.warmup_s)} before each load"
    if options.latency_limit_ms is not None:
        yield "good within", numbers.milliseconds(options.latency_limit_ms)
    yield "took", numbers.seconds(report.elapsed_s)
    made = conditions_of(report.created_at, report.command, report.environment)
    yield from condition_rows(made)


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The keys of a deployment that say something, as its file names them."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        elif value not in (None, "", [], ()):
            yield f"{prefix}{key}", str(value)
