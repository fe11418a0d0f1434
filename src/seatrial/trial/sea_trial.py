"""The trial: the best deployment for a contract on this machine, found within a budget of time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic

from seatrial.bench.report_data import BenchReport
from seatrial.bench.run import run_benchmark
from seatrial.conditions import Conditions
from seatrial.progress import Progress, silent
from seatrial.system.files import write_atomically, writing
from seatrial.trial.choice import choose
from seatrial.trial.journal import TrialJournal
from seatrial.trial.preparation import Preparation, Prepared, Workshop
from seatrial.trial.question import TrialPlan, check_contract
from seatrial.trial.race import Race, RaceResult
from seatrial.trial.served import Bench
from seatrial.trial.time_budget import TimeBudget
from seatrial.trial.trial_report import CHOSEN, TrialReport
from seatrial.trial.trial_summary import summarise

# Most candidates that are served, and of those that cannot hold the contract, for the nearest miss.
MOST_SERVED, MOST_HOPELESS = 7, 2
# Raw speed over the wanted rate from which on a service is expected to hold it.
SPARE = 2.0


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
        InvalidConfig: The folder has the journal of another trial, or one that is running.
        NotWritable: The folder cannot be written to.
    """
    check_contract(plan.contract)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with TrialJournal(folder, plan.key, plan.parts) as journal:
        budget = TimeBudget(plan.budget_s, journal.spent_s, now)
        if journal.resumed:
            say(
                f"going on after {journal.spent_s:.0f} s: what is in {folder} is not measured again"
            )
        preparation = Preparation(
            plan.contract, plan.subjects, plan.machine, workshop, journal, budget, say
        )
        bench = Bench(
            plan.contract,
            plan.images,
            workshop,
            journal,
            budget,
            folder,
            say,
            on_progress,
            benchmark,
        )
        if words := bench.shortage():
            say(words)
        ready = preparation.run()
        result = _race(preparation, bench, ready, say)
        choice = choose(preparation, bench, result)
        report = summarise(plan, preparation, bench, result, choice, here)
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
    once = [default.one.key] if default.reason else []
    several = len({*by_name} - {*once}) > 1  # the best of one is not chosen by its figure

    def on_drop(key: str, reason: str) -> None:
        preparation.drop(by_name[key], reason)

    race = Race(
        list(by_name),
        lambda key, seconds: bench.turn(by_name[key], seconds),
        lambda: bench.budget.left_s(bench.reserve_s + (bench.anew_s if several else 0.0)),
        shortest_s=bench.shortest_s,
        kept=[default.one.key, *(one.one.key for one in served if one.outcome == "holds")],
        known=bench.known(by_name),
        once=once,
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
