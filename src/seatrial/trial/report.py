"""The verdict on a service as JSON, and the files that are written beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from seatrial import config
from seatrial.conditions import Conditions
from seatrial.contract import Contract
from seatrial.gate import Verdict

SCHEMA = "seatrial.verdict/1"
VERDICT = "verdict.json"


class VerdictReport(msgspec.Struct, frozen=True):
    """A contract, a service, and the verdict.

    Attributes:
        created_at: Begin of the measurement, UTC, ISO 8601.
        command: Command that made the report.
        elapsed_s: Time that was measured for, seconds.
        contract: Contract as it was read.
        service: Address, and what the service says of itself: name, digest, engine, device,
            precision.
        verdict: Outcome of each clause, and of all.
        elsewhere: Largest share of the cores that other load had in a window of the benchmark,
            0-1; None without a benchmark.
        conditions: The machine of the client and its versions; None in reports of earlier versions.
        files: Name -> file beside this one: pages and JSON of accuracy and load.
    """

    schema: str
    created_at: str
    command: str
    elapsed_s: float
    contract: Contract
    service: dict[str, Any]
    verdict: Verdict
    elsewhere: float | None = None
    files: dict[str, str] = {}
    conditions: Conditions | None = None


def read_verdict(path: Path) -> VerdictReport:
    """Read a ``verdict.json`` back.

    Raises:
        InvalidConfig: The file cannot be read or is no verdict.
    """
    hint = "give a verdict.json that seatrial judge wrote"
    return config.read_report(path, VerdictReport, what="verdict", hint=hint, schema=SCHEMA)
