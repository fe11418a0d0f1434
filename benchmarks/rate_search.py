"""The search for the highest rate that holds, beside MLRsearch and bisection, on a simulated clock.

python benchmarks/rate_search.py fast | slow | budgets

Servers of which the highest rate is known: M/M/1 with a bound of 10 service times, M/D/1 with 5 and
with 10, and two with a hidden knee: above some rate each request takes 3 or 1.3 times as long. A
service takes 1 ms (fast) or 20 ms (slow); p99 may be no later than the bound. Bisection goes from
the lowest to the highest rate by windows of 60 s until 3 % are left; the search has a third of its
time, MLRsearch takes what it takes with its defaults. Budgets: what the search reaches in more time
and in less, and what bisection does with longer and shorter windows.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import measure
import numpy as np
from MLRsearch import AbstractMeasurer, Config, MeasurementResult, MultipleLossRatioSearch
from MLRsearch import SearchGoal as MlrGoal

sys.path.insert(0, str(measure.ROOT / "tests" / "support"))

from seatrial.load.rate_search import RateGoal, search_rate
from simulated_servers import (
    SimulatedServer,
    bisection,
    constant,
    exponential,
    kneed,
    truth_of_constant,
    truth_of_exponential,
)

SEARCHES = 200
SERVICES_S = {"fast": 0.001, "slow": 0.02}
GOAL = RateGoal(width=0.03, budget_s=180.0)
WINDOW_S = 60.0
KNEE = 0.53  # of the rate at which the server is busy all the time
SERVERS = ("M/M/1", "M/D/1", "M/D/1, wider bound", "knee", "mild knee")
BUDGETS_S = (60.0, 180.0, 540.0)
WINDOWS_S = (20.0, 60.0, 180.0, 540.0)
WAYS = ("search", "MLRsearch", "bisection")

Outcome = tuple[float, float, float, float]  # lower end, estimate, upper end, seconds


def main() -> None:
    """Search, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("fast", "slow", "budgets"))
    parser.add_argument("--searches", type=int, default=SEARCHES)
    options = parser.parse_args()
    if options.what == "budgets":
        figures = budgets(options.searches)
    else:
        figures = beside_others(SERVICES_S[options.what], options.searches)
    if options.searches == SEARCHES:
        measure.save(f"rate_search_{options.what}", figures, ["numpy", "scipy", "MLRsearch"])


def beside_others(service_s: float, searches: int) -> dict[str, Any]:
    """Three ways to the highest rate of each server."""
    ways = {"search": ours, "MLRsearch": by_mlrsearch, "bisection": by_bisection}
    return {
        f"{server}, {name}": told(server, service_s, way, searches, f"{server}, {name}")
        for server in SERVERS
        for name, way in ways.items()
    }


def budgets(searches: int) -> dict[str, Any]:
    """The search in more time and in less; bisection with longer and with shorter windows."""
    figures: dict[str, Any] = {}
    for (kind, service_s), server in (
        (pair, server) for pair in SERVICES_S.items() for server in ("M/M/1", "M/D/1")
    ):
        rows = [("search", partial(ours, budget_s=budget_s)) for budget_s in BUDGETS_S]
        rows += [("bisection", partial(by_bisection, window_s=each)) for each in WINDOWS_S]
        for name, way in rows:
            row = told(server, service_s, way, searches, f"{server}, {kind}, {name}")
            figures[f"{server}, {kind}, {name}, {row['seconds']:.0f} s"] = row
    return figures


def told(
    server: str,
    service_s: float,
    way: Callable[[SimulatedServer], Outcome],
    searches: int,
    name: str,
) -> dict[str, float]:
    """Figures of many searches, which are printed too."""
    truth = truth_of(server, service_s)
    with ProcessPoolExecutor(2) as pool:
        seeds = range(searches)
        each = partial(once, server, service_s, way)
        found = np.array(list(pool.map(each, seeds, chunksize=10)))
    low, rate, high, seconds = found.T
    errors = np.abs(rate / truth - 1)
    row = {
        "interval holds the truth, %": 100 * float(np.mean((low <= truth) & (truth <= high))),
        "its width, %": 100 * float(np.median((high - low) / truth)),
        "error, %": 100 * float(np.median(errors)),
        "error of 19 in 20, %": 100 * float(np.quantile(errors, 0.95)),
        "mean of errors, %": 100 * float(np.mean(rate / truth - 1)),
        "within 3 %, %": 100 * float(np.mean(errors <= 0.03)),
        "seconds": float(np.mean(seconds)),
        "longest, s": float(np.max(seconds)),
    }
    print(name, {key: round(value, 2) for key, value in row.items()}, file=sys.stderr, flush=True)
    return row


