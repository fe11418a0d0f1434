"""Whole trials on a simulated machine: what is chosen, how long it takes, what a kill costs."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from json_schemas import against_schema
from seatrial.conditions import conditions
from seatrial.config import encode_json
from seatrial.contract import AccuracyClause, Contract, ServerClause
from seatrial.deployment import Deployment
from seatrial.errors import InvalidConfig, NotWritable
from seatrial.system.hardware import Cpu
from seatrial.trial.candidates import (
    Arrangement,
    Machine,
    arrangements,
    default_arrangement,
    refinements,
)
from seatrial.trial.journal import JOURNAL
from seatrial.trial.question import TrialPlan
from seatrial.trial.sea_trial import run_trial
from seatrial.trial.trial_report import TrialReport
from simulated_servers import truth_of_constant
from simulated_trial import IMAGES, MACHINE, NANO, SERVED, Killed, SimulatedMachine

BUDGET_S = 900.0
SERVER = ServerClause(20.0, 200.0, "p95")
# 416 pixels hold, 320 fail: their intervals end at 0.36.
HOLDS = Contract("street", accuracy=AccuracyClause(ap=0.37), server=SERVER)


def trial(
    folder: Path,
    simulated: SimulatedMachine,
    contract: Contract = HOLDS,
    *,
    budget_s: float = BUDGET_S,
    machine: Machine = MACHINE,
    said: list[str] | None = None,
) -> TrialReport:
    said = [] if said is None else said
    plan = TrialPlan(contract, (NANO,), machine, IMAGES, "labels", budget_s)
    return run_trial(
        plan, simulated, folder, here=conditions("seatrial trial"), say=said.append,
        benchmark=simulated.benchmark, now=simulated.now,
    )  # fmt: skip


def truth_hz(one: Arrangement) -> float:
    service_s = SimulatedMachine.image_s(one) / SERVED
    return truth_of_constant(service_s, SERVER.at_most_ms / 1e3, 0.05)


def test_the_fastest_that_is_accurate_enough_is_recommended_with_capacity_and_headroom(
    tmp_path: Path,
) -> None:
    simulated, said = SimulatedMachine(), list[str]()
    report = trial(tmp_path, simulated, said=said)
    assert report.verdict.outcome == "holds"
    assert report.chosen.startswith("nano 416 px int8, openvino bf16")
    plain = arrangements([NANO], MACHINE)
    every = [*plain, *(other for one in plain for other in refinements(one, MACHINE))]
    chosen = next(one for one in every if one.words == report.chosen)
    default = default_arrangement(NANO, MACHINE)
    deployment = Deployment.read(tmp_path / "deployment.toml")
    assert (deployment.engine, deployment.precision) == ("openvino", "bf16")
    assert deployment.to_toml() == report.deployment
    assert report.capacity is not None
    assert report.headroom == pytest.approx(report.capacity.rate_hz / 20.0 - 1)
    assert report.times_default == pytest.approx(truth_hz(chosen) / truth_hz(default), rel=0.3)
    assert "PASS: nano 416 px int8" in report.statement
    assert any(one.startswith("dropped: nano 320 px") for one in said)
    by_name = {row.name: row for row in report.rows}
    assert by_name["nano 640 px, openvino f32, default layout"].is_default
    assert by_name["nano 640 px, openvino f32, default layout"].capacity is not None
    assert all(row.reason or row.stage == "chosen" for row in report.rows)
    assert report.rows[0].stage == "chosen"


@pytest.mark.parametrize("budget_s", [150.0, 300.0, 900.0])
def test_the_budget_is_kept_within_5_percent(tmp_path: Path, budget_s: float) -> None:
    simulated = SimulatedMachine()
    report = trial(tmp_path, simulated, budget_s=budget_s)
    assert simulated.clock_s <= 1.05 * budget_s
    assert report.elapsed_s == pytest.approx(simulated.clock_s)


def test_a_trial_that_is_killed_at_any_step_measures_nothing_again(tmp_path: Path) -> None:
    """Killed after 1, 2, 3, ... further steps, until one run comes to the end."""
    simulated, steps, runs = SimulatedMachine(), 0, 0
    while True:
        steps, runs = steps + 3, runs + 1
        simulated.kill_after = steps
        try:
            report = trial(tmp_path, simulated)
            break
        except Killed:
            # The line that was being written is cut off.
            with (tmp_path / JOURNAL).open("ab") as file:
                file.write(b'{"type":"raw","key":"12')
    assert runs > 5
    assert report.verdict.outcome == "holds"
    assert simulated.clock_s <= 1.05 * BUDGET_S + runs * 4.5  # a start that was cut off
    assert {words: count for words, count in simulated.done.items() if count > 1} == {}


def test_a_finished_trial_says_the_same_again_and_measures_nothing(tmp_path: Path) -> None:
    simulated = SimulatedMachine()
    first = trial(tmp_path, simulated)
    done = sum(simulated.done.values())
    again = trial(tmp_path, simulated)
    assert sum(simulated.done.values()) == done
    assert (again.chosen, again.verdict, again.capacity) == (
        first.chosen, first.verdict, first.capacity,
    )  # fmt: skip


def test_a_folder_of_another_contract_is_refused(tmp_path: Path) -> None:
    trial(tmp_path, SimulatedMachine(), budget_s=150.0)
    other = Contract("other", accuracy=HOLDS.accuracy, server=ServerClause(30.0, 200.0))
    with pytest.raises(InvalidConfig, match="the journal of another trial"):
        trial(tmp_path, SimulatedMachine(), other)


def test_an_accuracy_above_every_candidate_fails_without_a_service(tmp_path: Path) -> None:
    contract = Contract("street", accuracy=AccuracyClause(ap=0.9), server=SERVER)
    simulated = SimulatedMachine()
    report = trial(tmp_path, simulated, contract)
    assert report.verdict.outcome == "fails"
    assert report.miss is not None
    assert report.miss.clause == "accuracy.ap"
    assert report.miss.give == ("accuracy: AP 0.4400 instead of 0.9: 0.4600 less",)
    assert (report.chosen, report.deployment) == ("", "")
    assert not (tmp_path / "deployment.toml").exists()
    assert not any(words.startswith(("trial", "confirm")) for words in simulated.done)


def test_a_rate_beyond_the_machine_fails_with_rate_and_cores_that_would_do(tmp_path: Path) -> None:
    contract = Contract(
        "street", accuracy=HOLDS.accuracy, server=ServerClause(1000.0, 200.0, "p95")
    )
    report = trial(tmp_path, SimulatedMachine(), contract)
    assert report.verdict.outcome == "fails"
    assert report.miss is not None
    assert report.miss.clause == "server.rate_per_s"
    rate, cores = report.miss.give[:2]
    assert rate.startswith("rate: about ")
    assert rate.endswith(" instead of 1000/s")
    assert cores.startswith("cores: about ")
    assert report.miss.name.startswith("nano 416 px int8")


def test_without_an_accuracy_clause_speed_alone_decides(tmp_path: Path) -> None:
    simulated = SimulatedMachine()
    report = trial(tmp_path, simulated, Contract("fast", server=SERVER))
    assert report.chosen.startswith("nano 320 px int8")
    assert not any(words.startswith("score") for words in simulated.done)


def test_accuracy_that_is_undecided_is_an_open_verdict(tmp_path: Path) -> None:
    contract = Contract("street", accuracy=AccuracyClause(ap=0.43), server=SERVER)
    report = trial(tmp_path, SimulatedMachine(), contract)
    assert report.verdict.outcome == "undecided"
    assert report.miss is not None
    assert report.miss.clause == "accuracy.ap"
    assert report.statement.startswith("UNDECIDED: ")


def test_a_fast_one_of_open_accuracy_is_no_failure(tmp_path: Path) -> None:
    """640 pixels are accurate and too slow; 416 are fast enough, and their accuracy is open."""
    contract = Contract(
        "street", accuracy=AccuracyClause(ap=0.395), server=ServerClause(120.0, 200.0, "p95")
    )
    report = trial(tmp_path, SimulatedMachine(), contract)
    assert report.verdict.outcome == "undecided"
    assert report.chosen.startswith("nano 416 px int8")


def test_the_largest_drop_is_taken_against_the_default_graph(tmp_path: Path) -> None:
    contract = Contract("street", accuracy=AccuracyClause(max_drop_ap=0.03), server=SERVER)
    report = trial(tmp_path, SimulatedMachine(), contract)
    # Both sides have the same draws: 0.03 at 480 pixels in INT8 holds.
    assert report.verdict.outcome == "holds"
    assert report.chosen.startswith("nano 480 px int8")
    assert "accuracy.max_drop_ap" in {row.clause.metric for row in report.verdict.rows}


def test_one_that_cannot_be_served_is_no_choice(tmp_path: Path) -> None:
    simulated = SimulatedMachine()
    best = trial(tmp_path / "first", simulated).chosen
    other = SimulatedMachine()
    other.broken = {best}
    report = trial(tmp_path / "second", other)
    assert report.verdict.outcome == "holds"
    assert report.chosen != best
    assert {row.reason for row in report.rows if row.name == best} == {"it cannot be served"}


def test_what_int8_has_seen_is_told(tmp_path: Path) -> None:
    simulated = SimulatedMachine()
    plan = TrialPlan(HOLDS, (NANO,), MACHINE, IMAGES, "labels", BUDGET_S, seen_by_int8=True)
    report = run_trial(
        plan, simulated, tmp_path, here=conditions("seatrial trial"),
        benchmark=simulated.benchmark, now=simulated.now,
    )  # fmt: skip
    assert [one for one in report.caveats if "takes its ranges from the labelled" in one]
    assert not trial(tmp_path / "other", SimulatedMachine()).caveats


def test_a_trial_that_runs_has_its_folder_alone(tmp_path: Path) -> None:
    """The second one measures nothing, and the first one's lines stay."""
    first, second = SimulatedMachine(), SimulatedMachine()

    def say(words: str) -> None:
        if words.startswith("serving") and not refused:
            with pytest.raises(InvalidConfig, match="another trial is running in ") as raised:
                trial(tmp_path, second)
            refused.append(str(raised.value))

    refused: list[str] = []
    plan = TrialPlan(HOLDS, (NANO,), MACHINE, IMAGES, "labels", BUDGET_S)
    report = run_trial(
        plan, first, tmp_path, here=conditions("seatrial trial"), say=say,
        benchmark=first.benchmark, now=first.now,
    )  # fmt: skip
    assert refused
    assert not second.done
    assert report.rows == trial(tmp_path / "alone", SimulatedMachine()).rows


