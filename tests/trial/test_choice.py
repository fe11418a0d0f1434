"""The choice: confirmed, and its capacity by trials that no choice depended on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench_reports import build_open_point, build_report
from seatrial.bench.options import BenchOptions
from seatrial.bench.report_data import BenchReport
from seatrial.contract import Contract, ServerClause
from seatrial.errors import ServiceFailed
from seatrial.load.rate_search import RateTrial
from seatrial.load.target import Target
from seatrial.trial.candidates import arrangements
from seatrial.trial.choice import TrialChoice, choose
from seatrial.trial.journal import Confirmed, RawEntry, TrialEntry, TrialJournal, TurnEntry
from seatrial.trial.preparation import Preparation, Prepared
from seatrial.trial.race import Capacity, RaceResult
from seatrial.trial.served import AFTERWARDS, Bench
from seatrial.trial.time_budget import TimeBudget
from simulated_trial import IMAGES, MACHINE, NANO, SimulatedMachine

SERVER = ServerClause(10.0, 200.0, "p95")
CONTRACT = Contract("street", server=SERVER)


class Windows(SimulatedMachine):
    """Windows at the wanted rate that hold or not, as they are listed; then all hold."""

    def __init__(self, *held: bool) -> None:
        super().__init__()
        self._held = list(held)
        self.windows = 0

    def benchmark(
        self, target: Target, options: BenchOptions, *rest: Any, **more: Any
    ) -> BenchReport:
        if more.get("trials") is not None:
            return super().benchmark(target, options, *rest, **more)
        self.windows += 1
        self.clock_s += options.server_s or 0.0
        good = self._held.pop(0) if self._held else True
        point = build_open_point(options.rates[0], 40.0 if good else 400.0, seconds=100.0)
        return build_report(IMAGES.summary, server=[point])


class Stage:
    """Some candidates that have raced, and a bench."""

    def __init__(
        self, folder: Path, simulated: SimulatedMachine, *rates_hz: float, budget_s: float = 900.0
    ) -> None:
        self.simulated = simulated
        self.journal = TrialJournal(folder, "question")
        budget = TimeBudget(budget_s, now=simulated.now)
        self.preparation = Preparation(
            CONTRACT, (NANO,), MACHINE, simulated, self.journal, budget, lambda words: None
        )
        self.bench = Bench(
            CONTRACT, IMAGES, simulated, self.journal, budget, folder, lambda words: None,
            benchmark=simulated.benchmark,
        )  # fmt: skip
        found = arrangements([NANO], MACHINE)[: len(rates_hz)]
        for one in found:
            raw = RawEntry(one.key, 1 / simulated.image_s(one))
            self.preparation.found[one.key] = Prepared(one, "nano", raw=raw)
        self.keys = [one.key for one in found]
        capacities = {
            key: Capacity(rate_hz, 0.9 * rate_hz, 1.1 * rate_hz)
            for key, rate_hz in zip(self.keys, rates_hz, strict=True)
        }
        self.result = RaceResult(
            tuple(self.keys), capacities, {}, {}, decided=True, raced=len(rates_hz)
        )

    def choose(self) -> TrialChoice:
        return choose(self.preparation, self.bench, self.result)


def test_the_capacity_is_from_trials_after_the_choice_alone(tmp_path: Path) -> None:
    """What the race has measured of it says 500/s, which counts nowhere."""
    stage = Stage(tmp_path, SimulatedMachine(), 500.0, 400.0)
    lucky = RateTrial(500.0, 100.0, 50_000, 0, False, (0,), (50_000,))
    for _ in range(5):
        stage.journal.add(TrialEntry(stage.keys[0], lucky))
    made = stage.choose()
    assert made.anew
    assert made.capacity == stage.bench.capacity(stage.keys[0], anew=True)
    assert made.capacity is not None
    truth_hz = 0.9 / SimulatedMachine.image_s(arrangements([NANO], MACHINE)[0])
    assert 0.5 * truth_hz < made.capacity.rate_hz < 1.1 * truth_hz
    trials = stage.journal.of(TrialEntry, f"{stage.keys[0]}{AFTERWARDS}")
    assert trials
    assert lucky not in [one.trial for one in trials]
    assert made.verdict.outcome == "holds"


def test_the_one_that_raced_alone_is_no_best_of_several(tmp_path: Path) -> None:
    stage = Stage(tmp_path, SimulatedMachine(), 40.0)
    made = stage.choose()
    assert (made.anew, made.capacity) == (True, stage.result.capacities[stage.keys[0]])
    assert not stage.journal.of(TurnEntry, f"{stage.keys[0]}{AFTERWARDS}")


def test_without_time_the_capacity_is_that_of_the_race_and_says_so(tmp_path: Path) -> None:
    simulated = SimulatedMachine()
    stage = Stage(tmp_path, simulated, 40.0, 30.0)
    simulated.clock_s = 870.0
    made = stage.choose()
    assert (made.anew, made.capacity) == (False, stage.result.capacities[stage.keys[0]])


def test_a_capacity_that_was_measured_anew_is_not_measured_again(tmp_path: Path) -> None:
    stage = Stage(tmp_path, SimulatedMachine(), 40.0, 30.0)
    first = stage.choose()
    done = sum(stage.simulated.done.values())
    stage.simulated.clock_s = 890.0
    assert stage.choose() == first
    assert sum(stage.simulated.done.values()) == done


def test_a_capacity_below_the_wanted_rate_leaves_a_window_that_holds_undecided(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path, Windows(), 40.0, 30.0)
    slow = [RateTrial(rate, 60.0, int(60 * rate), int(30 * rate), False) for rate in (4.0, 8.0)]
    slow += [RateTrial(rate, 60.0, int(60 * rate), 0, False) for rate in (1.0, 2.0)]
    key = f"{stage.keys[0]}{AFTERWARDS}"
    for trial in slow:
        stage.journal.add(TrialEntry(key, trial))
    stage.journal.add(TurnEntry(key, 240.0))
    stage.simulated.clock_s = 860.0
    made = stage.choose()
    assert made.capacity is not None
    assert made.capacity.high_hz < SERVER.rate_per_s
    assert made.verdict.outcome == "undecided"
    assert [row.reason for row in made.verdict.rows if "lies below" in row.reason]


@pytest.mark.parametrize(
    ("held", "outcome", "windows"),
    [
        ([True], "holds", 1),
        # One after another that did not: its first window may be luck.
        ([False, True, True], "holds", 3),
        ([False, True, False], "fails", 3),
        ([False, False, True, True], "holds", 4),
    ],
)  # fmt: skip
def test_who_is_tried_after_others_have_failed_needs_two_windows(
    tmp_path: Path, held: list[bool], outcome: str, windows: int
) -> None:
    count = 1 if held[0] else 2 + (held[1] is False)
    stage = Stage(tmp_path, Windows(*held), *[40.0, 39.0, 38.0][:count])
    made = stage.choose()
    assert made.verdict.outcome == outcome
    assert isinstance(stage.simulated, Windows)
    assert stage.simulated.windows == windows
    # Resumed, it says the same, and measures no window again.
    assert stage.choose().verdict == made.verdict
    assert stage.simulated.windows == windows


def test_one_window_after_others_is_undecided_where_there_is_no_time_for_two(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path, Windows(False, True), 40.0, 39.0)
    stage.simulated.clock_s = 860.0 - stage.bench.reserve_s
    made = stage.choose()
    assert made.state is stage.preparation.found[stage.keys[1]]
    assert made.verdict.outcome == "undecided"
    assert [row.reason for row in made.verdict.rows if "no time for a second window" in row.reason]
    assert len([one for one in stage.journal.entries if isinstance(one, Confirmed)]) == 2


def test_none_that_was_timed_is_no_choice(tmp_path: Path) -> None:
    stage = Stage(tmp_path, SimulatedMachine())
    made = stage.choose()
    assert (made.state, made.capacity, made.verdict.outcome) == (None, None, "undecided")


class Dying(Windows):
    """Services that die at the wanted rate."""

    def benchmark(
        self, target: Target, options: BenchOptions, *rest: Any, **more: Any
    ) -> BenchReport:
        if more.get("trials") is None:
            raise ServiceFailed("the service stopped answering after 12 good answers")
        return super().benchmark(target, options, *rest, **more)


def test_a_candidate_whose_service_dies_at_the_wanted_rate_is_not_recommended(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path, Dying(), 40.0, 30.0)
    choice = choose(stage.preparation, stage.bench, stage.result)
    assert choice.verdict.outcome == "undecided"
    (row,) = choice.verdict.rows
    assert "its service failed at the wanted rate: the service stopped answering" in row.reason


def test_a_candidate_that_was_not_measured_at_the_wanted_rate_does_not_hold(
    tmp_path: Path,
) -> None:
    """The first one fails there, and no time is left for the second."""
    stage = Stage(tmp_path, Windows(False), 40.0, 30.0)
    stage.simulated.clock_s = stage.bench.budget.whole_s - stage.bench.reserve_s
    choice = choose(stage.preparation, stage.bench, stage.result)
    assert choice.verdict.outcome == "undecided"
    assert any("no time to measure it at the wanted rate" in row.reason
               for row in choice.verdict.rows)  # fmt: skip
