"""The page of a verdict, ``verdict.html``, with those of accuracy and load beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from markupsafe import Markup

from seatrial.accuracy import html_report as accuracy_page
from seatrial.accuracy.evaluate import Evaluation
from seatrial.bench import report as bench_page
from seatrial.bench.measurement import Measurement
from seatrial.bench.report_charts import distribution, latency, latency_names, throughput
from seatrial.bench.report_data import BenchReport
from seatrial.conditions import condition_rows
from seatrial.config import encode_json
from seatrial.gate import reasons
from seatrial.report import numbers
from seatrial.report.blocks import clauses, facts, heading, section, tiles, verdict_title
from seatrial.report.numbers import counted
from seatrial.report.page import page as html_page
from seatrial.report.svg import element
from seatrial.system.files import check_place, check_writable, write_atomically, writing
from seatrial.trial.plan import JudgePlan
from seatrial.trial.report import VERDICT, VerdictReport
from seatrial.trial.run import Judgement
from seatrial.trial.verdict import SPOILED

# All that `write_verdict` may write.
FILES = (
    "verdict.html", VERDICT, "accuracy.html", "accuracy.json", "report.html", "report.json",
)  # fmt: skip


def check_places(trial: JudgePlan, folder: Path) -> None:
    """Make the folder of the reports, and check that each can be written, before the measurement.

    Raises:
        InvalidInput: A report would overwrite a file that was read.
        NotWritable: The folder cannot be made or written to.
    """
    check_writable(folder)
    for name in FILES:
        check_place(folder / name, hint="name another folder (--output)", inputs=trial.read)


def write_verdict(made: Judgement, folder: Path) -> VerdictReport:
    """Write ``verdict.html`` and ``verdict.json``, and the reports that they rest on.

    Returns:
        The verdict with the names of the files.

    Raises:
        NotWritable: The folder cannot be written to.
    """
    files: dict[str, str] = {}
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if made.evaluation is not None:
            files |= {"accuracy": "accuracy.html", "accuracy_json": "accuracy.json"}
            page = accuracy_page.page(made.evaluation, made.scored)
            write_atomically(folder / "accuracy.html", page.encode())
            write_atomically(folder / "accuracy.json", encode_json(made.evaluation))
        if made.benchmark is not None:
            html, data = bench_page.write_report(made.benchmark, folder / "report.html")
            files |= {"load": html.name, "load_json": data.name}
        report = msgspec.structs.replace(made.report, files=files)
        page = to_html(report, made.evaluation, made.benchmark)
        write_atomically(folder / "verdict.html", page.encode())
        write_atomically(folder / VERDICT, encode_json(report))
    return report


def to_html(
    report: VerdictReport, evaluation: Evaluation | None, benchmark: BenchReport | None
) -> str:
    """The page: no script, no request; links lead to files of the same folder."""
    verdict, service = report.verdict, report.service
    name = str(service.get("name", service["url"]))
    ran = " ".join(str(service[key]) for key in ("engine", "device", "precision") if key in service)
    return html_page(
        f"Seatrial verdict: {verdict.name}",
        heading(
            "Seatrial verdict",
            f"{verdict_title(verdict)}: {name}.",
            *(f"{reason}." for reason in reasons(verdict.rows)),
            " \N{MIDDLE DOT} ".join(
                filter(None, (ran, service["url"], numbers.date(report.created_at)))
            ),
        ),
        section("Clauses", clauses(verdict)),
        *(() if evaluation is None else _accuracy(evaluation, report.files.get("accuracy"))),
        *(() if benchmark is None else _load(benchmark, report.files.get("load"))),
        section("Conditions", facts(_conditions(report, evaluation, benchmark))),
    )


def _accuracy(found: Evaluation, file: str | None) -> Iterator[Markup]:
    rows = () if found.verdict is None else found.verdict.rows
    yield section(
        "Accuracy",
        accuracy_page.interval_figure(found, rows),
        _link(file, "All figures of accuracy, by size and by class"),
        lead=f"{found.dataset}: {counted(found.images, 'image')}, "
        f"{counted(found.objects, 'object')}, measured "
        "through the service.",
    )


def _load(found: BenchReport, file: str | None) -> Iterator[Markup]:
    lone = _points(found, "single-stream")
    many = _points(found, "scaling")
    charts = [
        ("Goodput over sessions", "Good answers per second", throughput(many, None)),
        ("Latency over sessions", _legend(many), latency(many, None)),
        ("One request at a time", "Requests by latency", distribution(lone[0]) if lone else None),
    ]
    figures = [
        element(
            "figure",
            element("h3", title),
            element("figcaption", caption),
            chart,
            class_="card",
        )
        for title, caption, chart in charts
        if chart is not None
    ]
    yield section(
        "Latency and load",
        tiles(_figures(lone, many)),
        element("div", *figures, class_="charts apart"),
        _link(file, "All figures of the benchmark, and what they mean"),
        lead="Closed-loop: each session waits for its answer before it sends the next image.",
    )


def _figures(
    lone: Sequence[Measurement], many: Sequence[Measurement]
) -> Iterator[tuple[str, str, str]]:
    for point in lone:
        for name, found in point.latency.percentiles.items():
            value = numbers.optional(found.value_ms, numbers.milliseconds)
            bound = "no bound" if found.upper_ms is None else (
                f"at most {numbers.milliseconds(found.upper_ms)}"
            )  # fmt: skip
            yield f"Lone request, {name}", value, found.reason or bound
    points = [*lone, *many]
    # Where the load was scaled, its points alone, as the page of the benchmark has it.
    best = max(many or lone, key=lambda point: point.goodput_per_s)
    with_best = f"with {numbers.sessions(best.sessions)}"
    yield "Best goodput", numbers.per_second(best.goodput_per_s), with_best
    failed, requests = sum(p.failed for p in points), sum(p.good + p.failed for p in points)
    yield "Failed requests", f"{failed:,}", f"of {requests:,}"
    used = [p.usage.server.rss_peak_bytes for p in points if p.usage.server is not None]
    if used:
        yield "Memory, peak", numbers.mebibytes(max(used)), "resident, all processes"


def _points(report: BenchReport, scenario: str) -> tuple[Measurement, ...]:
    return next((run.points for run in report.runs if run.scenario == scenario), ())


def _legend(points: Sequence[Measurement]) -> Markup:
    names = latency_names(points)
    items = (
        element("li", element("i", class_="stroke", style=f"border-color: var(--{colour})"), name)
        for name, colour in names.items()
    )
    return Markup().join(["Milliseconds", element("ul", *items, class_="legend")])


def _link(file: str | None, words: str) -> Markup:
    if file is None:
        return Markup()
    return element("p", element("a", words, href=file), class_="more")


def _conditions(
    report: VerdictReport, evaluation: Evaluation | None, benchmark: BenchReport | None
) -> Iterator[tuple[str, str]]:
    yield from ((key, str(value)) for key, value in report.service.items())
    if evaluation is not None:
        yield "labelled images", f"{evaluation.dataset}, {evaluation.labels_digest}"
        yield "digest of the images", evaluation.images_digest or numbers.MISSING
    if benchmark is not None:
        cpu, images = benchmark.environment.cpu, benchmark.images
        yield "images sent", f"{images.folder}, {counted(images.used, 'file')}, {images.digest}"
        if report.conditions is None:
            yield "machine", f"{cpu.model}, {cpu.cores} usable of {cpu.cores_online} cores"
        if not benchmark.environment.local:
            yield "other load", "not known: the service runs on another machine"
        elif report.elsewhere is not None:
            most = numbers.percent(report.elsewhere)
            yield "other load", f"up to {most} of the cores; over {SPOILED:.0%} spoils a figure"
    yield "took", numbers.seconds(report.elapsed_s)
    yield from condition_rows(report.conditions)
    if report.conditions is None and report.command:
        yield "made by", report.command
