"""The preparation: cheapest first, and nothing is made that cannot win."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from seatrial.contract import AccuracyClause, Contract, ServerClause
from seatrial.errors import DeviceUnavailable
from seatrial.gate import Interval
from seatrial.trial.candidates import Arrangement, TriedModel
from seatrial.trial.journal import RawEntry, ScoreEntry, TrialJournal
from seatrial.trial.preparation import (
    Preparation,
    accuracy_of,
    drop_of,
    median_rounds,
)
from seatrial.trial.time_budget import TimeBudget
from simulated_trial import MACHINE, NANO, SimulatedMachine

SERVER = ServerClause(20.0, 200.0, "p95")


def preparation(
    folder: Path,
    simulated: SimulatedMachine,
    contract: Contract,
    *,
    budget_s: float = 3600.0,
    subjects: tuple[TriedModel, ...] = (NANO,),
) -> tuple[Preparation, list[str]]:
    said: list[str] = []
    made = Preparation(
        contract, subjects, MACHINE, simulated, TrialJournal(folder, "question"),
        TimeBudget(budget_s, now=simulated.now), said.append,
    )  # fmt: skip
    return made, said


def test_the_default_is_first_and_small_canvases_follow(tmp_path: Path) -> None:
    contract = Contract("street", AccuracyClause(ap=0.37), server=SERVER)
    made, said = preparation(tmp_path, SimulatedMachine(), contract)
    ready = made.run()
    assert said[0] == "making nano 640 px"
    assert said[3] == "making nano 320 px"
    assert ready[0].one.words.startswith("nano 416 px int8, openvino bf16")
    assert {one.outcome for one in ready} == {"holds"}


def test_int8_is_not_made_of_what_fails_the_accuracy(tmp_path: Path) -> None:
    contract = Contract("street", AccuracyClause(ap=0.37), server=SERVER)
    made, said = preparation(tmp_path, SimulatedMachine(), contract)
    made.run()
    assert not any(words.startswith("making nano 320 px int8") for words in said)
    reasons = {one.one.words: one.reason for one in made.found.values()}
    assert reasons["nano 320 px int8, openvino f32, default layout"] == (
        "the graph that it is made of fails the accuracy (openvino, f32)"
    )
    assert reasons["nano 320 px, openvino f32, default layout"].startswith("its accuracy fails: ")
    # Another engine finds the same with it.
    assert reasons["nano 320 px, onnxruntime f32, default layout"] == (
        "the same graph fails the accuracy (openvino, f32)"
    )


def test_a_larger_canvas_is_not_made_where_a_smaller_one_is_accurate(tmp_path: Path) -> None:
    contract = Contract("street", AccuracyClause(ap=0.30), server=SERVER)
    simulated = SimulatedMachine()
    made, said = preparation(tmp_path, simulated, contract)
    made.run()
    assert not any(words.startswith(("making nano 416", "making nano 480")) for words in said)
    larger = [one for one in made.found.values() if one.one.variant.size_px == (480, 480)]
    assert larger
    assert all("with a larger canvas is slower" in one.reason for one in larger)


def test_what_is_too_slow_is_dropped_with_its_speed(tmp_path: Path) -> None:
    contract = Contract("street", AccuracyClause(ap=0.37), server=ServerClause(50.0, 200.0))
    made, _ = preparation(tmp_path, SimulatedMachine(), contract)
    made.run()
    assert made.default.reason == (
        "its engine alone does 22.2 images/s, fewer than the 50 requests/s that are wanted"
    )


def test_what_takes_too_long_alone_is_dropped(tmp_path: Path) -> None:
    contract = Contract("street", server=ServerClause(1.0, 8.0))
    made, _ = preparation(tmp_path, SimulatedMachine(), contract)
    made.run()
    assert "one image alone takes its engine 45 ms, and at most 8 ms are allowed" in (
        made.default.reason
    )


def test_the_time_of_the_preparation_is_bounded_and_the_rest_says_so(tmp_path: Path) -> None:
    contract = Contract("street", AccuracyClause(ap=0.43), server=SERVER)
    simulated = SimulatedMachine()
    made, _ = preparation(tmp_path, simulated, contract, budget_s=200.0)
    made.run()
    assert simulated.clock_s <= 0.45 * 200.0
    late = [one for one in made.found.values() if "no time was left" in one.reason]
    assert late
    assert made.default.raw is not None


def test_other_layouts_of_the_best_are_timed_too(tmp_path: Path) -> None:
    contract = Contract("street", AccuracyClause(ap=0.37), server=SERVER)
    made, _ = preparation(tmp_path, SimulatedMachine(), contract)
    made.run()
    names = {words for one in made.found.values() if "int8" in (words := one.one.words)}
    assert "nano 416 px int8, openvino bf16, 1 x 2 threads" in names
    batched = [one for one in made.found.values() if one.one.batching.max_batch != 1]
    assert [one.reason for one in batched] == ["no graph takes several images here"]


def test_an_engine_that_does_not_run_a_graph_is_a_reason(tmp_path: Path) -> None:
    class NoOnnx(SimulatedMachine):
        def raw_speed(self, one: Arrangement, artifact: str) -> RawEntry:
            if one.engine == "onnxruntime":
                raise DeviceUnavailable("no such operator")
            return super().raw_speed(one, artifact)

    contract = Contract("street", AccuracyClause(ap=0.37), server=SERVER)
    for _ in range(2):  # measured, and from the journal
        made, _ = preparation(tmp_path, NoOnnx(), contract)
        ready = made.run()
        assert not any(one.one.engine == "onnxruntime" for one in ready)
        found = [one for one in made.found.values() if one.reason == "no such operator"]
        assert found
        made.journal.close()


def test_a_loss_is_the_difference_of_the_same_draws() -> None:
    ends = {"ap": Interval(0.3, 0.5, 0.95, 100)}
    before = ScoreEntry("a", {"ap": 0.44}, ends, (0.40, 0.44, 0.48))
    after = ScoreEntry("b", {"ap": 0.42}, ends, (0.38, 0.42, 0.46))
    lost, interval = drop_of(before, after)
    assert lost == pytest.approx(0.02)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((0.02, 0.02))
    assert interval.images == 100
    assert drop_of(before, msgspec.structs.replace(after, drawn_ap=())) == (None, None)
    empty = msgspec.structs.replace(after, figures={"ap": None})
    assert drop_of(before, empty) == (None, None)


def test_figures_of_the_journal_are_judged_as_those_of_an_evaluation() -> None:
    found = accuracy_of(ScoreEntry("a", {"ap": 0.4}, {}, flattered="seen"), 0.01)
    assert (found.figures.ap, found.figures.ap50, found.flattered) == (0.4, None, "seen")
    assert found.drop == 0.01


def test_rounds() -> None:
    assert median_rounds([3.0, 1.0, 2.0]) == (1.0, 2.0, 3.0)
