"""The statistics of a comparison: ratios over rounds, their interval, and what would decide.

The unit is the round, never the request. Requests of one block share the machine's state of that
minute: a test on requests takes thousands of them for thousands of independent findings, and calls
two equal services different. A round holds each service twice, in the order A B B A, so that a
drift which is even over the round cancels out, and gives one logarithm of a ratio.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.load.statistics import PERCENTILES, samples_needed
from seatrial.system.extras import require

LEVEL = 0.95  # of an interval, two-sided
# With fewer, all rounds lie on one side of a true ratio of 1 in more than 5 % of comparisons.
FEWEST_ROUNDS = 6
RESAMPLES = 4000
MOST_WALSH = 2_000_000  # values that are kept in memory at a time
DECILES = tuple(n / 10 for n in range(1, 10))
DECILES_NEED = 20  # requests of a block
# Chance of an answer that is called enough, and the most rounds that are foretold.
LIKELY, MOST_ROUNDS = 0.5, 10_000

Values = NDArray[np.float64]
Decision = Literal["faster", "slower", "same", "undecided"]


class RatioInterval(msgspec.Struct, frozen=True):
    """A ratio over rounds, with its interval.

    Attributes:
        ratio: Hodges-Lehmann estimate: the median of the means of all pairs of rounds.
        low: Lower end of the interval.
        high: Upper end of it.
        level: Level of the interval, for example 0.95.
        rounds: Number of rounds.
    """

    ratio: float
    low: float
    high: float
    level: float
    rounds: int

    @property
    def inverse(self) -> RatioInterval:
        """The same of the other way round."""
        return RatioInterval(1 / self.ratio, 1 / self.high, 1 / self.low, self.level, self.rounds)


def harrell_davis(latencies_ms: Sequence[float] | Values, fractions: Sequence[float]) -> Values:
    """Percentiles of a block, each a weighted mean of all order statistics.

    It varies less than one order statistic does, which matters for blocks of a few hundred requests
    (Harrell & Davis, Biometrika 69, 1982).

    Args:
        latencies_ms: Latencies of a block.
        fractions: 0.5 for the median, ...

    Returns:
        (len(fractions),) percentiles in the unit of the latencies.
    """
    mstats = require("scipy.stats.mstats", extra="bench", purpose="comparing services")
    return np.asarray(mstats.hdquantiles(np.asarray(latencies_ms), list(fractions)), np.float64)


def requests_needed(percentile: str) -> int:
    """Fewest requests of a block that a percentile is computed of: 11 for p50, 662 for p99."""
    return samples_needed(PERCENTILES[percentile])


def round_logs(base: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> Values:
    """The logarithm of the ratio of each round.

    Args:
        base: For each round the values of the blocks of the first service.
        other: The same of the other service.

    Returns:
        (rounds,) differences of the means of logarithms.
    """
    return np.array(
        [
            np.mean(np.log(theirs)) - np.mean(np.log(ours))
            for ours, theirs in zip(base, other, strict=True)
        ]
    )


def hodges_lehmann(values: Values) -> float:
    """The median of the Walsh averages: the means of all pairs, each with itself included.

    It stands one wild round in six, and varies hardly more than the mean where there is none
    (Hodges & Lehmann, Annals of Mathematical Statistics 34, 1963).
    """
    return float(np.median(_walsh(values[np.newaxis])[0]))


def ratio_interval(logs: Values, *, level: float = LEVEL, seed: int = 0) -> RatioInterval:
    """The ratio over rounds, and its interval by a bootstrap over them.

    The percentile interval of a bootstrap is too narrow for few rounds: its ends are taken further
    out, by what Student's distribution is wider than the normal one (the expanded percentile
    interval of Hesterberg, The American Statistician 69, 2015, 4.3).

    Args:
        logs: (rounds,) logarithms of ratios, one for each round; `FEWEST_ROUNDS` at least.
        level: Level of the interval.
        seed: Seed of the bootstrap.
    """
    stats = require("scipy.stats", extra="bench", purpose="comparing services")
    count = len(logs)
    if count < FEWEST_ROUNDS:
        raise ValueError(f"{count} rounds; {FEWEST_ROUNDS} are needed")
    draw = np.random.default_rng(seed)
    each = max(1, MOST_WALSH // (count * (count + 1) // 2))
    found = np.concatenate(
        [
            np.median(_walsh(logs[draw.integers(count, size=(size, count))]), axis=1)
            for size in _parts(RESAMPLES, each)
        ]
    )
    reach = math.sqrt(count / (count - 1)) * float(stats.t.ppf((1 + level) / 2, count - 1))
    tail = float(stats.norm.cdf(-reach))
    low, high = np.quantile(found, [tail, 1 - tail])
    centre = hodges_lehmann(logs)
    return RatioInterval(math.exp(centre), math.exp(low), math.exp(high), level, count)


def answer_of(slowdown: RatioInterval, margin: float) -> Decision:
    """The answer that an interval gives.

    Args:
        slowdown: Ratio of the other service to the first, more than 1 where it is slower.
        margin: Share of 1 within which two services count as the same: 0.05. An interval that is
            wholly within it is an answer, also where it leaves out 1.
    """
    if 1 / (1 + margin) <= slowdown.low and slowdown.high <= 1 + margin:
        return "same"
    if slowdown.low > 1:
        return "slower"
    return "faster" if slowdown.high < 1 else "undecided"


def rounds_to_decide(logs: Values, margin: float, *, level: float = LEVEL) -> int:
    """Number of rounds, those so far included, that more likely than not give an answer.

    The rounds to come are taken to be like those so far, with a mean that is known as well as these
    tell it: after n of them the middle of the interval is normal around the present one with a
    variance of s^2 (1/k - 1/n), for k rounds so far, and the interval is as wide as Student's.

    Args:
        logs: (rounds,) logarithms of ratios so far.
        margin: See `answer_of`.
        level: Level of the interval.

    Returns:
        The number; `MOST_ROUNDS` at most.
    """
    stats = require("scipy.stats", extra="bench", purpose="comparing services")
    so_far, centre, spread = len(logs), hodges_lehmann(logs), float(np.std(logs, ddof=1))
    counts = np.unique(np.geomspace(so_far + 1, MOST_ROUNDS, 400).round())
    half = stats.t.ppf((1 + level) / 2, counts - 1) * spread / np.sqrt(counts)
    around = np.maximum(spread * np.sqrt(1 / so_far - 1 / counts), 1e-12)
    edge = math.log1p(margin)

    def below(limit: Values) -> Values:
        return np.asarray(stats.norm.cdf((limit - centre) / around), np.float64)

    within = np.maximum(edge - half, 0.0)
    same = np.where(edge > half, below(within) - below(-within), 0.0)
    # What is wholly within the margin is counted above already.
    outside = np.maximum(half, within)
    differ = below(-outside) + 1 - below(outside)
    likely = counts[same + differ >= LIKELY]
    return int(likely[0]) if len(likely) else MOST_ROUNDS


def decile_logs(
    base: Sequence[Sequence[Values]], other: Sequence[Sequence[Values]]
) -> list[Values]:
    """The logarithms of ratios of each decile, for the shift function.

    Args:
        base: For each round the deciles (9,) of each block of the first service.
        other: The same of the other service.

    Returns:
        For each decile the (rounds,) logarithms.
    """
    return [
        round_logs(
            [[block[n] for block in blocks] for blocks in base],
            [[block[n] for block in blocks] for blocks in other],
        )
        for n in range(len(DECILES))
    ]


def ratio_of_two(
    base: tuple[float, float, float], other: tuple[float, float, float], level: float
) -> RatioInterval:
    """The ratio of two values of which only an interval is known, those of two reports.

    The distances to the ends add up as squares, of logarithms and each side by itself (Zou &
    Donner, Statistics in Medicine 27, 2008).

    Args:
        base: Value of the first, lower and upper end of its interval.
        other: The same of the other one.
        level: Level of both intervals.
    """
    value, low, high = (math.log(one) for one in base)
    theirs, their_low, their_high = (math.log(one) for one in other)
    middle = theirs - value
    down = math.hypot(theirs - their_low, high - value)
    up = math.hypot(their_high - theirs, value - low)
    ends = (math.exp(middle), math.exp(middle - down), math.exp(middle + up))
    return RatioInterval(*ends, level, 1)


def _walsh(rows: Values) -> Values:
    """(n, k) values -> (n, k (k + 1) / 2) means of all pairs of each row."""
    first, second = np.triu_indices(rows.shape[1])
    return (rows[:, first] + rows[:, second]) / 2


def _parts(whole: int, most: int) -> list[int]:
    return [min(most, whole - begin) for begin in range(0, whole, most)]
