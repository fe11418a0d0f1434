"""Caveats of a capacity plan: how far it rests on measured points."""

from __future__ import annotations

from collections.abc import Sequence

from seatrial.report.numbers import per_second
from seatrial.trial.capacity_goal import CapacityGoal
from seatrial.trial.capacity_model import MachineModel, PointCheck

# An error of the simulation above which its figures are a hint at most.
POOR_ERROR = 0.3
# No machine is given more than so many times the highest rate that was measured on one: the queue
# that is fitted below says little of what happens above.
BEYOND = 1.5


def _judged(checks: Sequence[PointCheck], name: str) -> list[PointCheck]:
    """Points with the percentile: those of an open loop where there are any."""
    known = [one for one in checks if name in one.measured_ms]
    return [one for one in known if one.rate_hz is not None] or known


def measured_caveats(checks: Sequence[PointCheck], goal: CapacityGoal) -> list[str]:
    """Caveats that come from the measured points."""
    name = goal.percentile
    judged = _judged(checks, name)
    found = []
    if not judged:
        found.append(f"no point that the queue is fitted to has {name}")
    elif judged[0].rate_hz is None:
        found.append(
            "no point was measured with requests that come by a schedule (seatrial bench server): "
            "the queue is fitted to closed loops alone"
        )
    elif all(one.measured_ms[name] < 0.5 * goal.at_most_ms for one in judged):
        found.append(
            f"no measured {name} is over half of the limit: how the service behaves near it is "
            "taken from the queue alone"
        )
    load, error = worst_point(checks, goal)
    if error > POOR_ERROR:
        found.append(
            f"the simulation is {error:.0%} off the measured {name} at {load}: a queue with "
            "lanes does not describe this service well"
        )
    return found


def worst_point(checks: Sequence[PointCheck], goal: CapacityGoal) -> tuple[str, float]:
    """Point at which the simulation is farthest off, and by which share of what was measured."""
    name = goal.percentile
    off = [
        (abs(one.error(name) or 0.0), one.load)
        for one in _judged(checks, name)
        if min(one.measured_ms[name], one.simulated_ms[name]) <= goal.at_most_ms
    ]
    error, load = max(off, default=(0.0, ""))
    return load, error


def extrapolation(
    needed: int, alone: int | None, goal: CapacityGoal, measured_hz: float, model: MachineModel
) -> list[str]:
    """Caveats on all that was not measured.

    Args:
        needed: Number of machines, none of which is given more than `BEYOND` times what was
            measured.
        alone: Number by the queue alone.
        goal: What is to be held.
        measured_hz: Highest rate that was measured on one machine.
        model: One machine.
    """
    found, each_hz = [], goal.rate_hz / needed
    if alone is not None and alone < needed:
        found.append(
            f"by the queue alone {alone} would do, each at {per_second(goal.rate_hz / alone)}, "
            f"and the highest measured rate is {per_second(measured_hz)}: no machine is given more "
            f"than {BEYOND:g} times that. Measure higher rates"
        )
    elif each_hz > measured_hz:
        found.append(
            f"each machine is given {per_second(each_hz)}, {each_hz / measured_hz:.2f} times the "
            "highest measured rate: beyond that the queue is an assumption"
        )
    alike = model.lanes_alike
    if len(alike) > 1:
        found.append(
            f"the points do not tell the lanes: {min(alike)} to {max(alike)} fit them about as "
            f"well as {model.lanes}. Say how many requests one machine serves at a time (--lanes)"
        )
    return found