def once(
    server: str, service_s: float, way: Callable[[SimulatedServer], Outcome], seed: int
) -> Outcome:
    """One search."""
    return way(server_of(server, service_s, seed))


def server_of(server: str, service_s: float, seed: int) -> SimulatedServer:
    """A server by its name."""
    if server == "M/M/1":
        return exponential(service_s, 10 * service_s, seed)
    if server == "M/D/1":
        return constant(service_s, 5 * service_s, seed)
    if server == "M/D/1, wider bound":
        return constant(service_s, 10 * service_s, seed)
    times = 3.0 if server == "knee" else 1.3
    return kneed(service_s, 5 * service_s, KNEE / service_s, seed, times)


def truth_of(server: str, service_s: float) -> float:
    """The highest rate of a server."""
    allowed = GOAL.allowed
    if server == "M/M/1":
        return float(truth_of_exponential(service_s, 10 * service_s, allowed))
    if "knee" in server:
        return KNEE / service_s
    bound_s = (5 if server == "M/D/1" else 10) * service_s
    return float(truth_of_constant(service_s, bound_s, allowed))


def ours(server: SimulatedServer, budget_s: float = GOAL.budget_s) -> Outcome:
    """The search."""
    goal = RateGoal(width=GOAL.width, budget_s=budget_s)
    found = search_rate(server.measure, goal)
    return found.low_hz, found.rate_hz, found.high_hz, found.elapsed_s


def by_bisection(server: SimulatedServer, window_s: float = WINDOW_S) -> Outcome:
    """Bisection; its interval is the last one."""
    rate_hz, seconds = bisection(
        server.measure, GOAL.low_hz, GOAL.high_hz, GOAL.allowed, GOAL.width, window_s
    )
    half = math.sqrt(1 + GOAL.width)
    return rate_hz / half, rate_hz, rate_hz * half, seconds


class _Measurer(AbstractMeasurer):  # type: ignore[misc]
    """A simulated server as MLRsearch takes it."""

    def __init__(self, server: SimulatedServer) -> None:
        self.server = server

    def measure(self, intended_duration: float, intended_load: float) -> MeasurementResult:
        """One trial: a request that is late is lost."""
        trial = self.server.measure(intended_load, intended_duration)
        return MeasurementResult(
            intended_duration=intended_duration,
            intended_load=intended_load,
            offered_count=trial.offered,
            loss_count=trial.bad,
        )


def by_mlrsearch(server: SimulatedServer) -> Outcome:
    """MLRsearch, with its own defaults but for the goal; its interval is that of its bounds."""
    goal = MlrGoal(
        loss_ratio=GOAL.allowed, exceed_ratio=0.5, relative_width=GOAL.width,
        initial_trial_duration=1.0, final_trial_duration=10.0, duration_sum=21.0,
    )  # fmt: skip
    config = Config()
    config.goals = (goal,)
    config.min_load = GOAL.low_hz  # first: a highest load below the lowest is refused
    config.max_load = GOAL.high_hz
    config.search_duration_max = 1200.0
    config.warmup_duration = 0.0
    search = MultipleLossRatioSearch(config)
    result = search.search(_Measurer(server), debug=lambda _: None)[goal]
    low = float(result.relevant_lower_bound) if result.relevant_lower_bound else GOAL.low_hz
    high = float(result.relevant_upper_bound) if result.relevant_upper_bound else GOAL.high_hz
    return low, math.sqrt(low * high), high, server.elapsed_s


if __name__ == "__main__":
    main()
