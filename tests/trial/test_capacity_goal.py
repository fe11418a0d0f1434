from __future__ import annotations

import msgspec
import pytest

from seatrial.errors import InvalidInput
from seatrial.trial.capacity_goal import CapacityGoal, check_goal, check_numbers, goal_words

GOAL = CapacityGoal(rate_hz=200.0, percentile="p99", at_most_ms=150.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rate_hz": 0.0}, "the rate must be a number of more than 0"),
        ({"rate_hz": float("nan")}, "the rate"),
        ({"at_most_ms": -1.0}, "the latency"),
        ({"at_most_ms": float("inf")}, "the latency"),
        ({"percentile": "p97"}, "unknown percentile 'p97'"),
        ({"arrivals": "often"}, "unknown arrival law 'often'"),
        ({"machines_fail": -1}, "-1 machines cannot be out"),
    ],
    ids=["rate", "nan", "limit", "infinite", "percentile", "law", "out"],
)
def test_goals_out_of_range_are_errors(changes, words):
    check_goal(GOAL)
    with pytest.raises(InvalidInput, match=words):
        check_goal(msgspec.structs.replace(GOAL, **changes))


def test_the_goal_in_words():
    assert goal_words(GOAL) == "200/s (poisson) with p99 at most 150 ms"


@pytest.mark.parametrize(
    ("lanes", "seed", "words"),
    [
        (0, 0, "lanes is 0;"),
        (-1, 0, "lanes is -1;"),
        (10**9, 0, "lanes is 1000000000;"),
        (2, -1, "seed is -1"),
    ],
)
def test_lanes_and_seeds_out_of_range_are_errors(lanes, seed, words):
    with pytest.raises(InvalidInput, match=words):
        check_numbers(lanes, seed)


def test_numbers_in_range_are_fine():
    for lanes, seed in ((None, 0), (1, 2**63 - 1), (4_096, 1)):
        check_numbers(lanes, seed)
