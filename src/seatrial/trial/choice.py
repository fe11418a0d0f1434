"""The choice of a trial: the winner of the race, confirmed, and its capacity measured anew.

The winner of a race is the best of several noisy estimates: its own is too high, the more so the
more candidates are about equal, and an interval that was made for one of them is not made for the
best of all. What a report gives as capacity is therefore measured after the choice, by trials that
the choice did not depend on. The same goes for the window at the wanted rate: it is enough for the
first candidate that has one; one that is tried after others have failed theirs needs two.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from seatrial.bench.report_data import BenchReport
from seatrial.contract import Contract
from seatrial.gate import Row, Verdict
from seatrial.trial.outcome import capacity_row, doubt, together
from seatrial.trial.preparation import Preparation, Prepared
from seatrial.trial.race import Capacity, RaceResult
from seatrial.trial.served import Bench
from seatrial.trial.time_budget import VERDICT_S
from seatrial.trial.verdict import judge_contract

RANK = {"holds": 2, "undecided": 1, "fails": 0}


@dataclass(frozen=True)
class TrialChoice:
    """The candidate that is recommended, or came nearest.

    Attributes:
        state: The candidate; None where none was timed.
        verdict: Verdict on it.
        capacity: Its capacity: by trials after the choice where `anew`, else that of the race.
        anew: Whether no choice depends on the trials that the capacity is from.
    """

    state: Prepared | None
    verdict: Verdict
    capacity: Capacity | None = None
    anew: bool = False


def choose(preparation: Preparation, bench: Bench, result: RaceResult) -> TrialChoice:
    """Confirm the best candidates until one holds, and measure the capacity of the choice."""
    verdicts = _confirmed(preparation, bench, result)
    if verdicts:  # of equal ones, the accurate, then the fast
        state, verdict = max(
            verdicts,
            key=lambda one: (
                RANK[one[1].outcome],
                RANK[one[0].outcome],
                result.capacities[one[0].one.key].rate_hz,
            ),
        )
        return _measured(
            bench, result, TrialChoice(state, verdict, result.capacities[state.one.key])
        )
    nearest = preparation.nearest()
    if not nearest:
        return TrialChoice(None, together(bench.contract, [capacity_row(bench.clause, None)]))
    rows = nearest[0].verdict.rows if nearest[0].verdict else ()
    rate = [] if nearest[0].outcome == "fails" else [capacity_row(bench.clause, None)]
    return TrialChoice(nearest[0], together(bench.contract, rows, rate))


def _confirmed(
    preparation: Preparation, bench: Bench, result: RaceResult
) -> list[tuple[Prepared, Verdict]]:
    """Candidates with their verdicts, the best first, up to one that holds."""
    wanted_hz = bench.clause.rate_per_s
    found: list[tuple[Prepared, Verdict]] = []

    def misses(state: Prepared) -> bool:
        """Whether it is known to miss the accuracy or the rate."""
        return state.outcome == "fails" or result.capacities[state.one.key].high_hz < wanted_hz

    ordered = sorted(
        (preparation.found[key] for key in result.order),
        key=lambda one: (
            not misses(one),
            RANK[one.outcome],
            result.capacities[one.one.key].rate_hz,
        ),
        reverse=True,
    )
    windows = 0
    for state in ordered:
        # The first one is confirmed in the time that was kept for it; further ones where there is
        # time left.
        report = None
        if bench.is_confirmed(state) or (
            not misses(state) and (not found or bench.budget.left_s(bench.reserve_s) > 0)
        ):
            report = bench.confirm(state)
        failure = bench.failures.get(state.one.key, "")
        failed = f"its service failed at the wanted rate: {failure}" if failure else ""
        verdict = _judge(bench.contract, state, result.capacities[state.one.key], report, failed)
        if report is not None and windows and verdict.outcome == "holds":
            verdict = _twice(bench, state, verdict, windows)
        windows += report is not None
        found.append((state, verdict))
        if verdict.outcome == "holds":
            break
    return found


def _judge(
    contract: Contract,
    state: Prepared,
    capacity: Capacity | None,
    report: BenchReport | None,
    unmeasured: str = "",
) -> Verdict:
    """All clauses: accuracy in process, the rest on the service.

    Without a measurement at the wanted rate nothing holds: a candidate that failed there, or that
    nobody measured there, is not recommended for what a search showed.
    """
    assert contract.server is not None  # noqa: S101 - the plan has checked
    accuracy: tuple[Row, ...] = () if state.verdict is None else state.verdict.rows
    if report is None:
        row = capacity_row(contract.server, capacity)
        if row.outcome != "fails":
            # The search says nothing of lone requests, of memory, nor of a window that is whole.
            row = doubt(row, unmeasured or "there was no time to measure it at the wanted rate")
        return together(contract, accuracy, [row])
    return together(contract, accuracy, judge_contract(contract, report=report).rows)


def _twice(bench: Bench, state: Prepared, first: Verdict, before: int) -> Verdict:
    """Verdict by a second window: of many that are tried in turn, one holds by luck in one."""
    report = None
    if bench.is_confirmed(state, window=2) or bench.budget.left_s(bench.reserve_s) > 0:
        report = bench.confirm(state, window=2)
    if report is not None:
        second = _judge(bench.contract, state, None, report)
        return min(first, second, key=lambda one: RANK[one.outcome])
    others = "another one" if before == 1 else f"{before} others"
    reason = (
        f"it held in one window, after {others} did not: one of several does so by luck, and "
        "there was no time for a second window (--budget)"
    )
    rate = [one for one in first.rows if one.clause.metric.startswith("server.")]
    rest = [one for one in first.rows if one not in rate]
    return together(bench.contract, rest, [doubt(one, reason) for one in rate])


def _measured(bench: Bench, result: RaceResult, choice: TrialChoice) -> TrialChoice:
    """The choice with a capacity by trials after it, where several have raced and time is left."""
    state, raced = choice.state, choice.capacity
    if state is None or raced is None:
        return choice
    key = state.one.key
    if result.raced < 2:  # nothing was chosen by it
        return replace(choice, anew=True)
    found = bench.capacity(key, anew=True)
    left_s = bench.budget.left_s(VERDICT_S)
    if not (found and found.settled) and left_s >= bench.shortest_s:
        found = bench.turn(state, left_s, anew=raced)
    if found is None:
        return choice
    verdict = choice.verdict
    if verdict.outcome == "holds" and found.high_hz < bench.clause.rate_per_s:
        row = capacity_row(bench.clause, found)
        words = "the window at the wanted rate holds, and the capacity by other trials lies below"
        verdict = together(bench.contract, verdict.rows, [doubt(row, words)])
    return TrialChoice(state, verdict, found, anew=True)
