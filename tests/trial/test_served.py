"""Turns of a search on a simulated service, and the benchmark of the choice."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bench_reports import build_open_point
from seatrial.config import encode_json
from seatrial.contract import Contract, LatencyClause, LoadClause, ServerClause
from seatrial.load.rate_search import RateTrial
from seatrial.trial.candidates import default_arrangement
from seatrial.trial.journal import RawEntry, TrialEntry, TrialJournal, TurnEntry
from seatrial.trial.preparation import Prepared
from seatrial.trial.served import Bench
from seatrial.trial.time_budget import TimeBudget
from simulated_servers import truth_of_constant
from simulated_trial import IMAGES, MACHINE, NANO, SERVED, SimulatedMachine

SERVER = ServerClause(10.0, 200.0, "p95")


def bench(
    folder: Path, simulated: SimulatedMachine, contract: Contract | None = None
) -> tuple[Bench, Prepared]:
    one = default_arrangement(NANO, MACHINE)
    state = Prepared(one, "nano", raw=RawEntry(one.key, 1 / simulated.image_s(one)))
    made = Bench(
        contract or Contract("street", server=SERVER), IMAGES, simulated,
        TrialJournal(folder, "question"), TimeBudget(900.0, now=simulated.now), folder,
        lambda words: None, benchmark=simulated.benchmark,
    )  # fmt: skip
    return made, state


def test_turns_add_up_and_each_is_as_long_as_was_asked(tmp_path: Path) -> None:
    simulated = SimulatedMachine()
    made, state = bench(tmp_path, simulated)
    for turn in range(1, 5):
        made.turn(state, 60.0)
        assert simulated.clock_s == pytest.approx(60.0 * turn, abs=6.0)
    found = made.capacity(state.one.key)
    assert found is not None
    truth = truth_of_constant(simulated.image_s(state.one) / SERVED, 0.2, 0.05)
    assert found.rate_hz == pytest.approx(truth, rel=0.12)
    spent_s = sum(turn.seconds for turn in made.journal.of(TurnEntry, state.one.key))
    assert made.known([state.one.key, "other"]) == {state.one.key: (found, spent_s)}


def test_void_trials_are_made_again(tmp_path: Path) -> None:
    made, state = bench(tmp_path, SimulatedMachine())
    for _ in range(6):
        made.journal.add(TrialEntry(state.one.key, RateTrial(10.0, 2.0, 20, 20, True)))
    assert made.trials(state.one.key) == ()
    assert made.capacity(state.one.key) is None
    assert made.turn(state, 40.0) is not None


def test_one_that_does_not_start_is_not_started_again(tmp_path: Path) -> None:
    simulated = SimulatedMachine()
    made, state = bench(tmp_path, simulated)
    simulated.broken = {state.one.words}
    assert made.turn(state, 30.0) is None
    spent_s = simulated.clock_s
    assert made.turn(state, 30.0) is None
    assert simulated.clock_s == spent_s
    assert made.known([state.one.key]) == {}


def test_a_confirmation_is_made_once_and_its_report_lies_in_the_folder(tmp_path: Path) -> None:
    simulated = SimulatedMachine()
    made, state = bench(tmp_path, simulated)
    first = made.confirm(state)
    assert first is not None
    assert (tmp_path / f"served-{state.one.key}.html").is_file()
    spent_s = simulated.clock_s
    again = made.confirm(state)
    assert again is not None
    assert again.runs == first.runs
    assert simulated.clock_s == spent_s
    assert made.reserve_s >= spent_s


@pytest.mark.parametrize("damage", ["gone", "torn", "void"])
def test_a_confirmation_that_says_nothing_is_made_again(tmp_path: Path, damage: str) -> None:
    simulated = SimulatedMachine()
    made, state = bench(tmp_path, simulated)
    first = made.confirm(state)
    assert first is not None
    file = tmp_path / f"served-{state.one.key}.json"
    if damage == "gone":
        file.unlink()
    elif damage == "torn":
        file.write_bytes(file.read_bytes()[:100])
    else:
        late = build_open_point(10.0, late_ms=60.0)
        run = msgspec.structs.replace(first.runs[0], points=(late,))
        file.write_bytes(encode_json(msgspec.structs.replace(first, runs=(run,))))
    spent_s = simulated.clock_s
    again = made.confirm(state)
    assert again is not None
    assert not again.runs[0].points[0].void
    assert simulated.clock_s > spent_s


def test_a_budget_that_is_too_short_for_the_percentile_is_told(tmp_path: Path) -> None:
    made, _ = bench(tmp_path, SimulatedMachine())
    assert made.shortage() == ""
    made.budget.whole_s = 60.0
    assert made.shortage() == (
        "p95 takes 130 requests, and a window of 12 s at 10/s has about 120: the verdict may stay "
        "open. --budget 2m is enough"
    )


def test_a_confirmation_measures_what_the_contract_has_clauses_for(tmp_path: Path) -> None:
    short, _ = bench(tmp_path, SimulatedMachine())
    contract = Contract(
        "street", latency=LatencyClause(50.0), load=LoadClause(memory_mib=500.0), server=SERVER
    )
    (tmp_path / "other").mkdir()
    long, _ = bench(tmp_path / "other", SimulatedMachine(), contract)
    assert long.reserve_s > short.reserve_s + 20.0
    assert long._confirmation().scenarios == ("single-stream", "server", "scaling")
    assert short._confirmation().scenarios == ("server",)
    # 130 requests and half as many more, at 10/s.
    assert short._confirmation().server_s == pytest.approx(19.5, abs=0.5)
