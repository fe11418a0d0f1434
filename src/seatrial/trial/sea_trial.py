"""The trial: the best deployment for a contract on this machine, found within a budget of time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import msgspec

from seatrial.bench.report_data import BenchReport
from seatrial.bench.run import run_benchmark
from seatrial.conditions import Conditions
from seatrial.contract import Contract
from seatrial.errors import InvalidConfig
from seatrial.gate import Row, Verdict
from seatrial.load.images import ImageSet
from seatrial.progress import Progress, silent
from seatrial.system.files import write_atomically, writing
from seatrial.trial.candidates import Machine, TriedModel
from seatrial.trial.journal import Confirmed, TrialJournal
from seatrial.trial.outcome import (
    WORDS,
    capacity_row,
    caveats,
    nearest_miss,
    pareto_front,
    together,
)
from seatrial.trial.preparation import Preparation, Prepared, Workshop
from seatrial.trial.race import EQUAL, Capacity, Race, RaceResult
from seatrial.trial.served import Bench
from seatrial.trial.time_budget import TimeBudget
from seatrial.trial.trial_report import CHOSEN, TRIAL_SCHEMA, Miss, TrialReport, TrialRow
from seatrial.trial.verdict import judge_contract

# Most candidates that are served, and of those that cannot hold the contract, for the nearest miss.
MOST_SERVED, MOST_HOPELESS = 7, 2
# Raw speed over the wanted rate from which on a service is expected to hold it.
SPARE = 2.0


@dataclass
class TrialPlan:
    """The question of a trial, read and checked.

    Attributes:
        contract: The contract; it has a clause on the server.
        subjects: The models.
        machine: What can run here.
        images: Images that are sent.
        labels_digest: Digest of the labels; empty without any.
        budget_s: Time that is allowed, seconds.
        calibration_digest: Digest of the images that INT8 takes its ranges from; empty: those that
            are sent.
        seen_by_int8: Whether INT8 takes its ranges from the labelled images.
    """

    contract: Contract
    subjects: tuple[TriedModel, ...]
    machine: Machine
    images: ImageSet
    labels_digest: str
    budget_s: float
    calibration_digest: str = ""
    seen_by_int8: bool = False

    @property
    def key(self) -> str:
        """Digest of all that the measurements depend on."""
        images = self.images.summary.digest
        parts: tuple[object, ...] = (
            self.contract, self.subjects, self.machine, images, self.labels_digest
        )  # fmt: skip
        if self.calibration_digest:
            parts = (*parts, self.calibration_digest)
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def check_contract(contract: Contract) -> None:
    """Check that a contract asks what a trial answers.

    Raises:
        InvalidConfig: It has no clause on the server.
    """
    if contract.server is None:
        raise InvalidConfig(
            f"{contract.name!r} has no table [server]: there is no rate to hold",
            hint="for example rate_per_s = 20.0 and at_most_ms = 100.0",
        )


def run_trial(
    plan: TrialPlan,
    workshop: Workshop,
    folder: Path,
    *,
    here: Conditions,
    say: Callable[[str], object] = lambda words: None,
    on_progress: Progress = silent,
    benchmark: Callable[..., BenchReport] = run_benchmark,
    now: Callable[[], float] = monotonic,
) -> TrialReport:
    """Find the deployment, and judge it.

    A trial that was killed goes on where it was when it is run again with the same folder.

    Args:
        plan: The question.
        workshop: Makes artifacts, and starts services.
        folder: Folder of the journal and of the reports.
        here: Conditions, with the command.
        say: Called with each step, and each candidate that is dropped with the reason.
        on_progress: Called with the progress of measurements.
        benchmark: Measures a service.
        now: Clock, seconds.

    Raises:
        InvalidConfig: The folder has the journal of another trial.
        NotWritable: The folder cannot be written to.
    """
    check_contract(plan.contract)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    journal = TrialJournal(folder, plan.key)
    budget = TimeBudget(plan.budget_s, journal.spent_s, now)
    if journal.resumed:
        say(f"going on after {journal.spent_s:.0f} s: what is in {folder} is not measured again")
    preparation = Preparation(
        plan.contract, plan.subjects, plan.machine, workshop, journal, budget, say
    )
    bench = Bench(
        plan.contract, plan.images, workshop, journal, budget, folder, say, on_progress, benchmark
    )
    ready = preparation.run()
    result = _race(preparation, bench, ready, say)
    chosen, verdict = _choose(preparation, bench, result)
    report = _report(plan, preparation, bench, result, chosen, verdict, here)
    if report.deployment:
        with writing(folder):
            write_atomically(folder / CHOSEN, report.deployment.encode())
    return report


def _race(
    preparation: Preparation, bench: Bench, ready: list[Prepared], say: Callable[[str], object]
) -> RaceResult:
    """Serve what may win, and the default deployment; without any the nearest misses."""
    default = preparation.default
    ready = _sound(preparation, ready)
    served = ready[:MOST_SERVED]
    for state in ready[MOST_SERVED:]:
        preparation.drop(state, f"{MOST_SERVED} others have faster engines")
    if not served and any(one.outcome != "fails" for one in preparation.found.values()):
        served = [one for one in preparation.nearest() if one.outcome != "fails"][:MOST_HOPELESS]
    if default not in served and default.raw is not None and served:
        served = [*served, default]
    by_name = {state.one.key: state for state in served}

    def on_drop(key: str, reason: str) -> None:
        preparation.drop(by_name[key], reason)

    race = Race(
        list(by_name),
        lambda key, seconds: bench.turn(by_name[key], seconds),
        lambda: bench.budget.left_s(bench.reserve_s),
        shortest_s=bench.shortest_s,
        kept=[default.one.key, *(one.one.key for one in served if one.outcome == "holds")],
        known=bench.known(by_name),
        once=[default.one.key] if default.reason else [],
        on_drop=on_drop,
    )
    return race.run()


def _sound(preparation: Preparation, ready: list[Prepared]) -> list[Prepared]:
    """Those whose accuracy holds, where one of them may hold the rate; else all."""
    server = preparation.contract.server
    assert server is not None  # noqa: S101 - the plan has checked
    sound = [one for one in ready if one.outcome == "holds"]
    if not any(one.raw and one.raw.low_hz > SPARE * server.rate_per_s for one in sound):
        return ready
    for state in ready:
        if state not in sound:
            preparation.drop(state, "its accuracy is undecided, and that of others holds")
    return sound


def _choose(
    preparation: Preparation, bench: Bench, result: RaceResult
) -> tuple[Prepared | None, Verdict]:
    """The candidate that is recommended, or came nearest, with its verdict."""
    contract, wanted_hz = preparation.contract, bench.clause.rate_per_s
    rank = {"holds": 2, "undecided": 1, "fails": 0}
    verdicts: list[tuple[Prepared, Verdict]] = []

    def misses(state: Prepared) -> bool:
        """Whether it is known to miss the accuracy or the rate."""
        return state.outcome == "fails" or result.capacities[state.one.key].high_hz < wanted_hz

    ordered = sorted(
        (preparation.found[key] for key in result.order),
        key=lambda one: (
            not misses(one),
            rank[one.outcome],
            result.capacities[one.one.key].rate_hz,
        ),
        reverse=True,
    )
    for state in ordered:
        kept = bench.journal.one(Confirmed, state.one.key) is not None
        # The first one is confirmed in the time that was kept for it; further ones where there is
        # time left.
        enough = not verdicts or bench.budget.left_s(bench.reserve_s) > 0
        report = bench.confirm(state) if kept or (enough and not misses(state)) else None
        verdict = _judge(contract, state, result.capacities[state.one.key], report)
        verdicts.append((state, verdict))
        if verdict.outcome == "holds":
            break
    if verdicts:  # of equal ones, the accurate, then the fast
        return max(
            verdicts,
            key=lambda one: (
                rank[one[1].outcome],
                rank[one[0].outcome],
                result.capacities[one[0].one.key].rate_hz,
            ),
        )
    nearest = preparation.nearest()
    if not nearest:
        return None, together(contract, [capacity_row(bench.clause, None)])
    rows = nearest[0].verdict.rows if nearest[0].verdict else ()
    return nearest[0], together(contract, rows, [] if nearest[0].outcome == "fails" else [
        capacity_row(bench.clause, None)])  # fmt: skip


def _judge(
    contract: Contract, state: Prepared, capacity: Capacity, report: BenchReport | None
) -> Verdict:
    """All clauses: accuracy in process, the rest on the service."""
    assert contract.server is not None  # noqa: S101 - the plan has checked
    accuracy: tuple[Row, ...] = () if state.verdict is None else state.verdict.rows
    if report is None:
        return together(contract, accuracy, [capacity_row(contract.server, capacity)])
    return together(contract, accuracy, judge_contract(contract, report=report).rows)


def _report(
    plan: TrialPlan,
    preparation: Preparation,
    bench: Bench,
    result: RaceResult,
    chosen: Prepared | None,
    verdict: Verdict,
    here: Conditions,
) -> TrialReport:
    wanted_hz = bench.clause.rate_per_s
    name = "no candidate" if chosen is None else chosen.one.words
    capacity = None if chosen is None else result.capacities.get(chosen.one.key)
    default = result.capacities.get(preparation.default.one.key)
    times = None
    if capacity is not None and default is not None and default.rate_hz > 0:
        times = capacity.rate_hz / default.rate_hz
    timed = [(one, result.capacities.get(one.one.key)) for one in preparation.nearest()]
    miss = nearest_miss(plan.contract, verdict, name, timed, plan.machine.cores)
    passes = chosen is not None and verdict.outcome == "holds"
    deployment = ""
    if chosen is not None and capacity is not None and verdict.outcome != "fails":
        deployment = chosen.one.deployment(chosen.artifact).to_toml()
    equal = [] if capacity is None or chosen is None else _equal(result, chosen.one.key, capacity)
    headroom = capacity.rate_hz / wanted_hz - 1 if capacity is not None and passes else None
    rows = _rows(preparation, bench, result, chosen if deployment else None)
    scored = (one for one in preparation.found.values() if one.score is not None)
    seen = plan.seen_by_int8 and any(one.one.variant.int8 for one in scored)
    return TrialReport(
        schema=TRIAL_SCHEMA,
        created_at=here.created_at,
        command=here.command,
        budget_s=plan.budget_s,
        elapsed_s=bench.budget.spent_s,
        contract=plan.contract,
        models=tuple(subject.name for subject in plan.subjects),
        verdict=verdict,
        chosen=name if deployment else "",
        deployment=deployment,
        capacity=capacity,
        headroom=headroom,
        times_default=times,
        miss=miss,
        equal=tuple(preparation.found[key].one.words for key in equal),
        statement=_statement(verdict, name, capacity, headroom, times, miss),
        rows=rows,
        conditions=here,
        caveats=caveats(bench.clause, capacity, passes=passes, seen_by_int8=seen),
    )


def _equal(result: RaceResult, key: str, best: Capacity) -> list[str]:
    """Candidates whose capacity the race could not tell from the best one's."""
    return [
        other
        for other, found in result.capacities.items()
        if other != key and found.high_hz >= best.low_hz and found.rate_hz >= best.rate_hz * (
            1 - 2 * EQUAL)
    ]  # fmt: skip


