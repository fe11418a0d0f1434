"""The report: measurements, what is derived from them, and findings, as one JSON document."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from seatrial.bench.analysis import Analysis
from seatrial.bench.environment import Environment
from seatrial.bench.measurement import Measurement
from seatrial.bench.options import BenchOptions
from seatrial.gate import Verdict
from seatrial.load.ceiling import Ceiling
from seatrial.load.images import ImagesSummary
from seatrial.load.rate_search import RateSearch
from seatrial.load.target import Target
from seatrial.load.window import Loop

SCHEMA = "seatrial.bench/1"

Kind = Literal["headline", "caveat", "explanation", "advice"]
Severity = Literal["good", "info", "warn", "bad"]


class Run(msgspec.Struct, frozen=True):
    """One scenario and its measurements.

    Attributes:
        scenario: Its name: `single-stream`, `server`, ...
        points: Measurements, one for each load.
        loop: Whether the answers paced the requests (closed) or a schedule did (open).
        search: Search for the highest rate that holds a limit of latency; None without one.
        limit_ms: That limit.
        percentile: Percentile of latency that was held to it.
    """

    scenario: str
    points: tuple[Measurement, ...]
    loop: Loop = "closed"
    search: RateSearch | None = None
    limit_ms: float | None = None
    percentile: str = ""


class Evidence(msgspec.Struct, frozen=True):
    """A number or word of a sentence, and its place in the report.

    Attributes:
        path: JSON pointer into the report (RFC 6901).
        value: Value at that place.
        shown: Value as the sentence writes it.
    """

    path: str
    value: Any
    shown: str


class Finding(msgspec.Struct, frozen=True):
    """One conclusion from the measurements, with its evidence.

    Attributes:
        id: Stable name, for example `limit-cores`.
        kind: Summary, warning about the figures, explanation of them, or thing to change next.
        severity: `bad` where figures or service are not to be used as they are.
        text: The conclusion in a sentence or a few.
        evidence: Every number and name of `text`, in its order.
    """

    id: str
    kind: Kind
    severity: Severity
    text: str
    evidence: tuple[Evidence, ...]


class BenchReport(msgspec.Struct, frozen=True):
    """One benchmark of one service.

    Attributes:
        schema: Name and version of the document: `seatrial.bench/1`.
        created_at: Begin of the benchmark, UTC, ISO 8601.
        command: Command that made the report.
        elapsed_s: Time from the first question to the last answer.
        target: Address of the service, and how it was sent its images.
        options: Options of the benchmark.
        model: Answer of the service about itself; None where it gives none.
        images: The images that were sent.
        environment: Machine and software.
        runs: Scenarios with their measurements, in the order in which they were measured.
        analysis: Figures derived from the measurements.
        findings: Conclusions in words.
        verdict: Verdict on the latency and load clauses of a contract; None without one.
        ceiling: Own limit of the client on this machine; None where it was not measured, as in
            closed loops.
        interrupted: Whether Ctrl-C ended the benchmark: the rest of its loads is missing.
        failure: What ended it before its last load; empty where nothing did.
    """

    schema: str
    created_at: str
    command: str
    elapsed_s: float
    target: Target
    options: BenchOptions
    model: dict[str, Any] | None
    images: ImagesSummary
    environment: Environment
    runs: tuple[Run, ...]
    analysis: Analysis
    findings: tuple[Finding, ...]
    verdict: Verdict | None = None
    ceiling: Ceiling | None = None
    interrupted: bool = False
    failure: str = ""

    def of_kind(self, *kinds: str) -> list[Finding]:
        """The findings of these kinds, in order."""
        return [finding for finding in self.findings if finding.kind in kinds]

    def point(self, pointer: str) -> Measurement:
        """The measurement at a JSON pointer, ``/runs/1/points/0``."""
        _, _, run, _, index = pointer.split("/")
        return self.runs[int(run)].points[int(index)]
