"""How sure a difference of AP is: a paired bootstrap over images.

A set is one draw of images out of many that could have been labelled. Drawing from it again,
with replacement and the same images for both sides, shows how far the difference would have
wandered. Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13
(percentile interval).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.errors import InvalidInput
from seatrial.lifecycle.evaluation.matching import Matches
from seatrial.lifecycle.evaluation.precision import Curves, average_precision, curves


class Difference(msgspec.Struct, frozen=True):
    """AP of b less AP of a, on the same images.

    Attributes:
        a: AP of the first.
        b: AP of the second.
        difference: ``b - a``.
        low: Lower end of the interval.
        high: Upper end.
        level: Probability that the interval is made for, for example 0.95.
        images: Images drawn from.
        samples: Draws.
        seed: Of the draws.
    """

    a: float
    b: float
    difference: float
    low: float
    high: float
    level: float
    images: int
    samples: int
    seed: int


def paired_bootstrap(
    a: Matches,
    b: Matches,
    *,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Difference:
    """Interval of the difference in AP (IoU 0.50 to 0.95, all areas).

    Args:
        a: For example the parent's.
        b: For example the child's, on the same set.
        samples: Draws of as many images as there are.
        level: Of the interval.
        seed: Of the draws.
        on_progress: Told draws done and in all.

    Raises:
        InvalidInput: The two were not measured on the same objects, or there is nothing to draw.
    """
    same = (
        a.images == b.images
        and np.array_equal(a.truth_image, b.truth_image)
        and np.array_equal(a.truth_category, b.truth_category)
        and np.array_equal(a.truth_counts, b.truth_counts)
    )
    if not same:
        raise InvalidInput("the two were not measured on the same labels")
    if samples < 1 or not 0 < level < 1 or not a.truth_counts[0].any():
        raise InvalidInput("a bootstrap needs objects, a draw and a level between 0 and 1")
    lines = curves(a), curves(b)
    chance = np.random.default_rng(seed)
    drawn: list[float] = []
    for done in range(1, samples + 1):
        weights = _draw(chance, a)
        first, second = (_ap(line, weights) for line in lines)
        drawn.append(second - first)
        if on_progress is not None:
            on_progress(done, samples)
    ends = np.percentile(drawn, [50 * (1 - level), 50 * (1 + level)])
    once = np.ones(a.images)
    first, second = (_ap(line, once) for line in lines)
    return Difference(
        a=first,
        b=second,
        difference=second - first,
        low=float(ends[0]),
        high=float(ends[1]),
        level=level,
        images=a.images,
        samples=samples,
        seed=seed,
    )


def _draw(chance: np.random.Generator, matches: Matches) -> NDArray[np.float64]:
    """(images,) how often each is drawn; a draw without any object has no AP and is drawn anew."""
    counting = matches.truth_image[matches.truth_counts[0]]
    while True:
        picks = chance.integers(0, matches.images, matches.images)
        weights = np.bincount(picks, minlength=matches.images).astype(np.float64)
        if weights[counting].any():
            return weights


def _ap(line: Curves, weights: NDArray[np.float64]) -> float:
    return float(np.nanmean(average_precision(line, weights)))
