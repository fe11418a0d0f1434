"""The report of a trial, put together from its candidates, the race and the choice."""

from __future__ import annotations

import msgspec

from seatrial.conditions import Conditions
from seatrial.gate import Verdict
from seatrial.trial.choice import TrialChoice
from seatrial.trial.journal import Confirmed
from seatrial.trial.outcome import WORDS, caveats, nearest_miss, pareto_front
from seatrial.trial.preparation import Preparation, Prepared
from seatrial.trial.question import TrialPlan
from seatrial.trial.race import EQUAL, RaceResult
from seatrial.trial.served import Bench
from seatrial.trial.trial_report import TRIAL_SCHEMA, Miss, TrialReport, TrialRow


def summarise(
    plan: TrialPlan,
    preparation: Preparation,
    bench: Bench,
    result: RaceResult,
    choice: TrialChoice,
    here: Conditions,
) -> TrialReport:
    """The report of a trial: the choice, its figures, and all other candidates with the reason."""
    wanted_hz = bench.clause.rate_per_s
    chosen, verdict, capacity = choice.state, choice.verdict, choice.capacity
    name = "no candidate" if chosen is None else chosen.one.words
    default = result.capacities.get(preparation.default.one.key)
    times = None
    if capacity is not None and default is not None and default.rate_hz > 0:
        times = 1.0 if chosen is preparation.default else capacity.rate_hz / default.rate_hz
    timed = [(one, result.capacities.get(one.one.key)) for one in preparation.nearest()]
    miss = nearest_miss(plan.contract, verdict, name, timed, plan.machine.cores)
    passes = chosen is not None and verdict.outcome == "holds"
    deployment = ""
    if chosen is not None and capacity is not None and verdict.outcome != "fails":
        deployment = chosen.one.deployment(chosen.artifact).to_toml()
    equal = [] if capacity is None or chosen is None else _equal(result, chosen.one.key)
    headroom = capacity.rate_hz / wanted_hz - 1 if capacity is not None and passes else None
    rows = _rows(preparation, bench, result, choice if deployment else None)
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
        statement=_statement(verdict, name, choice, headroom, times, miss),
        rows=rows,
        conditions=here,
        caveats=caveats(
            bench.clause,
            capacity,
            passes=passes,
            seen_by_int8=seen,
            best_of=0 if choice.anew else result.raced,
        ),
        measured_anew=choice.anew,
    )


def _equal(result: RaceResult, key: str) -> list[str]:
    """Candidates whose capacity the race could not tell from the best one's."""
    best = result.capacities[key]
    return [
        other
        for other, found in result.capacities.items()
        if other != key and found.high_hz >= best.low_hz and found.rate_hz >= best.rate_hz * (
            1 - 2 * EQUAL)
    ]  # fmt: skip


def _statement(
    verdict: Verdict,
    name: str,
    choice: TrialChoice,
    headroom: float | None,
    times: float | None,
    miss: Miss | None,
) -> str:
    parts, capacity = [f"{WORDS[verdict.outcome]}: {name}."], choice.capacity
    if capacity is not None:
        parts.append(
            f"Capacity {capacity.rate_hz:.3g}/s ({capacity.low_hz:.3g} to {capacity.high_hz:.3g})"
            + (" by trials after the choice" if choice.anew else " in the race")
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
    preparation: Preparation, bench: Bench, result: RaceResult, choice: TrialChoice | None
) -> tuple[TrialRow, ...]:
    default = preparation.default.one.key
    rows = [
        _row(state, bench, result, choice, is_default=key == default)
        for key, state in preparation.found.items()
    ]
    front = pareto_front(rows)
    rows = [msgspec.structs.replace(row, on_front=row.key in front) for row in rows]

    def place(row: TrialRow) -> tuple[bool, float, float]:
        served = 0.0 if row.capacity is None else row.capacity.rate_hz
        return row.stage != "chosen", -served, -(row.raw_hz or 0.0)

    return tuple(sorted(rows, key=place))


def _row(
    state: Prepared,
    bench: Bench,
    result: RaceResult,
    choice: TrialChoice | None,
    *,
    is_default: bool,
) -> TrialRow:
    chosen = choice is not None and choice.state is state
    key, score = state.one.key, state.score
    ends = None if score is None else score.intervals.get("ap")
    capacity = choice.capacity if choice and chosen else result.capacities.get(key)
    confirmed = bench.journal.one(Confirmed, key)
    row = TrialRow(
        name=state.one.words,
        key=key,
        artifact=state.artifact,
        stage="not prepared",
        reason="" if chosen else state.reason or "another one did more in the race",
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
