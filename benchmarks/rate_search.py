"""Searches for the highest rate that holds, on simulated servers whose truth is known.

    python benchmarks/rate_search.py [--searches 200] [--service-s 0.001]

Each server is searched by bisection with windows of a minute, by MLRsearch as it comes (goal of a
loss ratio, trials of 1 to 10 s), and by ours in a third of the time of bisection. The column
`within_3_percent` has the share of the answers that are that near to the truth, and `covered` the
share of the intervals that hold it (of MLRsearch: from its lower to its upper bound).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import measure
import MLRsearch
import numpy as np

from seatrial.load.rate_search import RateGoal, search_rate

sys.path.append(str(measure.ROOT / "tests" / "support"))
from simulated_servers import (
    SimulatedServer,
    bisection,
    constant,
    exponential,
    kneed,
    truth_of_constant,
    truth_of_exponential,
)

ALLOWED, WIDTH = 0.01, 0.03
LOW_HZ, HIGH_HZ = 1.0, 5000.0  # for a service time of a millisecond
Answer = tuple[float, float, float, float]  # low, estimate, high, seconds


class Measurer(MLRsearch.AbstractMeasurer):  # type: ignore[misc]
    """A simulated server as MLRsearch asks it."""

    def __init__(self, server: SimulatedServer) -> None:
        self._server = server

    def measure(self, intended_duration: float, intended_load: float) -> Any:
        """A trial; late requests are its losses."""
        trial = self._server.measure(intended_load, intended_duration)
        return MLRsearch.MeasurementResult(
            intended_duration, intended_load, offered_count=trial.offered, loss_count=trial.bad
        )


def by_mlrsearch(server: SimulatedServer, scale: float) -> Answer:
    """MLRsearch with the goal of a percentile."""
    config = MLRsearch.Config()
    config.goals = [
        MLRsearch.SearchGoal(
            loss_ratio=ALLOWED, relative_width=WIDTH, initial_trial_duration=1.0,
            final_trial_duration=10.0, duration_sum=21.0, fail_fast=False,
        )
    ]  # fmt: skip
    config.max_load = 1e9
    config.min_load, config.max_load = LOW_HZ * scale, HIGH_HZ * scale
    config.search_duration_max, config.warmup_duration = 1e9, None
    found = MLRsearch.MultipleLossRatioSearch(config=config).search(
        measurer=Measurer(server), debug=lambda text: None
    )
    (result,) = found.values()
    low, high = result.relevant_lower_bound, result.relevant_upper_bound
    ends = (
        LOW_HZ * scale if low is None else float(low),
        HIGH_HZ * scale if high is None else float(high),
    )
    return ends[0], (ends[0] * ends[1]) ** 0.5, ends[1], server.elapsed_s


def by_bisection(server: SimulatedServer, scale: float) -> Answer:
    """Bisection with windows of a minute."""
    rate_hz, seconds = bisection(server.measure, LOW_HZ * scale, HIGH_HZ * scale, ALLOWED, WIDTH)
    return rate_hz * (1 - WIDTH / 2), rate_hz, rate_hz * (1 + WIDTH / 2), seconds


def by_ours(server: SimulatedServer, scale: float) -> Answer:
    """Ours, in a third of the time."""
    goal = RateGoal(
        low_hz=LOW_HZ * scale, high_hz=HIGH_HZ * scale, start_hz=10 * scale, budget_s=180.0
    )
    found = search_rate(server.measure, goal)
    return found.low_hz, found.rate_hz, found.high_hz, found.elapsed_s


METHODS: dict[str, Callable[[SimulatedServer, float], Answer]] = {
    "bisection": by_bisection, "MLRsearch": by_mlrsearch, "ours": by_ours,
}  # fmt: skip


def main() -> None:
    """Search and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--searches", type=int, default=200)
    parser.add_argument("--service-s", type=float, default=0.001)
    options = parser.parse_args()
    one = options.service_s
    servers: dict[str, tuple[Callable[[int], SimulatedServer], float]] = {
        "M/M/1, 10 service times": (
            lambda seed: exponential(one, 10 * one, seed),
            truth_of_exponential(one, 10 * one, ALLOWED),
        ),
        "M/D/1, 5 service times": (
            lambda seed: constant(one, 5 * one, seed), truth_of_constant(one, 5 * one, ALLOWED),
        ),
        "M/D/1, 10 service times": (
            lambda seed: constant(one, 10 * one, seed), truth_of_constant(one, 10 * one, ALLOWED),
        ),
        "knee at 0.53 of the capacity": (
            lambda seed: kneed(one, 5 * one, 0.53 / one, seed), 0.53 / one,
        ),
    }  # fmt: skip
    figures: dict[str, Any] = {"searches": options.searches, "service_s": one}
    for name, (make, truth) in servers.items():
        for method, search in METHODS.items():
            answers = np.array(
                [search(make(seed), 0.001 / one) for seed in range(options.searches)]
            )
            low, estimate, high, seconds = answers.T
            error = np.abs(estimate / truth - 1)
            figures[f"{name}: {method}"] = {
                "truth_hz": round(truth, 2),
                "error_p50": round(float(np.median(error)), 4),
                "error_p90": round(float(np.quantile(error, 0.9)), 4),
                "within_3_percent": round(float(np.mean(error < 0.03)), 3),
                "covered": round(float(np.mean((low <= truth) & (truth <= high))), 3),
                "width_p50": round(float(np.median((high - low) / estimate)), 4),
                "seconds": round(float(seconds.mean()), 1),
            }
            print(name, method, figures[f"{name}: {method}"], flush=True)
    measure.save(
        "rate_search" if one == 0.001 else f"rate_search-{one:g}", figures, ["MLRsearch", "scipy"]
    )


if __name__ == "__main__":
    main()