@pytest.mark.parametrize(
    "other",
    [
        {"cpu": Cpu("another", 2, 2, None, ())},
        {"memory_gib": 8},
        {"versions": {"openvino": "2026.9"}},
    ],
    ids=["processor", "memory", "versions"],
)
def test_the_folder_of_another_machine_is_refused(tmp_path: Path, other: dict[str, object]) -> None:
    trial(tmp_path, SimulatedMachine(), budget_s=150.0)
    changed = msgspec.structs.replace(MACHINE, **other)
    with pytest.raises(InvalidConfig, match=r"another trial; what differs: machine$"):
        trial(tmp_path, SimulatedMachine(), budget_s=150.0, machine=changed)


def test_a_disk_that_is_full_ends_the_trial_and_blames_no_candidate(tmp_path: Path) -> None:
    simulated = SimulatedMachine()

    def full(*args: object, **options: object) -> None:
        raise NotWritable("no space is left")

    plan = TrialPlan(HOLDS, (NANO,), MACHINE, IMAGES, "labels", BUDGET_S)
    with pytest.raises(NotWritable):
        run_trial(
            plan, simulated, tmp_path, here=conditions("seatrial trial"),
            benchmark=full, now=simulated.now,  # type: ignore[arg-type]
        )  # fmt: skip
    assert trial(tmp_path, simulated).verdict.outcome == "holds"


def test_the_report_follows_its_schema(tmp_path: Path) -> None:
    report = encode_json(trial(tmp_path, SimulatedMachine(), budget_s=150.0))
    assert against_schema("trial", json.loads(report)) == []
