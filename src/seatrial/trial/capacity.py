"""How many machines hold a rate: a queue fitted to the measured curve, many of it simulated.

Ten machines behind a balancer hold more than ten times what one holds: where one has a queue,
another is free. How much more depends on the latency that is allowed, so it is simulated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from seatrial.conditions import Conditions
from seatrial.errors import InvalidInput
from seatrial.load.arrivals import LAWS_BY_RATE
from seatrial.load.queue_simulation import open_loop_latencies
from seatrial.load.statistics import PERCENTILES
from seatrial.progress import Progress, silent
from seatrial.report.numbers import per_second
from seatrial.trial.capacity_caveats import (
    BEYOND,
    POOR_ERROR,
    extrapolation,
    measured_caveats,
    worst_point,
)
from seatrial.trial.capacity_goal import MOST_MACHINES, CapacityGoal, check_goal, check_numbers
from seatrial.trial.capacity_model import (
    CHECK_REQUESTS,
    MachineModel,
    PointCheck,
    check_points,
    draw,
    fit_machine,
    simulate,
)
from seatrial.trial.capacity_points import CurvePoint

SCHEMA = "seatrial.capacity/1"
REQUESTS = 60_000  # simulated for each latency
WARMUP_SHARE = 0.1
SHORTEST_S = 20.0  # of a simulation: laws with bursts need some of them
RATE_STEPS = 9  # bisections of a rate: the last is 0.2 % of the saturation
# Of the service times. At least: machines that are alike by name differ by some per cent.
LEAST_MARGIN, MOST_MARGIN = 0.05, 0.5
MARGIN_STEPS = 7  # bisections between them
MOST_ROWS = 10  # of the table


class CapacityRow(msgspec.Struct, frozen=True):
    """A number of machines, and the rate that it holds.

    Attributes:
        machines: Number of machines.
        holds_hz: Highest rate at which they hold the goal's latency with the margin.
        multiple_hz: As many times what one machine holds, without the gain of pooling.
        latency_ms: Judged percentile at the wanted rate, with the margin; None where the rate is
            more than they can serve at all.
        holds: Whether they hold the goal.
    """

    machines: int
    holds_hz: float
    multiple_hz: float
    latency_ms: float | None
    holds: bool


class CapacityPlan(msgspec.Struct, frozen=True):
    """Machines for a rate.

    Attributes:
        schema: Name and version of the document: `seatrial.capacity/1`.
        source: File of the measured curve.
        goal: What they have to hold.
        model: One machine as it was simulated, fitted to the points.
        checks: Measured points beside the simulation of one machine.
        margin: Share by which all times are longer in the simulation of the machines than fitted.
        margin_reason: Where the margin is from.
        machines: Smallest number that holds the goal; None where no number does.
        machines_bought: Smallest number that still holds it with `goal.machines_fail` out.
        naive_machines: Number that the rate of one machine, multiplied, would ask for; None where
            one machine holds no rate.
        rows: Numbers of machines around these, rising.
        curve: Rates of one machine with its judged percentile in ms, as fitted, without the margin.
        measured_hz: Highest rate that was measured on one machine: none is given over `BEYOND`
            times as much.
        firm: Whether the queue describes the measured points; else the numbers are a hint at most.
        caveats: What a reader has to know before the figures.
        conditions: Where and by which command the plan was made; None where a program did.
    """

    schema: str
    source: str
    goal: CapacityGoal
    model: MachineModel
    checks: tuple[PointCheck, ...]
    margin: float
    margin_reason: str
    machines: int | None
    machines_bought: int | None
    naive_machines: int | None
    rows: tuple[CapacityRow, ...]
    curve: tuple[tuple[float, float], ...]
    measured_hz: float
    firm: bool = True
    caveats: tuple[str, ...] = ()
    conditions: Conditions | None = None

    @property
    def beyond(self) -> float:
        """Rate of each of the machines that are needed, over the highest measured one."""
        return self.goal.rate_hz / self.machines / self.measured_hz if self.machines else 0.0


def plan_capacity(
    points: Sequence[CurvePoint],
    goal: CapacityGoal,
    *,
    lanes: int | None = None,
    shape: Sequence[float] = (),
    refused_hz: float | None = None,
    source: str = "",
    caveats: Sequence[str] = (),
    seed: int = 0,
    on_progress: Progress = silent,
) -> CapacityPlan:
    """Fit one machine, check it against its points, and simulate as many as it takes.

    Args:
        points: Measured points of one machine.
        goal: What is to be held.
        lanes: Lanes of the machine; None: fitted.
        shape: See `MachineModel.shape`.
        refused_hz: Rate at which the measured machine failed to answer: none is given as much.
        source: Name of the file that the points are from.
        caveats: What is known beforehand, such as points that were left out.
        seed: Seed of all random numbers.
        on_progress: Told what is done.

    Raises:
        InvalidInput: A number of the goal, of lanes or the seed is out of its range, or more than
            `MOST_MACHINES` would be needed.
        MissingExtra: SciPy is not installed.
    """
    check_goal(goal)
    check_numbers(lanes, seed)
    on_progress("fitting a queue to the measured points")
    model = fit_machine(points, lanes=lanes, shape=shape, seed=seed)
    checks = check_points(model, points)
    margin, reason, covered = margin_of(model, points, goal)
    slower, measured_hz = model.slower(1 + margin), max(one.served_hz for one in points)
    failed_hz = refused_hz or math.inf
    cluster = Cluster(slower, goal, seed, min(failed_hz, BEYOND * measured_hz))
    on_progress("simulating machines behind a balancer")
    needed = cluster.smallest()
    one_hz = cluster.holds_hz(1)
    if needed is not None:
        alone = Cluster(slower, goal, seed, failed_hz).smallest()
        caveats = (*extrapolation(needed, alone, goal, measured_hz, model), *caveats)
    if refused_hz is not None:
        told = f"at {per_second(refused_hz)} the measured machine failed to answer"
        caveats = (*caveats, f"{told}: none is given as much")
    bought = None if needed is None else needed + goal.machines_fail
    return CapacityPlan(
        schema=SCHEMA,
        source=source,
        goal=goal,
        model=model,
        checks=checks,
        margin=margin,
        margin_reason=reason,
        machines=needed,
        machines_bought=bought,
        naive_machines=math.ceil(goal.rate_hz / one_hz - 1e-9) if one_hz else None,
        rows=tuple(cluster.row(count, one_hz) for count in shown_counts(bought or 4)),
        curve=Cluster(model, goal, seed).curve(),
        measured_hz=measured_hz,
        firm=covered and worst_point(checks, goal)[1] <= POOR_ERROR,
        caveats=(*measured_caveats(checks, goal), *caveats),
    )


class Cluster:
    """Simulated machines that are alike, behind a balancer, always with the same random numbers."""

    def __init__(
        self, model: MachineModel, goal: CapacityGoal, seed: int, most_hz: float = math.inf
    ) -> None:
        self._model, self._goal, self._seed = model, goal, seed
        self._most_hz = min(model.saturation_hz, most_hz)  # of one machine

    def latency_ms(self, machines: int, rate_hz: float) -> float | None:
        """Judged percentile at a rate, ms; None at a rate that is too much in the long run."""
        model, goal = self._model, self._goal
        if rate_hz >= machines * self._most_hz:
            return None
        until_s = max(REQUESTS / rate_hz, SHORTEST_S)
        due_s = LAWS_BY_RATE[goal.arrivals](rate_hz).due_s(self._seed, until_s)
        ranks = np.random.default_rng((self._seed, 1)).random(len(due_s))
        pool = model.machines(machines, goal.balancer)
        latency_s = open_loop_latencies(due_s, model.service_s(ranks), pool)
        counted = latency_s[int(len(latency_s) * WARMUP_SHARE) :]
        value_s = float(np.quantile(counted, PERCENTILES[goal.percentile]))
        return value_s * 1e3 + model.overhead_ms

    def holds(self, machines: int, rate_hz: float) -> bool:
        """Whether the percentile is within the limit."""
        found = self.latency_ms(machines, rate_hz)
        return found is not None and found <= self._goal.at_most_ms

    def holds_hz(self, machines: int) -> float:
        """Highest rate that holds; 0 where none does."""
        high = machines * self._most_hz
        low = 0.0
        if not self.holds(machines, 0.02 * high):
            return low
        for _ in range(RATE_STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.holds(machines, middle) else (low, middle)
        return low

    def smallest(self) -> int | None:
        """Smallest number of machines that hold the goal; None where no number does."""
        if not self.holds(1, 0.02 * self._most_hz):
            return None
        rate_hz = self._goal.rate_hz
        least = max(1, math.ceil(rate_hz / self._most_hz))
        most = math.ceil(rate_hz / max(self.holds_hz(1), 1e-9))
        if least > MOST_MACHINES:
            raise InvalidInput(
                f"{rate_hz:.4g} requests per second would need more than {MOST_MACHINES} machines",
                hint="plan for a part of the rate",
            )
        most = max(least, min(most, MOST_MACHINES))
        while not self.holds(most, rate_hz):  # within the noise of the simulation
            least, most = most + 1, most + max(1, most // 20)
        while least < most:
            middle = (least + most) // 2
            least, most = (least, middle) if self.holds(middle, rate_hz) else (middle + 1, most)
        return most

    def row(self, machines: int, one_hz: float) -> CapacityRow:
        """A number of machines, and the rate that it holds."""
        rate_hz = self._goal.rate_hz
        return CapacityRow(
            machines=machines,
            holds_hz=self.holds_hz(machines),
            multiple_hz=machines * one_hz,
            latency_ms=self.latency_ms(machines, rate_hz),
            holds=self.holds(machines, rate_hz),
        )

    def curve(self) -> tuple[tuple[float, float], ...]:
        """Judged percentile of one machine over its rate, up to three times the limit."""
        found: list[tuple[float, float]] = []
        for share in (0.05, 0.2, 0.35, 0.5, 0.6, 0.7, 0.78, 0.84, 0.89, 0.93, 0.96, 0.98):
            rate_hz = share * self._model.saturation_hz
            value_ms = self.latency_ms(1, rate_hz)
            if value_ms is None or (found and value_ms > 3 * self._goal.at_most_ms):
                break
            found.append((rate_hz, value_ms))
        return tuple(found)


def margin_of(
    model: MachineModel, points: Sequence[CurvePoint], goal: CapacityGoal, seed: int = 2_000
) -> tuple[float, str, bool]:
    """Share by which all times of the model are made longer, why, and whether that is enough.

    With it the simulation is below none of the measured percentiles that are within the limit, or
    that it says are. A margin on times is one on the rate as well: near saturation, where a small
    error of the rate makes a large one of the latency, it asks for no more than the small one.
    """
    name = goal.percentile
    known = [one for one in points if name in one.percentiles_ms]
    known = [one for one in known if one.rate_hz is not None] or known
    draws = [draw(one, CHECK_REQUESTS, seed + n) for n, one in enumerate(known)]
    near = [
        (point, drawn)
        for point, drawn in zip(known, draws, strict=True)
        if min(point.percentiles_ms[name], simulate(model, point, drawn)[name]) <= goal.at_most_ms
    ]
    if not near:
        return LEAST_MARGIN, "assumed, as no measured point is within the limit", True

    def covers(margin: float) -> bool:
        slower = model.slower(1 + margin)
        found = (simulate(slower, point, drawn)[name] for point, drawn in near)
        return all(one >= p.percentiles_ms[name] for one, (p, _) in zip(found, near, strict=True))

    if covers(LEAST_MARGIN):
        return LEAST_MARGIN, f"assumed; the simulation is below no measured {name} with it", True
    if not covers(MOST_MARGIN):
        words = f"the largest that is tried; the simulation is below a measured {name} even with it"
        return MOST_MARGIN, words, False
    low, high = LEAST_MARGIN, MOST_MARGIN
    for _ in range(MARGIN_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if covers(middle) else (middle, high)
    return high, f"with less the simulation is below a measured {name}", True


def shown_counts(most: int) -> list[int]:
    """Numbers of machines for the table: all of a few, else rising by equal factors to `most`."""
    if most <= MOST_ROWS:
        return list(range(1, most + 1))
    rising = np.rint(np.geomspace(1, most - 2, MOST_ROWS - 2)).astype(int).tolist()
    return sorted({*rising, most - 1, most})
