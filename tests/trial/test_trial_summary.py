"""The report of a trial says what its figures rest on."""

from __future__ import annotations

from pathlib import Path

import pytest

from seatrial.conditions import conditions
from seatrial.contract import Contract, ServerClause
from seatrial.gate import judge
from seatrial.trial.candidates import arrangements, default_arrangement
from seatrial.trial.choice import TrialChoice
from seatrial.trial.journal import RawEntry, TrialJournal
from seatrial.trial.preparation import Preparation, Prepared
from seatrial.trial.question import TrialPlan
from seatrial.trial.race import Capacity, RaceResult
from seatrial.trial.served import Bench
from seatrial.trial.time_budget import TimeBudget
from seatrial.trial.trial_report import TrialReport
from seatrial.trial.trial_summary import summarise
from simulated_trial import IMAGES, MACHINE, NANO, SimulatedMachine

CONTRACT = Contract("street", server=ServerClause(10.0, 200.0, "p95"))
DEFAULT = default_arrangement(NANO, MACHINE)
OTHER = next(one for one in arrangements([NANO], MACHINE) if one != DEFAULT)
RACED = {OTHER.key: Capacity(50.0, 45.0, 55.0), DEFAULT.key: Capacity(20.0, 18.0, 22.0)}


def summary(folder: Path, chosen: str, capacity: Capacity, *, anew: bool) -> TrialReport:
    simulated = SimulatedMachine()
    budget = TimeBudget(900.0, now=simulated.now)
    with TrialJournal(folder, "question") as journal:
        preparation = Preparation(
            CONTRACT, (NANO,), MACHINE, simulated, journal, budget, lambda words: None
        )
        bench = Bench(
            CONTRACT, IMAGES, simulated, journal, budget, folder, lambda words: None,
            benchmark=simulated.benchmark,
        )  # fmt: skip
        for one in (DEFAULT, OTHER):
            preparation.found[one.key] = Prepared(one, "nano", raw=RawEntry(one.key, 60.0))
        verdict = judge([], name="street")
        choice = TrialChoice(preparation.found[chosen], verdict, capacity, anew=anew)
        return summarise(
            TrialPlan(CONTRACT, (NANO,), MACHINE, IMAGES, "", 900.0), preparation, bench,
            RaceResult((OTHER.key, DEFAULT.key), RACED, {}, {}, decided=True, raced=2), choice,
            conditions("seatrial trial"),
        )  # fmt: skip


def test_all_figures_of_the_choice_are_those_after_it(tmp_path: Path) -> None:
    report = summary(tmp_path, OTHER.key, Capacity(44.0, 40.0, 48.0), anew=True)
    assert report.measured_anew
    assert report.capacity == Capacity(44.0, 40.0, 48.0)
    assert report.headroom == pytest.approx(3.4)
    assert report.times_default == pytest.approx(2.2)
    assert "Capacity 44/s (40 to 48) by trials after the choice" in report.statement
    assert not report.caveats
    rows = {row.key: row.capacity for row in report.rows}
    assert rows == {OTHER.key: report.capacity, DEFAULT.key: RACED[DEFAULT.key]}


def test_the_figure_of_the_race_is_told_as_that(tmp_path: Path) -> None:
    report = summary(tmp_path, OTHER.key, RACED[OTHER.key], anew=False)
    assert not report.measured_anew
    assert "Capacity 50/s (45 to 55) in the race" in report.statement
    assert ["best of the 2 that raced" in one for one in report.caveats] == [True]


def test_the_default_is_as_good_as_itself(tmp_path: Path) -> None:
    report = summary(tmp_path, DEFAULT.key, Capacity(17.0, 15.0, 19.0), anew=True)
    assert report.times_default == 1.0
