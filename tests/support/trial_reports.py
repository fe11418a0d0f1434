"""Reports of trials on a simulated machine."""

from __future__ import annotations

from pathlib import Path

from seatrial.conditions import conditions
from seatrial.contract import AccuracyClause, Contract, ServerClause
from seatrial.trial.question import TrialPlan
from seatrial.trial.sea_trial import run_trial
from seatrial.trial.trial_report import TrialReport
from simulated_trial import IMAGES, MACHINE, NANO, SimulatedMachine


def simulated_report(
    folder: Path, *, least_ap: float = 0.37, rate_per_s: float = 20.0
) -> TrialReport:
    """The report of a trial of 15 minutes, which takes a second or two."""
    simulated = SimulatedMachine()
    contract = Contract(
        "<street>", AccuracyClause(ap=least_ap), server=ServerClause(rate_per_s, 200.0, "p95")
    )
    plan = TrialPlan(contract, (NANO,), MACHINE, IMAGES, "labels", 900.0)
    return run_trial(
        plan, simulated, folder, here=conditions("seatrial trial"),
        benchmark=simulated.benchmark, now=simulated.now,
    )  # fmt: skip
