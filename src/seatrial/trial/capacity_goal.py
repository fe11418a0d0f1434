"""The goal of a capacity plan, and the limits of its numbers."""

from __future__ import annotations

import math

import msgspec

from seatrial.errors import InvalidInput
from seatrial.load.arrivals import LAWS_BY_RATE
from seatrial.load.queue_simulation import Balancer
from seatrial.load.statistics import PERCENTILES
from seatrial.report.numbers import milliseconds, per_second
from seatrial.trial.capacity_points import MOST_LANES

MOST_MACHINES = 500


class CapacityGoal(msgspec.Struct, frozen=True):
    """The load and the limit that the machines together have to hold.

    Attributes:
        rate_hz: Requests per second over all machines.
        percentile: Percentile of latency that is judged.
        at_most_ms: Largest latency at that percentile.
        arrivals: Name of the arrival law, see `seatrial.load.arrivals.LAWS_BY_RATE`.
        balancer: Who gets the next request.
        machines_fail: Number of machines that may be out at a time.
    """

    rate_hz: float
    percentile: str
    at_most_ms: float
    arrivals: str = "poisson"
    balancer: Balancer = "least-requests"
    machines_fail: int = 1


def check_goal(goal: CapacityGoal) -> None:
    """Check the numbers of a goal.

    Raises:
        InvalidInput: One is out of its range.
    """
    for name, value in (("rate", goal.rate_hz), ("latency", goal.at_most_ms)):
        if not (value > 0 and math.isfinite(value)):
            raise InvalidInput(f"the {name} must be a number of more than 0, not {value}")
    if goal.percentile not in PERCENTILES:
        raise InvalidInput(
            f"unknown percentile {goal.percentile!r}", hint=f"known: {', '.join(PERCENTILES)}"
        )
    if goal.arrivals not in LAWS_BY_RATE:
        raise InvalidInput(
            f"unknown arrival law {goal.arrivals!r}", hint=f"known: {', '.join(LAWS_BY_RATE)}"
        )
    if not 0 <= goal.machines_fail <= MOST_MACHINES:
        raise InvalidInput(f"{goal.machines_fail} machines cannot be out")


def check_numbers(lanes: int | None, seed: int) -> None:
    """Check the numbers of a simulation.

    Raises:
        InvalidInput: One is out of its range.
    """
    if lanes is not None and not 1 <= lanes <= MOST_LANES:
        raise InvalidInput(
            f"the number of lanes is {lanes}; it must be 1 to {MOST_LANES}",
            hint="lanes are the requests that one machine serves at a time",
        )
    if not 0 <= seed < 2**63:
        raise InvalidInput(f"the seed is {seed}; it must be from 0 to 2^63 - 1")


def goal_words(goal: CapacityGoal) -> str:
    """The goal in a few words: ``500/s (poisson) with p99 at most 100 ms``."""
    limit = f"{goal.percentile} at most {milliseconds(goal.at_most_ms)}"
    return f"{per_second(goal.rate_hz)} ({goal.arrivals}) with {limit}"