def _statement(
    verdict: Verdict,
    name: str,
    capacity: Capacity | None,
    headroom: float | None,
    times: float | None,
    miss: Miss | None,
) -> str:
    parts = [f"{WORDS[verdict.outcome]}: {name}."]
    if capacity is not None:
        parts.append(
            f"Capacity {capacity.rate_hz:.3g}/s ({capacity.low_hz:.3g} to {capacity.high_hz:.3g})"
            + (f", {headroom:.0%} over the wanted rate." if headroom is not None else ".")
        )
    if times is not None:
        parts.append(f"That is about {times:.2g} times that of the default deployment.")
    if miss is not None:
        what = "Binding" if verdict.outcome == "fails" else "Open"
        parts.append(
            f"{what} clause: {miss.clause}. Would have to give: {'; or '.join(miss.give)}."
        )
    return " ".join(parts)


def _rows(
    preparation: Preparation, bench: Bench, result: RaceResult, chosen: Prepared | None
) -> tuple[TrialRow, ...]:
    default = preparation.default.one.key
    rows = [
        _row(state, bench, result, chosen=state is chosen, is_default=key == default)
        for key, state in preparation.found.items()
    ]
    front = pareto_front(rows)
    rows = [msgspec.structs.replace(row, on_front=row.key in front) for row in rows]

    def place(row: TrialRow) -> tuple[bool, float, float]:
        served = 0.0 if row.capacity is None else row.capacity.rate_hz
        return row.stage != "chosen", -served, -(row.raw_hz or 0.0)

    return tuple(sorted(rows, key=place))


