"""Servers on a simulated clock: a search takes milliseconds, and the truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq

from seatrial.load.queue_simulation import single_lane_ends
from seatrial.load.queue_theory import md1_waits_at_most
from seatrial.load.rate_search import RateTrial


class SimulatedServer:
    """A server with one place; see the functions below."""

    def __init__(
        self,
        draw: Callable[[np.random.Generator, int, float], np.ndarray],
        limit_s: float,
        seed: int,
    ) -> None:
        self._draw, self._limit_s = draw, limit_s
        self._chance = np.random.default_rng(seed)
        self.elapsed_s = 0.0

    def late(self, rate_hz: float, duration_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Arrival times, and whether each was late."""
        count = self._chance.poisson(rate_hz * duration_s)
        at = np.sort(self._chance.uniform(0, duration_s, count))
        services = self._draw(self._chance, count, rate_hz)
        return at, single_lane_ends(at, services) - at > self._limit_s

    def measure(self, rate_hz: float, duration_s: float) -> RateTrial:
        """A trial from an empty server."""
        at, late = self.late(rate_hz, duration_s)
        self.elapsed_s += duration_s
        seconds = max(1, math.ceil(duration_s))
        slices = np.minimum(at.astype(int), seconds - 1)
        offered = np.bincount(slices, minlength=seconds)
        bad = np.bincount(slices, weights=late, minlength=seconds).astype(int)
        return RateTrial(
            rate_hz, duration_s, int(offered.sum()), int(bad.sum()), False,
            tuple(bad.tolist()), tuple(offered.tolist()),
        )  # fmt: skip


def exponential(service_s: float, limit_s: float, seed: int) -> SimulatedServer:
    """M/M/1."""
    return SimulatedServer(lambda g, n, _: g.exponential(service_s, n), limit_s, seed)


def constant(service_s: float, limit_s: float, seed: int) -> SimulatedServer:
    """M/D/1."""
    return SimulatedServer(lambda g, n, _: np.full(n, service_s), limit_s, seed)


def kneed(
    service_s: float, limit_s: float, knee_hz: float, seed: int, times: float = 3.0
) -> SimulatedServer:
    """A service time that is several times as long above some rate."""

    def draw(chance: np.random.Generator, count: int, rate_hz: float) -> np.ndarray:
        return np.full(count, service_s * (times if rate_hz > knee_hz else 1.0))

    return SimulatedServer(draw, limit_s, seed)


def truth_of_exponential(service_s: float, limit_s: float, allowed: float) -> float:
    """Highest rate of M/M/1: the time in the system is exponential."""
    return 1 / service_s + math.log(allowed) / limit_s


def truth_of_constant(service_s: float, limit_s: float, allowed: float) -> float:
    """Highest rate of M/D/1: the wait in it has a closed form."""

    def excess(offered: float) -> float:
        return 1 - md1_waits_at_most(limit_s / service_s - 1, offered) - allowed

    return float(brentq(excess, 0.05, 0.995)) / service_s


def bisection(
    measure: Callable[[float, float], RateTrial],
    low_hz: float,
    high_hz: float,
    allowed: float,
    width: float,
    window_s: float = 60.0,
) -> tuple[float, float]:
    """Bisection with windows of one length, as load tools do it: the rate, and the time it took."""
    elapsed_s = 0.0
    while high_hz / low_hz > 1 + width:
        middle = math.sqrt(low_hz * high_hz)
        trial = measure(middle, window_s)
        elapsed_s += window_s
        if trial.bad <= allowed * trial.offered:
            low_hz = middle
        else:
            high_hz = middle
    return math.sqrt(low_hz * high_hz), elapsed_s
