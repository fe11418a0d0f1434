"""A queue in the place of one machine, fitted to the latencies that were measured on it.

The machine is a number of lanes before which requests wait, first come first served. Its service
times are those of a shape (as measured on lone requests, else log-normal) whose mean and spread are
fitted so that the simulation gives the measured percentiles; what holds no lane (network, decoding
beside the lanes) is added to each latency.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.load.arrivals import LAWS_BY_RATE
from seatrial.load.queue_simulation import (
    Balancer,
    Machines,
    closed_loop_latencies,
    open_loop_latencies,
)
from seatrial.load.statistics import PERCENTILES
from seatrial.system.extras import require
from seatrial.trial.capacity_points import CurvePoint, normal_shape

Floats = NDArray[np.float64]
LANES = (1, 2, 3, 4, 6, 8, 12, 16)  # tried where the report does not say how many there are
# Simulated requests of a point, in the mean of the points: in the search for the lanes, and in that
# for the other parameters. The last: of each point, for what is reported.
COARSE_REQUESTS, FINE_REQUESTS, CHECK_REQUESTS = 3_000, 20_000, 40_000
COARSE_STEPS, FINE_STEPS = 80, 240  # of the search
# Least relative error of a percentile: a good fit of a point with very many requests does not make
# up for a bad one elsewhere.
LEAST_ERROR = 0.02
# Windows from which the noise of a measured one is taken, and their most requests: that of a longer
# one is less by the root of its length.
NOISE_WINDOWS, NOISE_REQUESTS = 16, 4_000
WARMUP_SHARE = 0.1
# Sums of squares closer than this cannot tell two numbers of lanes apart.
ALIKE = 4.0
# Spread: standard deviation of the logarithm of the service time.
LOWER = (math.log(1e-3), 0.0, 0.2, 0.0)
UPPER = (math.log(1e6), 2.0, 1.0, 0.9)


class MachineModel(msgspec.Struct, frozen=True):
    """One machine as a queue.

    Attributes:
        lanes: Requests that are served at a time.
        service_ms: Mean time that a request holds a lane.
        spread: Standard deviation of the logarithm of that time.
        alone: Service time of a request that finds the machine empty, over that of others.
        overhead_ms: Part of each latency that holds no lane.
        shape: Logarithms of service times, mean 0 and standard deviation 1, ascending; as measured
            on lone requests, or normal.
        lanes_alike: Numbers of lanes that fit the points about as well, `lanes` among them; empty
            where the number was given.
    """

    lanes: int
    service_ms: float
    spread: float
    alone: float
    overhead_ms: float
    shape: tuple[float, ...]
    lanes_alike: tuple[int, ...] = ()

    @property
    def saturation_hz(self) -> float:
        """Rate at which all lanes are busy all the time."""
        return 1e3 * self.lanes / self.service_ms

    def service_s(self, ranks: Floats) -> Floats:
        """Service times of requests, seconds; of ranks 0-1 that are drawn evenly, (N,)."""
        grid = np.exp(self.spread * np.array(self.shape))
        drawn = np.interp(ranks, np.linspace(0, 1, len(grid)), grid)
        mean = float(np.mean((grid[1:] + grid[:-1]) / 2))
        return np.asarray(drawn * (self.service_ms / 1e3 / mean), np.float64)

    def slower(self, factor: float) -> MachineModel:
        """The same machine with all its times so many times as long."""
        return msgspec.structs.replace(
            self, service_ms=self.service_ms * factor, overhead_ms=self.overhead_ms * factor
        )

    def machines(self, count: int, balancer: Balancer = "least-requests") -> Machines:
        """So many of these machines."""
        return Machines(count, self.lanes, balancer, self.alone)


class PointCheck(msgspec.Struct, frozen=True):
    """One measured point beside the simulation of the same load.

    Attributes:
        load: Load in words.
        rate_hz: Offered rate of an open loop; None in a closed loop.
        count: Number of measured requests.
        measured_ms: Percentiles as measured.
        simulated_ms: All percentiles of the simulation.
        noise: Relative standard deviation of each between simulated windows of this length: as much
            another measurement of the same service would differ.
    """

    load: str
    rate_hz: float | None
    count: int
    measured_ms: dict[str, float]
    simulated_ms: dict[str, float]
    noise: dict[str, float]

    def error(self, name: str) -> float | None:
        """Simulated over measured percentile, less 1; None where it was not measured."""
        measured = self.measured_ms.get(name)
        return None if measured is None else self.simulated_ms[name] / measured - 1


class _Draws(msgspec.Struct, frozen=True):
    """The random numbers of a point: the same for all parameters, so that these alone differ.

    Attributes:
        due_s: Arrivals of each window; empty in a closed loop.
        ranks: Ranks of the service times of each window.
        warmup: Requests of each window that do not count.
    """

    due_s: tuple[Floats, ...]
    ranks: tuple[Floats, ...]
    warmup: int


def fit_machine(
    points: Sequence[CurvePoint],
    *,
    lanes: int | None = None,
    shape: Sequence[float] = (),
    seed: int = 0,
) -> MachineModel:
    """Fit a queue to measured points.

    The sum of the squared logarithms of simulated over measured percentiles is made small (Nelder &
    Mead, 1965), each in units of its noise: near saturation the percentiles of two windows of one
    service differ far more than their number of requests tells, as these wait in one queue.

    Args:
        points: Points of one machine.
        lanes: Number of lanes; None: that with the smallest sum.
        shape: See `MachineModel.shape`.
        seed: Seed of the simulated requests.

    Raises:
        MissingExtra: SciPy is not installed.
    """
    require("scipy", extra="bench", purpose="planning a capacity")
    form = tuple(shape) or normal_shape()
    tried = (lanes,) if lanes is not None else LANES
    usual = [dict.fromkeys(PERCENTILES, LEAST_ERROR) for _ in points]
    coarse = [_Search(points, form, count, usual, COARSE_REQUESTS, seed) for count in tried]
    runs = [one.run(_begin(points, one.lanes), COARSE_STEPS) for one in coarse]
    found = min(runs)
    alike = () if lanes is not None else tuple(n for far, n, _ in runs if far < found[0] + ALIKE)
    for requests, steps in ((2 * COARSE_REQUESTS, COARSE_STEPS), (FINE_REQUESTS, FINE_STEPS)):
        model = _model(found[2], found[1], form)
        noise = [_noise(model, p, seed + 500 + n) for n, p in enumerate(points)]
        fine = _Search(points, form, model.lanes, noise, requests, seed)
        found = fine.run(found[2], steps)
    model = _model(found[2], found[1], form)
    return msgspec.structs.replace(model, lanes_alike=alike)


class _Search:
    """The search for the parameters of a number of lanes, always with the same random numbers."""

    def __init__(
        self,
        points: Sequence[CurvePoint],
        shape: tuple[float, ...],
        lanes: int,
        noise: Sequence[dict[str, float]],
        requests: int,
        seed: int,
    ) -> None:
        self.lanes = lanes
        self._shape = shape
        # Most requests where the percentiles move most, so that the simulation moves them little.
        spread = [one["p99"] * math.sqrt(p.count) for one, p in zip(noise, points, strict=True)]
        mean = sum(spread) / len(spread)
        shares = [max(0.2, one / mean) if mean else 1.0 for one in spread]
        counts = [math.ceil(share * requests) for share in shares]
        pairs = enumerate(zip(points, counts, strict=True))
        draws = [draw(point, count, seed + n) for n, (point, count) in pairs]
        self._rows = list(zip(points, draws, noise, counts, strict=True))

    def run(self, begin: Sequence[float], steps: int) -> tuple[float, int, list[float]]:
        """Smallest sum that so many steps find, the number of lanes, and the parameters."""
        from scipy.optimize import minimize

        found = minimize(
            self._distance,
            begin,
            method="Nelder-Mead",
            bounds=list(zip(LOWER, UPPER, strict=True)),
            options={"maxfev": steps, "xatol": 2e-3, "fatol": 0.02},
        )
        return float(found.fun), self.lanes, [float(value) for value in found.x]

    def _distance(self, values: Sequence[float]) -> float:
        model = _model(values, self.lanes, self._shape)
        # The simulated sample has its noise too, the more the fewer there are of it.
        return sum(
            math.log(simulated[name] / value) ** 2
            / (noise[name] ** 2 * (1 + point.count / requests) + LEAST_ERROR**2)
            for point, draws, noise, requests in self._rows
            for simulated in [simulate(model, point, draws)]
            for name, value in point.percentiles_ms.items()
        )


def _noise(model: MachineModel, point: CurvePoint, seed: int) -> dict[str, float]:
    """Relative error of the percentiles of a window like the measured one."""
    short = msgspec.structs.replace(point, count=min(point.count, NOISE_REQUESTS))
    windows = simulate_windows(model, short, draw(short, NOISE_WINDOWS * short.count, seed))
    deviations = np.log(windows).std(axis=0, ddof=1) * math.sqrt(short.count / point.count)
    return dict(zip(PERCENTILES, deviations.tolist(), strict=True))


def check_points(
    model: MachineModel, points: Sequence[CurvePoint], seed: int = 1_000
) -> tuple[PointCheck, ...]:
    """Measured points beside the simulation, with other random numbers than those of the fit."""
    return tuple(
        PointCheck(
            load=point.words,
            rate_hz=point.rate_hz,
            count=point.count,
            measured_ms=point.percentiles_ms,
            simulated_ms=simulate(model, point, draw(point, CHECK_REQUESTS, seed + n)),
            noise=_noise(model, point, seed + 500 + n),
        )
        for n, point in enumerate(points)
    )


def draw(point: CurvePoint, requests: int, seed: int) -> _Draws:
    """The random numbers for windows as long as the measured one, so many requests together."""
    each = min(point.count, requests)
    warmup = math.ceil(each * WARMUP_SHARE)
    due_s: list[Floats] = []
    ranks: list[Floats] = []
    for window in range(max(1, requests // each)):
        chance = np.random.default_rng((seed, window))
        size = each + warmup
        if point.rate_hz is not None:
            # A window is as long as it was measured: the number of its requests is random.
            law = LAWS_BY_RATE[point.arrivals](point.rate_hz)
            due_s.append(law.due_s(seed * 1_000 + window, (each + warmup) / point.rate_hz))
            size = len(due_s[-1])
        ranks.append(chance.random(size))
    return _Draws(tuple(due_s), tuple(ranks), warmup)


def simulate(model: MachineModel, point: CurvePoint, draws: _Draws) -> dict[str, float]:
    """Percentiles of the simulated windows of a point, ms: the median over the windows of each."""
    values = np.median(simulate_windows(model, point, draws), axis=0).tolist()
    return dict(zip(PERCENTILES, values, strict=True))


def simulate_windows(model: MachineModel, point: CurvePoint, draws: _Draws) -> Floats:
    """Percentiles of each simulated window of a point, ms, (windows, percentiles)."""
    machine = model.machines(1)
    found: list[Floats] = []
    for due_s, ranks in itertools.zip_longest(draws.due_s, draws.ranks):
        service_s = model.service_s(ranks)
        if due_s is None:
            latency_s = closed_loop_latencies(service_s, point.sessions, machine)
        else:
            latency_s = open_loop_latencies(due_s, service_s, machine)
        found.append(np.quantile(latency_s[draws.warmup :], [*PERCENTILES.values()]))
    return np.array(found) * 1e3 + model.overhead_ms


def _begin(points: Sequence[CurvePoint], lanes: int) -> list[float]:
    """Parameters to begin with: no less time than the best rate leaves to each lane."""
    halves = [*_halves(points)]
    lone_ms = min(halves)
    pairs = zip(points, halves, strict=True)
    rates = [point.rate_hz or 1e3 * point.sessions / half for point, half in pairs]
    held_ms = min(1e3 * lanes / max(rates), 3 * lone_ms)
    return [math.log(max(held_ms * 0.95, 0.3 * lone_ms)), 0.2, min(1.0, lone_ms / held_ms), 0.1]


def _halves(points: Sequence[CurvePoint]) -> Iterator[float]:
    return (next(iter(point.percentiles_ms.values())) for point in points)


def _model(values: Sequence[float], lanes: int, shape: tuple[float, ...]) -> MachineModel:
    """A model of the parameters: log of the service time, spread, alone, overhead over service."""
    service_ms = math.exp(values[0])
    return MachineModel(
        lanes=lanes,
        service_ms=service_ms,
        spread=values[1],
        alone=values[2],
        overhead_ms=values[3] * service_ms,
        shape=shape,
    )
