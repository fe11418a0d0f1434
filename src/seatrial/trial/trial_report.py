"""The result of a trial as JSON: ``trial.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from seatrial import config
from seatrial.conditions import Conditions
from seatrial.contract import Contract
from seatrial.gate import Verdict
from seatrial.trial.race import Capacity

TRIAL_SCHEMA = "seatrial.trial/1"
TRIAL_JSON, TRIAL_PAGE, CHOSEN = "trial.json", "trial.html", "deployment.toml"
Stage = Literal["not prepared", "accuracy", "raw speed", "served", "chosen"]


class TrialRow(msgspec.Struct, frozen=True):
    """One candidate of a trial.

    Attributes:
        name: The arrangement in words.
        key: Its key in the journal and in names of files.
        artifact: Name of its artifact; empty where none was made.
        stage: The last stage that it reached.
        reason: Why it was not chosen; empty for the chosen one.
        ap: Average precision; None where it was not measured.
        ap_low: Lower end of its interval.
        ap_high: Upper end of its interval.
        accuracy: Outcome of the clauses on accuracy; empty where they were not judged.
        raw_hz: Images per second of its engine alone; None where it was not measured.
        capacity: Highest rate that holds, with its interval; None where it was not served.
        served_s: Time that it was served for, seconds.
        latency_ms: Percentile of the contract at the wanted rate; None where it was not measured,
            or the sample is too small for it.
        memory_bytes: Largest resident memory of its service; 0 where it is not known.
        on_front: Whether no other candidate is better in one of accuracy, capacity, latency and
            memory and as good in the others.
        is_default: Whether it is the deployment that names only the model.
        report: File of its benchmark at the wanted rate; empty without one.
    """

    name: str
    key: str
    artifact: str
    stage: Stage
    reason: str
    ap: float | None = None
    ap_low: float | None = None
    ap_high: float | None = None
    accuracy: str = ""
    raw_hz: float | None = None
    capacity: Capacity | None = None
    served_s: float = 0.0
    latency_ms: float | None = None
    memory_bytes: int = 0
    on_front: bool = False
    is_default: bool = False
    report: str = ""


class Miss(msgspec.Struct, frozen=True):
    """The reason why a contract is not held, and what would change that.

    Attributes:
        name: The candidate that came nearest, in words.
        clause: Name of the clause that binds it.
        give: What would have to give, one sentence each: rate, accuracy, cores.
    """

    name: str
    clause: str
    give: tuple[str, ...]


class TrialReport(msgspec.Struct, frozen=True):
    """A contract, the candidates, and the verdict.

    Attributes:
        schema: Name and version of the document: `seatrial.trial/1`.
        created_at: Begin of the last run, UTC, ISO 8601.
        command: Command that made the report.
        budget_s: Time that was allowed, seconds.
        elapsed_s: Time that all runs of the trial took, seconds.
        contract: Contract as it was read.
        models: Names of the models.
        verdict: Outcome of each clause for the chosen candidate, or for the nearest miss.
        chosen: Name of the chosen candidate; empty without one.
        deployment: The deployment that is recommended, TOML; empty without one.
        capacity: Its capacity; see `measured_anew`.
        headroom: Capacity over the wanted rate, less 1; None where the contract is not held.
        times_default: Its capacity over that of the default deployment; None where that was not
            measured.
        miss: The nearest miss; None where the contract holds.
        equal: Names of candidates that the race could not tell from the chosen one.
        statement: The result in a few sentences.
        rows: All candidates, the best first.
        conditions: The machine and its versions.
        caveats: What to know before the figures are used.
        measured_anew: Whether the capacity is from trials that no choice depended on; else it is
            the best of several noisy estimates of the race, which is too high.
    """

    schema: str
    created_at: str
    command: str
    budget_s: float
    elapsed_s: float
    contract: Contract
    models: tuple[str, ...]
    verdict: Verdict
    chosen: str
    deployment: str
    capacity: Capacity | None
    headroom: float | None
    times_default: float | None
    miss: Miss | None
    equal: tuple[str, ...]
    statement: str
    rows: tuple[TrialRow, ...]
    conditions: Conditions
    caveats: tuple[str, ...] = ()
    measured_anew: bool = False


def read_trial_report(path: Path) -> TrialReport:
    """Read a ``trial.json`` back.

    Raises:
        InvalidConfig: The file cannot be read or is no trial.
    """
    hint = "give a trial.json that seatrial trial wrote"
    return config.read_report(path, TrialReport, what="trial", hint=hint, schema=TRIAL_SCHEMA)
