"""The gate: each clause holds, fails or is undecided, and the worst row decides."""

from __future__ import annotations

import math

import msgspec
import pytest

from seatrial.gate import (
    Clause,
    Interval,
    Outcome,
    Row,
    Verdict,
    fewest_images,
    judge,
    rule,
)

MOST, LEAST = Clause("drop", 0.005), Clause("ap", 0.4, "at_least")


@pytest.mark.parametrize(
    ("clause", "measured", "low", "high", "outcome", "within"),
    [
        (MOST, 0.001, -0.001, 0.003, "holds", True),
        (MOST, 0.001, 0.0, 0.005, "holds", True),  # the limit itself is allowed
        (MOST, 0.02, 0.01, 0.03, "fails", False),
        (MOST, 0.02, 0.005, 0.03, "undecided", False),
        (MOST, 0.001, -0.008, 0.009, "undecided", True),
        (MOST, 0.007, None, 0.004, "holds", False),
        (MOST, 0.001, 0.0, None, "undecided", True),
        (MOST, 0.009, 0.009, None, "fails", False),
        (LEAST, 0.45, 0.41, 0.49, "holds", True),
        (LEAST, 0.45, 0.4, 0.49, "holds", True),
        (LEAST, 0.35, 0.3, 0.39, "fails", False),
        (LEAST, 0.35, 0.3, 0.4, "undecided", False),
        (LEAST, 0.41, 0.39, 0.43, "undecided", True),
        (LEAST, 0.41, None, 0.43, "undecided", True),
        (LEAST, 0.39, 0.38, None, "undecided", False),
    ],
)
def test_the_interval_decides(
    clause: Clause,
    measured: float,
    low: float | None,
    high: float | None,
    outcome: Outcome,
    within: bool,
) -> None:
    row = rule(clause, measured, Interval(low, high, 0.95))
    assert (row.outcome, row.within) == (outcome, within)
    assert (row.measured, row.low, row.high, row.level) == (measured, low, high, 0.95)


@pytest.mark.parametrize(
    ("clause", "measured", "outcome"),
    [
        (MOST, 0.005, "holds"),
        (MOST, 0.0051, "fails"),
        (LEAST, 0.4, "holds"),
        (LEAST, 0.399, "fails"),
        (MOST, math.inf, "fails"),
        (LEAST, -math.inf, "fails"),
    ],
)
def test_without_an_interval_the_value_decides(
    clause: Clause, measured: float, outcome: Outcome
) -> None:
    row = rule(clause, measured)
    assert row.outcome == outcome
    assert (row.low, row.high, row.level) == (None, None, None)


def test_a_clause_can_be_decided_by_the_value_and_show_the_interval() -> None:
    clause = msgspec.structs.replace(MOST, decided_by="value")
    row = rule(clause, 0.001, Interval(-0.01, 0.01, 0.95, 16))
    assert (row.outcome, row.high, row.images_needed) == ("holds", 0.01, None)
    assert "-0.01 to 0.01, 16 images" in row.text


@pytest.mark.parametrize("measured", [None, math.nan])
def test_what_was_not_measured_is_undecided_unless_the_clause_says_otherwise(
    measured: float | None,
) -> None:
    row = rule(MOST, measured, text="the processes are not visible")
    assert (row.outcome, row.measured, row.within) == ("undecided", None, False)
    assert row.text == "the processes are not visible"
    assert rule(MOST, measured).text == "drop was not measured; at most 0.005"
    assert rule(msgspec.structs.replace(MOST, missing="fails"), measured).outcome == "fails"


def test_the_images_that_would_decide_follow_from_the_interval() -> None:
    # Half as wide: four times 53, to two digits.
    assert rule(MOST, 0.001, Interval(-0.007, 0.009, 0.95, 53)).images_needed == 210
    # Beyond the limit the other end counts: (0.009 / 0.005) ** 2 times 100.
    assert rule(MOST, 0.010, Interval(0.001, 0.011, 0.95, 100)).images_needed == 320
    assert rule(MOST, 0.00505, Interval(-0.004, 0.014, 0.95, 53)).images_needed is None
    assert rule(MOST, 0.001, Interval(-0.007, 0.009, 0.95)).images_needed is None
    assert rule(MOST, 0.001, Interval(-0.007, 0.004, 0.95, 53)).images_needed is None
    assert rule(LEAST, 0.41, Interval(0.39, 0.5, 0.95, 50)).images_needed == 200


def row(outcome: Outcome, text: str, needed: int | None = None) -> Row:
    made = rule(MOST, 0.001, text=text)
    return msgspec.structs.replace(
        made, outcome=outcome, within=outcome == "holds", images_needed=needed
    )


