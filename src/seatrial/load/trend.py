"""Slopes of latency and memory over a long window, with their intervals."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np

from seatrial.load.timeline import Timeline

FEWEST_SLICES = 20  # that have a value and are not void
LEVEL = 0.95  # of the interval, two-sided
HOUR_S = 3600.0


class Slope(msgspec.Struct, frozen=True):
    """Change of a value over time: the median of the slopes of all pairs of slices (Theil-Sen).

    Attributes:
        per_hour: Change in an hour.
        low_per_hour: Lower end of its interval at 95 %.
        high_per_hour: Upper end of that interval.
        median: Median of the value itself.
        over_h: Time from the first slice to the last one, hours.
        slices: Number of slices that it rests on.
    """

    per_hour: float
    low_per_hour: float
    high_per_hour: float
    median: float
    over_h: float
    slices: int


class Trend(msgspec.Struct, frozen=True):
    """How latency and memory changed over a window.

    Attributes:
        latency_ms: Slope of the slices' median latency, milliseconds an hour; None where too few
            slices have one.
        memory_bytes: Slope of the service's resident memory, bytes an hour; None where it is not
            known.
    """

    latency_ms: Slope | None
    memory_bytes: Slope | None


def trend(cut: Timeline | None) -> Trend | None:
    """The slopes over the slices that are not void; None where none can be told."""
    if cut is None:
        return None
    latency, memory = _slope(cut, "p50_ms"), _slope(cut, "rss_bytes")
    return None if latency is None and memory is None else Trend(latency, memory)


def theil_sen(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Median of the slopes of all pairs, and both ends of its interval at `LEVEL`.

    The interval is Sen's (Estimates of the regression coefficient based on Kendall's tau, JASA 63,
    1968): it assumes nothing of the distribution, and that the values are independent of each
    other. Those of neighbouring slices are not where a queue lasts longer than a slice: the
    interval is then too narrow. `scipy.stats.theilslopes` gives the same; a benchmark needs no
    scipy.

    Args:
        x: Places, ascending, each once.
        y: Values.
    """
    count = len(x)
    one, other = np.triu_indices(count, 1)
    at, value = np.asarray(x, float), np.asarray(y, float)
    slopes = np.sort((value[other] - value[one]) / (at[other] - at[one]))
    ties = sum(k * (k - 1) * (2 * k + 5) for k in Counter(y).values())
    spread = math.sqrt((count * (count - 1) * (2 * count + 5) - ties) / 18)
    reach = statistics.NormalDist().inv_cdf((1 + LEVEL) / 2) * spread
    low = max(round((len(slopes) - reach) / 2) - 1, 0)
    high = min(round((len(slopes) + reach) / 2), len(slopes) - 1)
    return float(np.median(slopes)), float(slopes[low]), float(slopes[high])


def _slope(cut: Timeline, name: str) -> Slope | None:
    found = [
        (number * cut.slice_s / HOUR_S, float(getattr(one, name)))
        for number, one in enumerate(cut.slices)
        if not one.void and getattr(one, name) is not None
    ]
    if len(found) < FEWEST_SLICES:
        return None
    at_h, values = zip(*found, strict=True)
    per_hour, low, high = theil_sen(at_h, values)
    return Slope(per_hour, low, high, statistics.median(values), at_h[-1] - at_h[0], len(found))
