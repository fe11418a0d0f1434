"""The report: everything that was measured, derived and said, as one JSON document."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from seatrial.bench.analysis import Analysis
from seatrial.bench.environment import Environment
from seatrial.bench.measurement import Measurement
from seatrial.bench.scenarios import BenchOptions
from seatrial.load.images import ImagesSummary
from seatrial.load.target import Target

SCHEMA = "seatrial.bench/1"


class Run(msgspec.Struct, frozen=True):
    """One scenario and its points. `loop` says what kind of load it was."""

    scenario: str
    points: tuple[Measurement, ...]
    loop: Literal["closed"] = "closed"


class Evidence(msgspec.Struct, frozen=True):
    """A number or word of a sentence and where the report holds it.

    Attributes:
        path: JSON pointer into the report (RFC 6901).
        value: What lies there.
        shown: How the sentence writes it.
    """

    path: str
    value: Any
    shown: str


class Finding(msgspec.Struct, frozen=True):
    """One thing that follows from the measurements, and from what exactly.

    Attributes:
        id: Stable name, for example `limit-cores`.
        kind: What a reader does with it: the summary, a warning about the figures, an
            explanation of them, a thing to change next.
        severity: `bad` where figures or service are not to be used as they are.
    """

    id: str
    kind: Literal["headline", "caveat", "explanation", "advice"]
    severity: Literal["good", "info", "warn", "bad"]
    text: str
    evidence: tuple[Evidence, ...]


class BenchReport(msgspec.Struct, frozen=True):
    """One benchmark of one service.

    Attributes:
        created_at: UTC, ISO 8601.
        command: The command that made it.
        elapsed_s: From the first look at the service to the last answer.
        model: The service's answer about itself; None where it gives none.
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

    def of_kind(self, *kinds: str) -> list[Finding]:
        """The findings of these kinds, in order."""
        return [finding for finding in self.findings if finding.kind in kinds]
