"""One deployment on several runtimes and protocols, as rows of figures over the rounds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from seatrial import config
from seatrial.bench.environment import Environment
from seatrial.bench.measurement import Measurement
from seatrial.bench.options import BenchOptions
from seatrial.bench.report_data import BenchReport, Finding
from seatrial.load.images import ImagesSummary
from seatrial.load.samples import ProtocolName
from seatrial.load.statistics import PERCENTILES

SCHEMA = "seatrial.bench.side-by-side/1"


class Setup(msgspec.Struct, frozen=True):
    """A runtime and a protocol, and what was measured there.

    Attributes:
        runtime: Runtime that the deployment was started on.
        protocol: Protocol that it was measured by.
        reports: A whole benchmark for each round, in their order.
        missing: Why it was not measured, or not in all rounds; empty where it was.
        hint: What to do about that.
    """

    runtime: str
    protocol: ProtocolName
    reports: tuple[BenchReport, ...] = ()
    missing: str = ""
    hint: str = ""

    @property
    def name(self) -> str:
        """``triton, grpc``."""
        return f"{self.runtime}, {self.protocol}"


class Spread(msgspec.Struct, frozen=True):
    """A figure over the rounds: its median, lowest and highest value."""

    median: float
    low: float
    high: float


class LoadRow(msgspec.Struct, frozen=True):
    """The figures of one setup under one load.

    Attributes:
        rounds: Number of rounds that it was measured in.
        goodput_per_s: Good answers in a second.
        mean_ms: Mean latency of good answers; None where a round had none.
        percentiles: Latency by name; None where a round's sample is too small for it.
        cpu_ms: CPU time of the service for a good answer, milliseconds of one core; None where it
            is not known.
        memory_bytes: Largest resident set of all its processes, of all rounds; None where it is
            not known.
        good: Number of good answers in all rounds.
        failed: Number of failures in all rounds.
    """

    runtime: str
    protocol: ProtocolName
    scenario: str
    sessions: int
    rounds: int
    goodput_per_s: Spread
    mean_ms: Spread | None
    percentiles: dict[str, Spread | None]
    cpu_ms: Spread | None
    memory_bytes: int | None
    good: int
    failed: int


class SideBySide(msgspec.Struct, frozen=True):
    """A deployment measured on several runtimes and protocols.

    Attributes:
        created_at: Begin of the measurement, UTC, ISO 8601.
        command: Command that made the report.
        elapsed_s: Time that it took, starts of services included.
        deployment: What was started; address, files of TLS and tokens are those of each start.
        rounds: Number of rounds that were asked for.
        environment: The machine before the first load.
        setups: What was measured, in the order that was asked for.
        rows: Figures of each setup under each load.
    """

    schema: str
    created_at: str
    command: str
    elapsed_s: float
    deployment: dict[str, Any]
    options: BenchOptions
    rounds: int
    images: ImagesSummary
    environment: Environment
    setups: tuple[Setup, ...]
    rows: tuple[LoadRow, ...]
    findings: tuple[Finding, ...]

    def loads(self) -> Iterator[tuple[str, int, list[tuple[int, LoadRow]]]]:
        """Scenario and sessions of each load, and its rows with their numbers."""
        for scenario, sessions in dict.fromkeys((row.scenario, row.sessions) for row in self.rows):
            same = [
                (number, row)
                for number, row in enumerate(self.rows)
                if (row.scenario, row.sessions) == (scenario, sessions)
            ]
            yield scenario, sessions, same

    def of_kind(self, *kinds: str) -> list[Finding]:
        """The findings of these kinds, in order."""
        return [finding for finding in self.findings if finding.kind in kinds]


def read_side_by_side(path: Path) -> SideBySide:
    """Read the JSON back.

    Raises:
        InvalidConfig: The file cannot be read or is no such report.
    """
    hint = "give a report.json that seatrial bench wrote with several runtimes or protocols"
    return config.read_report(
        path, SideBySide, what="side-by-side report", hint=hint, schema=SCHEMA
    )


def rows_of(setups: Iterable[Setup]) -> tuple[LoadRow, ...]:
    """The figures of all setups that were measured, a row for each load."""
    return tuple(row for setup in setups for row in _rows(setup))


def _rows(setup: Setup) -> Iterator[LoadRow]:
    if not setup.reports:
        return
    for run, first in enumerate(setup.reports[0].runs):
        for index, _ in enumerate(first.points):
            points = [report.runs[run].points[index] for report in setup.reports]
            yield _row(setup, first.scenario, points)


def _row(setup: Setup, scenario: str, points: Sequence[Measurement]) -> LoadRow:
    peaks = [p.usage.server.rss_peak_bytes for p in points if p.usage.server is not None]
    return LoadRow(
        runtime=setup.runtime,
        protocol=setup.protocol,
        scenario=scenario,
        sessions=points[0].sessions,
        rounds=len(points),
        goodput_per_s=_spread([point.goodput_per_s for point in points]),
        mean_ms=over([point.latency.mean_ms for point in points]),
        percentiles={
            name: over([point.latency.at(name).value_ms for point in points])
            for name in PERCENTILES
        },
        cpu_ms=over([_cpu_ms(point) for point in points]),
        memory_bytes=max(peaks, default=None),
        good=sum(point.good for point in points),
        failed=sum(point.failed for point in points),
    )


def leaders(rows: Sequence[LoadRow]) -> list[int]:
    """Numbers of the rows with most good answers: the best, and those that overlap with it.

    The best comes first. Overlapping: the highest round of one reaches the lowest of the best.
    """
    best = max(range(len(rows)), key=lambda number: rows[number].goodput_per_s.median)
    low = rows[best].goodput_per_s.low
    near = (number for number, row in enumerate(rows) if row.goodput_per_s.high >= low)
    return [best, *(number for number in near if number != best)]


def _cpu_ms(point: Measurement) -> float | None:
    server = point.usage.server
    return None if server is None or not point.good else server.cpu_s / point.good * 1e3


def over(values: Sequence[float | None]) -> Spread | None:
    """The spread of a figure; None where a round has none."""
    known = [value for value in values if value is not None]
    return _spread(known) if len(known) == len(values) else None


def _spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))
