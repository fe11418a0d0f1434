"""Two reports of benchmarks against each other: what they say, and what they do not.

A report is one run. The intervals of its own figures say how far its requests tell them; they hold
nothing of how the machine, or the service from start to start, differs between two runs. So the
answer is one about two runs, and a comparison of services measures them in turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from seatrial.bench.compare_options import MOST_FAILED, PER_SECOND, RATE, THROUGHPUT
from seatrial.bench.compare_report import (
    FIGURES,
    CompareReport,
    Contender,
    Contrast,
)
from seatrial.bench.compare_statistics import answer_of, ratio_of_two
from seatrial.bench.compare_words import statements_of
from seatrial.bench.measurement import Measurement
from seatrial.bench.report import read_report
from seatrial.bench.report_data import BenchReport
from seatrial.bench.run import IN_PROCESS
from seatrial.config import flag
from seatrial.errors import InvalidConfig
from seatrial.load.rate_search import RateSearch
from seatrial.load.statistics import INTERVAL_LEVEL
from seatrial.report.numbers import date

# Findings of a report on what spoiled its figures.
DISTURBED = ("other-load", "stolen-time", "repeatability")
ONE_RUN = (
    "Each report is one run, and the interval is that of their requests alone: what changed on the "
    "machine between the two runs, and how much a service differs from start to start, is not in "
    "it. Compare the deployments themselves: they are measured in turn."
)


def compare_reports(
    contenders: Sequence[Contender],
    paths: Sequence[Path],
    *,
    figure: str | None,
    sessions: int | None,
    law: str | None = None,
    margin: float,
    force: bool = False,
    command: str = "",
) -> CompareReport:
    """Compare reports of `seatrial bench` with the first of them.

    Args:
        contenders: One for each report.
        paths: The reports.
        figure: The figure that decides; None: p50 of lone requests, or the throughput of several.
        sessions: Sessions of the load that decides; None: the first load that all reports have.
        law: Arrival law of the load that decides, in words; None: any.
        margin: Share of 1 within which two services count as the same.
        force: Compare them also where machines or images differ.
        command: The command that a reader repeats this with.

    Raises:
        InvalidConfig: A file is no report, they have no load in common, or machines or images
            differ.
    """
    reports = [read_report(path) for path in paths]
    differing = list(_differences(reports))
    if differing and not force:
        raise InvalidConfig(
            f"the reports differ in more than their services: {'; '.join(differing)}",
            hint="measure both on one machine with the same images, or --force",
        )
    searched = None
    if figure is None and sessions is None and law is None:
        searched = _highest_rates(contenders, reports, margin)
    found = searched or _at_load(
        contenders, reports, figure, *_common(reports, sessions, law), margin, force=force
    )
    first = reports[0]
    report = CompareReport(
        created_at=first.created_at,
        command=command,
        elapsed_s=0.0,
        load=found.load,
        figure=found.figure,
        margin=margin,
        round_s=None,
        options=None,
        images=first.images,
        environment=first.environment,
        contenders=tuple(_with_model(one, it) for one, it in zip(contenders, reports, strict=True)),
        contrasts=found.contrasts,
        caveats=(
            *(f"Compared in spite of a difference (--force): {one}." for one in differing),
            *found.caveats,
            *_disturbed(contenders, reports),
            *_others(reports, found.load),
            f"{ONE_RUN} They were made {_dates(reports)}.",
        ),
    )
    return msgspec.structs.replace(report, statements=statements_of(report))


class _Found(msgspec.Struct, frozen=True):
    """Figures that were compared.

    Attributes:
        load: Load, or the question of the searches, in words.
        figure: The figure that decides.
        contrasts: All figures; that which decides first.
        caveats: What to know of it.
    """

    load: str
    figure: str
    contrasts: tuple[Contrast, ...]
    caveats: tuple[str, ...] = ()


def _at_load(
    contenders: Sequence[Contender],
    reports: Sequence[BenchReport],
    figure: str | None,
    load: str,
    points: Sequence[Measurement],
    margin: float,
    *,
    force: bool,
) -> _Found:
    """All figures at one load."""
    failing = tuple(
        f"{one.label} failed {point.failed} of {point.finished} requests at {load}"
        for one, point in zip(contenders, points, strict=True)
        if point.failed
    )
    if not force and any(point.failed > MOST_FAILED * point.finished for point in points):
        raise InvalidConfig(
            f"{'; '.join(failing)}: a service that fails has no latency to compare",
            hint="a lower load (seatrial bench), or --force",
        )
    decides = figure or (THROUGHPUT if points[0].sessions > 1 else "p50")
    names = [decides, *(name for name in FIGURES if name != decides)]
    contrasts = tuple(
        made
        for name in names
        for one, point in zip(contenders[1:], points[1:], strict=True)
        if (made := _contrast(one.label, name, _ends(points[0], name), _ends(point, name), margin))
    )
    if not any(one.figure == decides for one in contrasts):
        raise InvalidConfig(
            f"the reports have no interval of {decides} at {load}",
            hint="choose another --percentile, or another load by --sessions or --rate; or measure "
            "longer: seatrial bench",
        )
    return _Found(load, decides, contrasts, tuple(f"{one}." for one in failing))


def _highest_rates(
    contenders: Sequence[Contender], reports: Sequence[BenchReport], margin: float
) -> _Found | None:
    """The highest rates that searches of the same question found; None without such searches."""
    found = [
        {
            f"{run.scenario}, {report.options.arrivals}, {run.percentile} within "
            f"{run.limit_ms:g} ms": run.search
            for run in report.runs
            if run.search is not None and run.limit_ms is not None
        }
        for report in reports
    ]
    question = next((one for one in found[0] if all(one in other for other in found)), None)
    if question is None:
        return None
    searches = [one[question] for one in found]
    contrasts = []
    for one, search in zip(contenders[1:], searches[1:], strict=True):
        made = _contrast(one.label, RATE, _rate_ends(searches[0]), _rate_ends(search), margin)
        if made is None:
            raise InvalidConfig(
                f"a search has no interval of the highest rate ({question})",
                hint="search longer (seatrial bench server --search-s), or compare a load by "
                "--sessions or --rate",
            )
        contrasts.append(made)
    return _Found(question, RATE, tuple(contrasts))


def _rate_ends(search: RateSearch) -> tuple[float, float, float] | None:
    if not (search.bounded and search.low_hz > 0):
        return None
    return search.rate_hz, search.low_hz, search.high_hz


def _with_model(contender: Contender, report: BenchReport) -> Contender:
    return Contender(contender.label, contender.name, "report", None, report.model)


def _disturbed(contenders: Sequence[Contender], reports: Sequence[BenchReport]) -> Iterator[str]:
    """Sentences of the reports on their disturbances."""
    for one, report in zip(contenders, reports, strict=True):
        for finding in report.of_kind("caveat"):
            if finding.id in DISTURBED:
                yield f"The report {one.label} says: {finding.text}"


def _others(reports: Sequence[BenchReport], load: str) -> Iterator[str]:
    """Loads of all reports that were not compared."""
    common = set.intersection(*({*_loads(report)} for report in reports))
    others = [name for name in _loads(reports[0]) if name in common and name != load]
    if others:
        yield (
            f"Compared at {load}. Other loads of all reports: {'; '.join(others)} (--sessions, "
            "--rate)."
        )


def _loads(report: BenchReport) -> dict[str, Measurement]:
    """The loads that can be compared, by their names."""
    return {
        f"{run.scenario}, {point.load}": point
        for run in report.runs
        if run.search is None  # its trials are at rates that no other search has
        for point in run.points
        if not point.void
    }


def _dates(reports: Sequence[BenchReport]) -> str:
    return ", ".join(date(one.created_at) for one in reports)


def _differences(reports: Sequence[BenchReport]) -> Iterator[str]:
    """In what else than the service reports differ."""
    facts: dict[str, list[str]] = {
        "machine": [one.environment.cpu.model for one in reports],
        "usable cores": [str(one.environment.cpu.cores) for one in reports],
        "memory": [f"{one.environment.memory_bytes / 2**30:.0f} GiB" for one in reports],
        "images": [one.images.digest[:12] for one in reports],
        **{
            flag(key): [_told(getattr(one.options, key)) for one in reports]
            for key in ("latency_limit_ms", "client_processes", "timeout_s", "warmup_s")
        },
        "protocol": [one.target.protocol or "http" for one in reports],
        "place": [_place(one) for one in reports],
    }
    for name, values in facts.items():
        if len({*values}) > 1:
            yield f"{name} ({' and '.join(dict.fromkeys(values))})"


def _told(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


def _place(report: BenchReport) -> str:
    return "in process" if report.target == IN_PROCESS else "a service"


def _common(
    reports: Sequence[BenchReport], sessions: int | None, law: str | None
) -> tuple[str, list[Measurement]]:
    """The load that decides, and its measurement in each report."""
    found = [_loads(report) for report in reports]
    void = [
        f"{run.scenario}, {point.load}, is void in the report of {date(one.created_at)}"
        for one in reports
        for run in one.runs
        for point in run.points
        if point.void
    ]
    for load, point in found[0].items():
        wanted = sessions in (None, point.sessions) and law in (None, point.law)
        if wanted and all(load in one for one in found):
            return load, [one[load] for one in found]
    searches = [run.search for one in reports for run in one.runs if run.search is not None]
    if len(searches) > 1:
        void.append("trials of a search for the highest rate are not compared")
    loads = " and of ".join(", ".join(one) for one in found)
    raise InvalidConfig(
        f"the reports have no such load in common: those of {loads or 'none'}"
        + "".join(f"; {words}" for words in void),
        hint="run the same scenarios: seatrial bench SCENARIO",
    )


def _contrast(
    label: str,
    figure: str,
    ours: tuple[float, float, float] | None,
    theirs: tuple[float, float, float] | None,
    margin: float,
) -> Contrast | None:
    """A figure of two reports: value, lower and upper end of each."""
    if ours is None or theirs is None:
        return None
    ratio = ratio_of_two(ours, theirs, INTERVAL_LEVEL)
    answer = answer_of(ratio.inverse if figure in PER_SECOND else ratio, margin)
    return Contrast(label, figure, ours[0], theirs[0], ratio, answer)


def _ends(point: Measurement, figure: str) -> tuple[float, float, float] | None:
    """Value of a figure, lower and upper end of its interval; None where one is missing."""
    if figure == THROUGHPUT:
        interval = point.goodput_interval
        if interval is None or not interval.low_per_s > 0:
            return None
        return point.goodput_per_s, interval.low_per_s, interval.high_per_s
    found = point.latency.at(figure)
    if found.value_ms is None or found.low_ms is None or found.high_ms is None:
        return None
    if not found.low_ms > 0:
        return None
    return found.value_ms, found.low_ms, found.high_ms
