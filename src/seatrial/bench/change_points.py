"""The points at which a series of figures changed: E-divisive on logarithms.

The energy statistic between two stretches is large where their values come from two distributions,
whatever these are. A series is cut where it is largest, and each stretch again, for as long as
fewer than one in a hundred shuffles of the stretch has a cut as good (Matteson & James, Journal of
the American Statistical Association 109, 2014).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

# Points on each side of a cut: two values tell nothing of a distribution.
SHORTEST = 3
SIGNIFICANCE = 0.01
# Changes of less are not told: a machine that is not quiet makes as much.
LEAST_CHANGE = 0.02
SHUFFLES = 399
NOTHING = 1e-3  # of the smallest value that is more than 0
# Of a series the last ones: time and memory grow with the square of their number.
MOST_POINTS = 250


class ChangePoint(msgspec.Struct, frozen=True):
    """A point at which a series changed.

    Attributes:
        index: Index of the first value after the change.
        before: Median of the stretch before it.
        after: Median of the stretch after it.
        chance: Share of shuffled series that had a cut as good, this one among them.
    """

    index: int
    before: float
    after: float
    chance: float

    @property
    def ratio(self) -> float:
        """The value after the change over the one before; infinite where that was 0."""
        return self.after / self.before if self.before else math.inf


def change_points(
    values: Sequence[float],
    *,
    significance: float = SIGNIFICANCE,
    shortest: int = SHORTEST,
    seed: int = 0,
) -> list[ChangePoint]:
    """Find the changes of a series, in its order.

    Args:
        values: Figures of 0 or more, in the order of time; of more than `MOST_POINTS` the last.
        significance: Share of unchanged series in which a first change may be seen.
        shortest: Fewest values between two changes.
        seed: Seed of the shuffles.
    """
    left_out = max(0, len(values) - MOST_POINTS)
    figures = np.asarray(values[left_out:], np.float64)
    # A change to nothing is a large one: 0 counts as a small part of the smallest other value.
    least = figures[figures > 0].min(initial=np.inf)
    logs = np.log(np.where(figures > 0, figures, NOTHING * least if figures.any() else 1.0))
    apart = np.abs(logs[:, np.newaxis] - logs)
    draw = np.random.default_rng(seed)
    edges, chances = [0, len(logs)], dict[int, float]()
    closed = set[tuple[int, int]]()  # stretches without a further change
    while (cut := _best_of(apart, edges, shortest, closed)) is not None:
        size, at = cut
        begin, end = next((a, b) for a, b in _stretches(edges) if a < at < b)
        chance = _chance(apart[begin:end, begin:end], size, shortest, draw, significance)
        change = abs(np.median(logs[begin:at]) - np.median(logs[at:end]))
        if chance > significance or change < math.log1p(LEAST_CHANGE):
            closed.add((begin, end))
            continue
        edges = sorted([*edges, at])
        chances[at] = chance
    medians = [float(np.median(figures[a:b])) for a, b in _stretches(edges) if b > a]
    return [
        ChangePoint(left_out + at, medians[n], medians[n + 1], chances[at])
        for n, at in enumerate(edges[1:-1])
    ]


def _stretches(edges: list[int]) -> list[tuple[int, int]]:
    return list(itertools.pairwise(edges))


def _best_of(
    apart: NDArray[np.float64], edges: list[int], shortest: int, closed: set[tuple[int, int]]
) -> tuple[float, int] | None:
    """The best cut of all stretches: its statistic and its place; None where none can be cut."""
    found = []
    for begin, end in _stretches(edges):
        if end - begin >= 2 * shortest and (begin, end) not in closed:
            size, at = _best_cut(apart[begin:end, begin:end], shortest)
            found.append((size, begin + at))
    return max(found, default=None)


def _best_cut(apart: NDArray[np.float64], shortest: int) -> tuple[float, int]:
    """The cut of one stretch with the largest energy statistic.

    Args:
        apart: (n, n) distances of its values.
        shortest: Fewest values on each side.
    """
    count = len(apart)
    cuts = np.arange(shortest, count - shortest + 1)
    # Sums of distances among the first k values, and of all; the rest follows.
    inner = np.concatenate([[0.0], np.cumsum(2 * np.tril(apart, -1).sum(axis=1))])
    rows = np.concatenate([[0.0], np.cumsum(apart.sum(axis=1))])
    left = inner[cuts]
    between = rows[cuts] - left
    right = inner[count] - left - 2 * between
    other = count - cuts
    energy = (
        2 * between / (cuts * other) - left / (cuts * (cuts - 1)) - right / (other * (other - 1))
    )
    sizes = energy * cuts * other / count
    best = int(np.argmax(sizes))
    return float(sizes[best]), int(cuts[best])


def _chance(
    apart: NDArray[np.float64],
    size: float,
    shortest: int,
    draw: np.random.Generator,
    most: float,
) -> float:
    """Share of shuffles of a stretch that have a cut as good, the series among them.

    Counting ends when the share is sure to be more than `most`.
    """
    as_good = 1
    for _ in range(SHUFFLES):
        if as_good > most * (SHUFFLES + 1):
            break
        order = draw.permutation(len(apart))
        as_good += _best_cut(apart[np.ix_(order, order)], shortest)[0] >= size
    return as_good / (SHUFFLES + 1)
