"""An estimate of capacity from few trials, to rank candidates long before their intervals close.

The share of late requests does not fall as the rate grows: the shares of all trials are made
monotone (isotonic regression by pooling adjacent violators: Barlow et al., 1972), and the rate at
which their logarithm crosses the allowed share is read between two of them. It is an estimate to
race by; the interval that a report shows is that of the search.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

# Where no trial held, or none failed, the capacity lies beyond: by about this factor.
BEYOND = 1.25
# Nearest that an estimate comes to either of the two rates, as a share of the way in logarithms.
NEAREST = 0.1


class CountedTrial(Protocol):
    """Late requests of a trial; see `seatrial.load.rate_search.RateTrial`."""

    @property
    def rate_hz(self) -> float:
        """Rate that was offered, requests per second."""

    @property
    def offered(self) -> int:
        """Requests that counted."""

    @property
    def bad(self) -> int:
        """Those of them that were late, or failed."""

    @property
    def void(self) -> bool:
        """Whether it says nothing about the service."""


def estimated_hz(trials: Iterable[CountedTrial], allowed: float) -> float:
    """Highest rate at which the allowed share of requests is late, by all trials; 0 without any.

    Args:
        trials: Trials; void ones are left out.
        allowed: Share of the requests that may be late or failed.
    """
    levels = _monotone(trials)
    if not levels:
        return 0.0
    held = [level for level in levels if level[1] <= allowed]
    failed = [level for level in levels if level[1] > allowed]
    if not failed:
        return held[-1][0] * BEYOND
    if not held:
        return failed[0][0] / BEYOND
    (low_hz, low, count), (high_hz, high, _) = held[-1], failed[0]
    low = max(low, min(0.5 / count, allowed))
    way = math.log(allowed / low) / math.log(high / low) if high > low else 0.5
    way = min(max(way, NEAREST), 1 - NEAREST)
    return math.exp((1 - way) * math.log(low_hz) + way * math.log(high_hz))


def _monotone(trials: Iterable[CountedTrial]) -> list[tuple[float, float, int]]:
    """Rate, share of late requests and number of requests, both rising; by rate."""
    counts: dict[float, list[int]] = {}
    for trial in trials:
        if trial.offered and not trial.void:
            pair = counts.setdefault(trial.rate_hz, [0, 0])
            pair[0] += trial.bad
            pair[1] += trial.offered
    blocks: list[tuple[list[float], int, int]] = []  # rates, late, all
    for rate_hz, (bad, offered) in sorted(counts.items()):
        block = [rate_hz], bad, offered
        while blocks and blocks[-1][1] * block[2] > block[1] * blocks[-1][2]:
            rates, more, others = blocks.pop()
            block = [*rates, *block[0]], block[1] + more, block[2] + others
        blocks.append(block)
    return [
        (rate_hz, bad / offered, offered) for rates, bad, offered in blocks for rate_hz in rates
    ]
