"""The nearest miss and the Pareto front."""

from __future__ import annotations

from typing import Any

import pytest

from seatrial.contract import AccuracyClause, Contract, LoadClause, ServerClause
from seatrial.gate import Clause, judge, rule
from seatrial.trial.candidates import default_arrangement
from seatrial.trial.journal import RawEntry, ScoreEntry
from seatrial.trial.outcome import capacity_row, caveats, nearest_miss, pareto_front, together
from seatrial.trial.preparation import Prepared
from seatrial.trial.race import Capacity
from seatrial.trial.trial_report import TrialRow
from simulated_trial import MACHINE, NANO

SERVER = ServerClause(40.0, 100.0, "p99")
CONTRACT = Contract("street", accuracy=AccuracyClause(ap=0.42), server=SERVER)


def prepared(outcome: str = "holds", *, ap: float = 0.44, raw_hz: float = 60.0) -> Prepared:
    bound = {"holds": 0.0, "fails": 1.0}[outcome]
    limit = Clause("accuracy.ap", bound, "at_least", label="AP")
    verdict = judge([rule(limit, ap, text=f"{ap}")])
    score = ScoreEntry("n", {"ap": ap}, {})
    one = default_arrangement(NANO, MACHINE)
    return Prepared(one, "nano", score, verdict, RawEntry("r", raw_hz, raw_hz, raw_hz, 25.0))


def miss_of(*some: tuple[Prepared, Capacity | None], contract: Contract = CONTRACT) -> Any:
    first, capacity = some[0]
    rows = () if first.verdict is None else first.verdict.rows
    rate = [] if first.outcome == "fails" else [capacity_row(SERVER, capacity)]
    return nearest_miss(contract, together(contract, rows, rate), first.one.words, some, 2)


@pytest.mark.parametrize(
    ("capacity", "outcome"),
    [
        (Capacity(50.0, 41.0, 60.0), "undecided"), (Capacity(38.0, 35.0, 39.0), "fails"),
        (Capacity(42.0, 38.0, 45.0), "undecided"), (None, "undecided"),
    ],
)  # fmt: skip
def test_the_interval_of_the_capacity_may_fail_the_rate_and_does_not_prove_it(
    capacity: Capacity | None, outcome: str
) -> None:
    assert capacity_row(SERVER, capacity).outcome == outcome


def test_a_capacity_above_the_rate_says_what_is_missing() -> None:
    row = capacity_row(SERVER, Capacity(50.0, 41.0, 60.0))
    assert (row.within, row.reason) == (True, "the wanted rate itself was not measured")


def test_a_contract_that_holds_is_no_miss() -> None:
    rows = prepared().verdict
    assert rows is not None
    held = together(CONTRACT, rows.rows)
    assert (
        nearest_miss(CONTRACT, held, "one", [(prepared(), Capacity(50.0, 45.0, 55.0))], 2) is None
    )


def test_a_rate_that_is_missed_names_rate_cores_and_the_less_accurate_that_holds_it() -> None:
    fast = prepared("fails", ap=0.34)
    miss = miss_of((prepared(), Capacity(20.0, 18.0, 22.0)), (fast, Capacity(70.0, 60.0, 80.0)))
    assert miss.clause == "server.rate_per_s"
    assert miss.give == (
        "rate: about 20/s instead of 40/s",
        "cores: about 4 instead of 2, if capacity grows with them",
        "accuracy: AP 0.3400 of nano 640 px, openvino f32, default layout at 70/s",
    )


def test_where_nothing_was_served_the_engine_says_how_far_it_is() -> None:
    slow = miss_of((prepared(raw_hz=10.0), None))
    assert slow.give == (
        "rate: below 10/s, which the fastest engine does without a service",
        "cores: more than 8 instead of 2",
    )
    late = prepared()
    late.raw = RawEntry("r", 60.0, 60.0, 60.0, 250.0)
    assert miss_of((late, None)).give == (
        "latency: more than 250 ms, which one image alone takes the engine, instead of 100 ms",
    )


def test_an_accuracy_that_none_reaches_says_by_how_much() -> None:
    some = (prepared("fails", ap=0.30), None), (prepared("fails", ap=0.40), None)
    miss = miss_of(*some)
    assert miss.clause == "accuracy.ap"
    assert miss.give == ("accuracy: AP 0.4000 instead of 0.42: 0.0200 less",)


def test_a_loss_of_accuracy_is_told_by_its_row() -> None:
    contract = Contract("street", accuracy=AccuracyClause(max_drop_ap=0.01), server=SERVER)
    assert miss_of((prepared("fails", ap=0.3), None), contract=contract).give == (
        "AP: 0.3, and at least 1 is wanted",
    )


def test_another_clause_is_told_by_its_row() -> None:
    contract = Contract("street", load=LoadClause(memory_mib=100.0), server=SERVER)
    state = prepared()
    limit = Clause("load.memory_mib", 100.0, label="memory", unit=" MiB")
    verdict = judge([rule(limit, 400.0, text="400 MiB")])
    some = [(state, Capacity(50.0, 45.0, 55.0))]
    miss = nearest_miss(contract, verdict, "nano", some, 2)
    assert miss is not None
    assert miss.give == ("memory: 400 MiB, and at most 100 MiB is wanted",)


def row(key: str, ap: float | None, rate_hz: float, memory: int = 0) -> TrialRow:
    return TrialRow(
        key, key, "nano", "served", "", ap=ap,
        capacity=Capacity(rate_hz, rate_hz, rate_hz), memory_bytes=memory,
    )  # fmt: skip


def test_the_front_has_those_that_no_other_is_better_than() -> None:
    rows = [
        row("fast", 0.30, 80.0), row("right", 0.44, 20.0), row("both", 0.40, 60.0),
        row("worse", 0.35, 50.0), row("small", 0.35, 50.0, 100),
    ]  # fmt: skip
    unserved = TrialRow("raw", "raw", "nano", "raw speed", "slow", ap=0.9)
    assert pareto_front([*rows, unserved]) == {"fast", "right", "both"}
    assert pareto_front([row("a", 0.4, 50.0, 200), row("b", 0.4, 50.0, 100)]) == {"b"}
    assert pareto_front([row("a", 0.4, 50.0), row("b", 0.4, 50.0)]) == {"a", "b"}


def test_an_interval_that_begins_below_the_wanted_rate_is_told() -> None:
    clause = ServerClause(20.0, 200.0, "p95")
    (told,) = caveats(clause, Capacity(30.0, 0.0, 40.0), passes=True, seen_by_int8=False)
    assert "begins at 0/s, below the wanted rate" in told
    assert not caveats(clause, Capacity(30.0, 0.0, 40.0), passes=False, seen_by_int8=False)
    assert not caveats(clause, Capacity(30.0, 20.0, 40.0), passes=True, seen_by_int8=False)
    assert not caveats(clause, None, passes=True, seen_by_int8=False)


def test_a_capacity_of_the_race_is_told_as_the_best_of_several() -> None:
    found = Capacity(50.0, 45.0, 55.0)
    told = caveats(SERVER, found, passes=True, seen_by_int8=False, best_of=7)
    assert ["best of the 7 that raced" in one for one in told] == [True]
    for best_of in (0, 1):
        assert not caveats(SERVER, found, passes=True, seen_by_int8=False, best_of=best_of)