@pytest.mark.parametrize(
    ("outcomes", "worst"),
    [
        (("holds", "holds"), "holds"),
        (("holds", "undecided"), "undecided"),
        (("undecided", "fails", "holds"), "fails"),
        ((), "holds"),
    ],
)
def test_the_worst_row_decides(outcomes: tuple[Outcome, ...], worst: Outcome) -> None:
    rows = [row(one, f"row {number}") for number, one in enumerate(outcomes)]
    verdict = judge(rows)
    assert verdict.outcome == worst
    assert verdict.rows == tuple(rows)
    assert verdict.within == all(one == "holds" for one in outcomes)


def test_the_statement_names_the_rows_that_decide() -> None:
    rows = [row("holds", "AP is fine"), row("undecided", "drop 0.001", 210), row("undecided", "x")]
    verdict = judge(rows, name="the contract")
    assert verdict.name == "the contract"
    assert verdict.images_needed == 210
    assert verdict.statement == (
        "The contract cannot be decided: drop 0.001; x. The sample is too small to decide: about "
        "210 images would, if the value stays what it is."
    )
    assert judge(rows[2:]).statement == (
        "The gate cannot be decided: x. The sample is too small to decide."
    )
    assert judge([row("fails", "too slow"), *rows]).statement == "The gate fails: too slow."
    assert judge(()).statement == "The gate holds."


def test_texts_carry_value_interval_unit_and_limit() -> None:
    clause = Clause("latency.at_most_ms", 50, label="p90", unit=" ms")
    assert clause.wanted == "at most 50 ms"
    assert rule(clause, 48.24, Interval(48.2, None, 0.99)).text == (
        "p90 48.24 ms (99% interval 48.2 to unbounded), at most 50 ms allowed"
    )
    assert rule(clause, 48.24).text == "p90 48.24 ms, at most 50 ms allowed"


def test_a_verdict_survives_json() -> None:
    verdict = judge([rule(MOST, 0.001, Interval(0.0, None, 0.95, 5))])
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict) == verdict


@pytest.mark.parametrize(("level", "fewest"), [(0.5, 2), (0.9, 5), (0.95, 6), (0.99, 8)])
def test_an_interval_takes_so_many_images(level: float, fewest: int) -> None:
    assert fewest_images(level) == fewest
    assert 2 * 0.5**fewest <= 1 - level + 1e-9 < 2 * 0.5 ** (fewest - 1)


@pytest.mark.parametrize("measured", [-0.2, 0.2])
def test_too_few_images_decide_nothing(measured: float) -> None:
    """A bootstrap of one image has an interval without width, on either side of the limit."""
    clause = Clause("ap_drop", 0.01)
    few, enough = (
        rule(clause, measured, Interval(measured, measured, 0.95, images)) for images in (5, 6)
    )
    assert few.outcome == "undecided"
    assert "5 images are too few for an interval at 95%, which takes 6" in few.text
    assert few.text.count("interval") == 1  # none is named that there is not
    assert enough.outcome == ("holds" if measured < 0 else "fails")


def test_a_value_that_something_spoiled_does_not_fail() -> None:
    """The disturbance can only have made it worse: what holds in spite of it holds."""
    spoiled = rule(MOST, 0.02, spoiled="others took 34% of the cores")
    assert (spoiled.outcome, spoiled.reason) == ("undecided", "others took 34% of the cores")
    assert not spoiled.within
    apart = rule(MOST, 0.02, Interval(0.01, 0.03, 0.95, 50), spoiled="others took 34% of the cores")
    assert (apart.outcome, apart.images_needed) == ("undecided", None)
    held = rule(MOST, 0.001, spoiled="others took 34% of the cores")
    assert (held.outcome, held.reason) == ("holds", "")
    assert rule(MOST, None, spoiled="others took 34% of the cores").reason


def test_the_statement_says_why_and_not_that_the_sample_is_small() -> None:
    rows = [rule(MOST, 0.02, text=text, spoiled="others took 34% of the cores") for text in "ab"]
    assert judge(rows).statement == (
        "The gate cannot be decided: a; b. Others took 34% of the cores."
    )
    open_too = rule(MOST, 0.001, Interval(-0.007, 0.009, 0.95, 53), text="c")
    assert judge([rows[0], open_too]).statement == (
        "The gate cannot be decided: a; c. Others took 34% of the cores. The sample is too small "
        "to decide: about 210 images would, if the value stays what it is."
    )


@pytest.mark.parametrize("measured", [0.9999999999999999, 1.0])
def test_a_sum_that_was_rounded_is_not_below_its_limit(measured: float) -> None:
    """The AP of a detector without an error, for example."""
    perfect = Clause("ap", 1.0, "at_least")
    assert rule(perfect, measured).outcome == "holds"
    assert rule(perfect, measured, Interval(measured, measured, 0.95, 50)).outcome == "holds"
    assert rule(perfect, 0.999999).outcome == "fails"
