"""Percentiles, printed only where the sample is large enough; rates; histograms."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence

import msgspec

CONFIDENCE = 0.99
PERCENTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
INTERVAL_LEVEL = 0.95  # of a percentile's interval, two-sided
RATE_LEVEL = 0.95
SLICES = 10  # of a window, for the interval of its rate: Schmeiser (1982) finds 10 to 30 enough
T_QUANTILE = 2.262  # Student's at RATE_LEVEL, two-sided, SLICES - 1 degrees of freedom
NORMAL_QUANTILE = 1.96  # the normal distribution's at RATE_LEVEL, two-sided
FEWEST_IN_SLICE = 5  # with fewer events, where the slices begin decides their counts
HISTOGRAM_BINS = 48
# An axis that reaches the one slowest answer would squeeze all others into a bin or two.
HISTOGRAM_REACH = 2.5


class Percentile(msgspec.Struct, frozen=True):
    """One percentile of latency with its interval and its upper bound.

    Attributes:
        value_ms: Nearest-rank estimate; None where it must not be printed (see `reason`).
        upper_ms: The percentile of the whole population is at most this, with a confidence of
            `CONFIDENCE`; None where failed requests reach that rank: no bound can be given.
        needed: Smallest sample that this percentile is printed for.
        reason: Reason for a missing value; empty where there is one.
        low_ms: Lower end of the interval at `INTERVAL_LEVEL`, see `interval_ranks`; None where
            the sample is too small or failed requests reach its rank, and in reports from before
            it was measured.
        high_ms: Upper end of that interval, with the same exceptions.
    """

    value_ms: float | None
    upper_ms: float | None
    needed: int
    reason: str = ""
    low_ms: float | None = None
    high_ms: float | None = None


class Latency(msgspec.Struct, frozen=True):
    """Latencies of one measured window, milliseconds.

    The moments describe the good answers alone; the percentiles rank failed requests as
    infinitely late, so a service cannot improve its p99 by refusing its slowest requests.

    Attributes:
        count: Number of good answers.
        failed: Number of requests that failed.
        mean_ms: Mean; None without a good answer, as the next three.
        min_ms: Smallest latency.
        max_ms: Largest latency.
        stdev_ms: Standard deviation; None with fewer than two good answers.
        percentiles: Percentile of each name: `p50`, `p90`, `p95`, `p99`.
    """

    count: int
    failed: int
    mean_ms: float | None
    min_ms: float | None
    max_ms: float | None
    stdev_ms: float | None
    percentiles: dict[str, Percentile]

    def at(self, name: str) -> Percentile:
        """The percentile of a name; one without a value where an older report has none of it."""
        return self.percentiles.get(name) or Percentile(None, None, 0, "not measured")


class LatencyHistogram(msgspec.Struct, frozen=True):
    """Counts over equal bins.

    Attributes:
        edges_ms: Edges of the bins, one more than bins, milliseconds.
        counts: Number of values of each bin.
        over: Number of values to the right of the last edge.
    """

    edges_ms: tuple[float, ...]
    counts: tuple[int, ...]
    over: int


@functools.cache
def tail_allowance(count: int, fraction: float, confidence: float = CONFIDENCE) -> int:
    """Most samples that may lie above a bound on a percentile; -1 if there is no bound.

    With q the true percentile, the number of samples above q is binomial with `count` trials
    and success probability ``1 - fraction``. The (t + 1)-th largest sample lies below q only if
    at most t samples lie above q, so it bounds q with probability ``1 - P(Binomial <= t)``.
    Returned is the largest t that keeps ``P(Binomial <= t) <= 1 - confidence``. This is the
    early-stopping test of MLPerf LoadGen (loadgen/early_stopping.cc, ``odds``), tolerance 0.
    Samples are taken to be independent.
    """
    over, log_under, log_over = 0.0, math.log(fraction), math.log1p(-fraction)
    # The probability of fewer is below e^-400 (Bernstein's inequality).
    negligible = count * (1 - fraction) - 30 * math.sqrt(count * fraction * (1 - fraction)) - 300
    first = max(0, math.floor(negligible))
    allowance = first - 1
    for t in range(first, count + 1):
        ways = math.lgamma(count + 1) - math.lgamma(t + 1) - math.lgamma(count - t + 1)
        over += math.exp(ways + (count - t) * log_under + t * log_over)
        if over > 1.0 - confidence:
            break
        allowance = t
    return allowance


@functools.cache
def samples_needed(fraction: float, confidence: float = CONFIDENCE) -> int:
    """Smallest sample that a percentile is printed for.

    It is 11 for p50, 64 for p90, 130 for p95 and 662 for p99. One sample must be allowed above the
    bound (t = 1), as in MLPerf LoadGen: with none, the bound would be the slowest answer of all,
    whatever happened to it.
    """
    count = 2
    while tail_allowance(count, fraction, confidence) < 1:
        count += 1
    return count


def interval_ranks(count: int, fraction: float, level: float = INTERVAL_LEVEL) -> tuple[int, int]:
    """Ranks, from 1, of the two samples between which a percentile of the population lies.

    Nothing is assumed of the distribution: the number of samples up to the percentile is binomial,
    and each end misses with a probability of ``(1 - level) / 2`` at most (David & Nagaraja, Order
    Statistics, 3rd ed., 7.1). Samples are taken to be independent: requests that waited in one
    queue are not, and their interval is too narrow.

    Returns:
        Rank of the lower end, 0 if there is none; rank of the upper end, `count` + 1 if there is
        none.
    """
    one_sided = (1 + level) / 2
    low = tail_allowance(count, 1 - fraction, one_sided) + 1
    return low, count - tail_allowance(count, fraction, one_sided)


def percentile(ordered_ms: Sequence[float], failed: int, fraction: float) -> Percentile:
    """Nearest-rank percentile, its interval and its upper bound.

    Args:
        ordered_ms: Latencies of the good answers, ascending, milliseconds.
        failed: Requests without a good answer; they rank above every latency.
        fraction: 0.99 for p99.
    """
    count, needed = len(ordered_ms) + failed, samples_needed(fraction)
    if count < needed:
        return Percentile(None, None, needed, f"{count} requests; {needed} are needed")

    def at(rank: int) -> float | None:
        return ordered_ms[rank - 1] if 1 <= rank <= len(ordered_ms) else None

    low, high = interval_ranks(count, fraction)
    value = at(math.ceil(fraction * count))
    return Percentile(
        value_ms=value,
        upper_ms=None if value is None else at(count - tail_allowance(count, fraction)),
        needed=needed,
        reason=f"{failed} of {count} requests failed" if value is None else "",
        low_ms=at(low),
        high_ms=at(high),
    )


def latency(good_ms: Sequence[float], failed: int = 0) -> Latency:
    """Summarise the latencies of good answers, with the failed requests counted against them."""
    ordered = sorted(good_ms)
    return Latency(
        count=len(ordered),
        failed=failed,
        mean_ms=statistics.fmean(ordered) if ordered else None,
        min_ms=ordered[0] if ordered else None,
        max_ms=ordered[-1] if ordered else None,
        stdev_ms=statistics.stdev(ordered) if len(ordered) > 1 else None,
        percentiles={name: percentile(ordered, failed, part) for name, part in PERCENTILES.items()},
    )


def rate_per_s(count: int, window_s: float) -> float:
    """Events per second of wall time; a sum of latencies is never the divisor."""
    return count / window_s if window_s > 0 else 0.0


class RateInterval(msgspec.Struct, frozen=True):
    """Interval of a rate at `RATE_LEVEL`, events per second.

    Attributes:
        low_per_s: Lower end.
        high_per_s: Upper end.
    """

    low_per_s: float
    high_per_s: float


def rate_interval(ends_ns: Sequence[int], open_ns: int, close_ns: int) -> RateInterval | None:
    """Interval of the rate of events in a window; None for a window without a length.

    The window is cut into `SLICES` equal slices; their rates are taken as a sample, and the
    interval of its mean is Student's (batch means: Law, Simulation Modeling and Analysis, 5th ed.,
    9.5.3). Events too few for that are counted as those of a Poisson process (Byar's approximation:
    Breslow & Day, Statistical Methods in Cancer Research II, 1987, eq. 2.13); answers of a closed
    loop vary less.

    Args:
        ends_ns: When each event happened, in the window.
        open_ns: Begin of the window.
        close_ns: End of the window.
    """
    count, window_s = len(ends_ns), (close_ns - open_ns) / 1e9
    if window_s <= 0:
        return None
    if count < SLICES * FEWEST_IN_SLICE:
        more = count + 1
        low = (
            count * (1 - 1 / (9 * count) - NORMAL_QUANTILE / (3 * count**0.5)) ** 3 if count else 0
        )
        high = more * (1 - 1 / (9 * more) + NORMAL_QUANTILE / (3 * more**0.5)) ** 3
        return RateInterval(max(0.0, low) / window_s, high / window_s)
    counts = [0] * SLICES
    for end_ns in ends_ns:
        counts[min(int((end_ns - open_ns) * SLICES / (close_ns - open_ns)), SLICES - 1)] += 1
    half = T_QUANTILE * statistics.stdev(counts) * math.sqrt(SLICES)
    return RateInterval(max(0.0, count - half) / window_s, (count + half) / window_s)


def histogram(values_ms: Sequence[float], bins: int = HISTOGRAM_BINS) -> LatencyHistogram | None:
    """Equal bins from the smallest value to the largest, or to `HISTOGRAM_REACH` x the median."""
    if not values_ms:
        return None
    low, median = min(values_ms), statistics.median(values_ms)
    high = min(max(values_ms), max(median * HISTOGRAM_REACH, low * 1.01))
    width = (high - low) / bins or 1e-6
    counts, over = [0] * bins, 0
    for value in values_ms:
        if value > high:
            over += 1
        else:
            counts[min(int((value - low) / width), bins - 1)] += 1
    edges = tuple(low + width * i for i in range(bins + 1))
    return LatencyHistogram(edges_ms=edges, counts=tuple(counts), over=over)