def _row(
    state: Prepared, bench: Bench, result: RaceResult, *, chosen: bool, is_default: bool
) -> TrialRow:
    key, score = state.one.key, state.score
    ends = None if score is None else score.intervals.get("ap")
    capacity = result.capacities.get(key)
    confirmed = bench.journal.one(Confirmed, key)
    row = TrialRow(
        name=state.one.words,
        key=key,
        artifact=state.artifact,
        stage="not prepared",
        reason="" if chosen else state.reason or "another one has a higher capacity",
        ap=None if score is None else score.figures.get("ap"),
        ap_low=None if ends is None else ends.low,
        ap_high=None if ends is None else ends.high,
        accuracy="" if state.verdict is None else state.verdict.outcome,
        raw_hz=None if state.raw is None else state.raw.rate_hz,
        capacity=capacity,
        served_s=result.spent_s.get(key, 0.0),
        latency_ms=None if confirmed is None else _latency(bench, state),
        memory_bytes=bench.memory_bytes(key),
        is_default=is_default,
        report="" if confirmed is None else confirmed.file.replace(".json", ".html"),
    )
    stage = "chosen" if chosen else "served" if capacity else "raw speed" if state.raw else (
        "accuracy" if score else "not prepared")  # fmt: skip
    return msgspec.structs.replace(row, stage=stage)


def _latency(bench: Bench, state: Prepared) -> float | None:
    report = bench.confirm(state)
    runs = () if report is None else report.runs
    point = next((run.points[0] for run in runs if run.scenario == "server"), None)
    return None if point is None else point.latency.percentiles[bench.clause.percentile].value_ms
