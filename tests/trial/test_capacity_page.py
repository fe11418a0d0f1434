from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from seatrial.trial.capacity import SCHEMA, CapacityPlan, CapacityRow
from seatrial.trial.capacity_goal import CapacityGoal
from seatrial.trial.capacity_model import PointCheck
from seatrial.trial.capacity_page import (
    checks_table,
    headline,
    margin_words,
    pooling_words,
    rows_table,
    to_html,
)
from simulated_machines import MACHINE

PLAN = CapacityPlan(
    schema=SCHEMA,
    source="out/report.json",
    goal=CapacityGoal(100.0, "p99", 150.0),
    model=MACHINE,
    checks=(
        PointCheck(
            "20/s", 20.0, 5_000,
            {"p50": 40.0, "p99": 80.0}, {"p50": 42.0, "p90": 60.0, "p95": 65.0, "p99": 76.0},
            {"p50": 0.01, "p90": 0.02, "p95": 0.02, "p99": 0.031},
        ),
    ),
    margin=0.05,
    margin_reason="assumed",
    machines=2,
    machines_bought=3,
    naive_machines=4,
    rows=(
        CapacityRow(1, 30.0, 30.0, None, False),
        CapacityRow(2, 110.0, 60.0, 99.0, True),
        CapacityRow(3, 180.0, 90.0, 70.0, True),
    ),
    curve=((2.0, 41.0), (30.0, 100.0)),
    measured_hz=120.0,
    caveats=("it was short",),
)  # fmt: skip


def printed(table):
    out = io.StringIO()
    Console(file=out, width=200, color_system=None).print(table)
    return [" ".join(line.replace("\u2502", " ").split()) for line in out.getvalue().splitlines()]


def test_what_lies_beyond_the_measured_rates_or_does_not_fit_is_in_the_headline():
    far = msgspec.structs.replace(PLAN, measured_hz=40.0)
    assert headline(far) == f"{headline(PLAN)} (each at 1.25 times the highest measured rate)"
    hint = msgspec.structs.replace(PLAN, firm=False)
    assert headline(hint) == (
        f"As a hint at most, since the queue does not fit what was measured: {headline(PLAN)}"
    )


def test_the_answer_in_a_sentence():
    assert headline(PLAN) == (
        "2 machines hold 100/s (poisson) with p99 at most 150 ms; 3 still do with 1 machine out"
    )
    alone = msgspec.structs.replace(
        PLAN, machines=1, goal=msgspec.structs.replace(PLAN.goal, machines_fail=0)
    )
    assert headline(alone) == "1 machine holds 100/s (poisson) with p99 at most 150 ms"
    none = msgspec.structs.replace(PLAN, machines=None, machines_bought=None)
    assert headline(none).startswith("No number of machines holds 100/s")
    assert margin_words(PLAN) == "Margin: all times 5.0% longer than fitted (assumed)"


def test_the_gain_of_a_balancer_is_that_over_as_many_single_machines():
    assert pooling_words(PLAN).startswith("3 machines behind one balancer hold 100% more than 3")
    assert pooling_words(msgspec.structs.replace(PLAN, rows=PLAN.rows[:1])) == ""


def test_tables_have_a_row_for_each_number_of_machines_and_each_point():
    lines = printed(rows_table(PLAN))
    assert "1 30.0/s 30.0/s 30.0/s \N{EN DASH}" in lines
    assert "2 110/s 55.0/s 60.0/s 99.0 ms holds" in lines
    assert "3 180/s 60.0/s 90.0/s 70.0 ms holds with 1 out" in lines
    (line,) = [line for line in printed(checks_table(PLAN)) if line.startswith("20/s")]
    assert line == (
        "20/s 5,000 40.0 ms +5.0% (\xb11.0%) \N{EN DASH} \N{EN DASH} 80.0 ms -5.0% (\xb13.1%)"
    )


def test_the_page_has_all_of_it_and_asks_for_nothing():
    page = to_html(PLAN)
    assert page.count("<svg") == 2
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    for words in (
        headline(PLAN), margin_words(PLAN), "It was short.", "out/report.json", "80.0 ms -5.0%",
        "2 lanes", "saturated at 50.0/s", "measured at 20.0/s: 80.0 ms", "3 machines: 180/s",
    ):  # fmt: skip
        assert words in page, words
    assert page.count('class="knee-row"') == 1


@pytest.mark.parametrize("machines", [None, 2])
def test_a_page_of_nothing_that_holds_opens(machines):
    none = msgspec.structs.replace(
        PLAN,
        machines=machines,
        machines_bought=machines,
        naive_machines=None,
        rows=(CapacityRow(1, 0.0, 0.0, None, False),),
        curve=(),
        checks=(),
        caveats=(),
    )
    assert to_html(none).count("<svg") == 2
