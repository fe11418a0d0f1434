"""A report as JSON and as one HTML file that opens offline and sends no request."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seatrial import config
from seatrial.bench import report_charts
from seatrial.bench.environment import Environment
from seatrial.bench.report_data import SCHEMA, BenchReport
from seatrial.bench.report_sections import loop_words, run_sections
from seatrial.conditions import Conditions, condition_rows
from seatrial.config import encode_json
from seatrial.load.statistics import PERCENTILES
from seatrial.load.target import Target
from seatrial.report import numbers
from seatrial.report.blocks import clauses, unbroken, verdict_title
from seatrial.report.page import head
from seatrial.system.files import write_atomically, writing

if TYPE_CHECKING:
    from jinja2 import Template

CARRIED = {"v2": "HTTP", "grpc": "gRPC"}  # protocol of a target -> what carries it
TEMPLATES = resources.files("seatrial.bench") / "templates"


def to_json(report: BenchReport) -> bytes:
    """The report as indented JSON, the document that evidence points into."""
    return encode_json(report)


def read_report(path: Path) -> BenchReport:
    """Read a report's JSON back.

    Raises:
        InvalidConfig: The file cannot be read or is no report.
    """
    hint = "give a report.json that seatrial bench wrote"
    return config.read_report(path, BenchReport, what="benchmark report", hint=hint, schema=SCHEMA)


def write_report(report: BenchReport, html: Path) -> tuple[Path, Path]:
    """Write the page, and the JSON beside it under the same name.

    Returns:
        Paths of the HTML and of the JSON file.

    Raises:
        NotWritable: The place cannot be written to.
    """
    return write_both(html, to_html(report), to_json(report))


def write_both(html: Path, text: str, document: bytes) -> tuple[Path, Path]:
    """Write a page and its JSON; see `write_report`."""
    data = html.with_suffix(".json")
    with writing(html):
        html.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(html, text.encode())
        write_atomically(data, document)
    return html, data


def to_html(report: BenchReport) -> str:
    """One self-contained page: no script, no outside request, light and dark, wide and narrow."""
    points = [(run, point) for run in report.runs for point in run.points]
    alone = None if report.analysis.alone is None else report.point(report.analysis.alone)
    arrivals = None if report.analysis.arrivals is None else report.point(report.analysis.arrivals)
    labelled = [
        (f"{run.scenario}, {point.load}", point.stages)
        for run, point in points
        if point.stages is not None and not point.void
    ]
    bars = report_charts.stage_bars(labelled)
    loop = loop_words(report)
    name = (report.model or {}).get("name", report.target.url)
    return _template().render(
        report=report,
        alone=alone,
        arrivals=arrivals,
        points=points,
        percentiles=tuple(PERCENTILES),
        loop=loop,
        sections=run_sections(report),
        stages=report_charts.stages(bars),
        legend={segment.name: segment.colour for bar in bars for segment in bar.segments},
        image_as=image_as(report.target),
        model=model_rows(report.model),
        made=list(
            condition_rows(conditions_of(report.created_at, report.command, report.environment))
        ),
        verdict_title="" if report.verdict is None else verdict_title(report.verdict),
        clauses="" if report.verdict is None else clauses(report.verdict),
        head=head(f"Seatrial benchmark, {loop}: {name}"),
    )


def conditions_of(created_at: str, command: str, machine: Environment) -> Conditions:
    """The conditions of a benchmark as every report has them."""
    return Conditions(
        created_at=created_at,
        command=command,
        system=machine.system,
        cpu=machine.cpu,
        memory_bytes=machine.memory_bytes,
        load_1min=machine.load_1min,
        versions=machine.versions,
    )


def image_as(target: Target) -> str:
    """How a service was sent its images."""
    if target.protocol in CARRIED:
        return f"element of BYTES, Open Inference Protocol over {CARRIED[target.protocol]}"
    return "raw body" if target.field is None else f"multipart field {target.field}"


def model_rows(model: dict[str, Any] | None) -> list[tuple[str, str]]:
    """The facts that a service tells of itself, a row for each."""
    rows = []
    for key, value in (model or {}).items():
        # 80 class names would bury the rest; they stand in the JSON.
        if isinstance(value, list) and len(value) > 12:
            rows.append((key, f"{len(value)} entries"))
        elif isinstance(value, dict):
            rows += [(f"{key}.{inner}", _short(item)) for inner, item in value.items()]
        else:
            rows.append((key, _short(value)))
    return rows


def _short(value: object) -> str:
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 160 else f"{text[:157]}..."


@functools.cache
def _template() -> Template:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., str]] = {
        "ms": numbers.milliseconds,
        "sig": numbers.significant,
        "rate": numbers.per_second,
        "percent": numbers.percent,
        "cores": numbers.cores,
        "mib": numbers.mebibytes,
        "kib": numbers.kibibytes,
        "seconds": numbers.seconds,
        "sessions": numbers.sessions,
        "short": _short,
        "capitalize_first": lambda words: words[:1].upper() + words[1:],
        "date": numbers.date,
        "unbroken": unbroken,
    }
    environment.filters.update(filters)
    return environment.get_template("report.html.j2")


def _source(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
