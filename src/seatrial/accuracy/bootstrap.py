"""Intervals of AP, and of a difference of AP: a bootstrap over images, paired for a difference.

A set is one draw of images out of many that could have been labelled. Drawing from it again,
with replacement and the same images for both sides, shows how far the difference would have
moved. Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13
(percentile interval).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.accuracy.average_precision import (
    Curves,
    average_precision,
    curves,
    objects_drawn,
    weighted_counts,
)
from seatrial.accuracy.matching import Matches
from seatrial.errors import InvalidInput
from seatrial.gate import Interval
from seatrial.progress import Progress, silent
from seatrial.system.hardware import usable_cores

_DRAWS_AT_A_TIME = 50
# Numbers of an array that a core works on at a time: as many draws of a small set as fit its cache.
_NUMBERS_AT_A_TIME = 2**16


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
        seed: Seed of the draws.
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


@dataclass(frozen=True, slots=True)
class Resampled:
    """AP of one side, as it is and in every draw.

    Attributes:
        matches: Matches that were drawn from.
        ap: AP with each image once.
        drawn: (samples,) AP of each draw.
        seed: Seed of the draws: sides with one seed were drawn from the same images.
    """

    matches: Matches
    ap: float
    drawn: NDArray[np.float64]
    seed: int


def paired_bootstrap(
    a: Matches,
    b: Matches,
    *,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    on_progress: Progress = silent,
) -> Difference:
    """Interval of the difference in AP (IoU 0.50 to 0.95, all areas).

    Args:
        a: Matches of the first, for example the parent.
        b: Matches of the second, on the same set.
        samples: Draws of as many images as there are.
        level: Level of the interval.
        seed: Seed of the draws.
        on_progress: Called with the draws of both sides together.

    Raises:
        InvalidInput: The two were not measured on the same objects, or there is nothing to draw.
    """

    def both(before: int) -> Progress:
        def count(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> object:
            return on_progress(what, before + done, 2 * samples, unit=unit)

        return count

    first = resample(a, samples=samples, seed=seed, on_progress=both(0))
    second = resample(b, samples=samples, seed=seed, on_progress=both(samples))
    return difference(first, second, level=level)


def resample(
    matches: Matches,
    *,
    samples: int = 1000,
    seed: int = 0,
    on_progress: Progress = silent,
) -> Resampled:
    """Draw the images of one side again and again, on all cores.

    Args:
        matches: Matches of one side.
        samples: Draws of as many images as there are.
        seed: Seed of the draws.
        on_progress: Called with the draws that are done.

    Raises:
        InvalidInput: There is nothing to draw.
    """
    if samples < 1 or not matches.truth_counts[0].any():
        raise InvalidInput("a bootstrap needs objects and a draw")
    line = curves(matches)
    drawn = _draws(line, _ap, samples=samples, seed=seed, on_progress=on_progress)
    return Resampled(matches, float(_ap(line, np.ones((1, matches.images)))[0]), drawn, seed)


def intervals(
    matches: Matches, *, samples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Intervals of ``ap``, ``ap50`` and ``ar100``; empty where there are no objects.

    Args:
        matches: Matches of one detector.
        samples: Draws of as many images as there are.
        level: Level of the intervals.
        seed: Seed of the draws.
    """
    if not matches.truth_counts[0].any():
        return {}
    drawn = _draws(curves(matches), _figures, samples=samples, seed=seed)
    low, high = np.percentile(drawn, [50 * (1 - level), 50 * (1 + level)], axis=0).tolist()
    ends = zip(("ap", "ap50", "ar100"), low, high, strict=True)
    return {name: Interval(least, most, level, matches.images) for name, least, most in ends}


def difference(a: Resampled, b: Resampled, *, level: float = 0.95) -> Difference:
    """Interval of AP of b less AP of a; see `paired_bootstrap`."""
    same = (
        a.matches.images == b.matches.images
        and np.array_equal(a.matches.truth_image, b.matches.truth_image)
        and np.array_equal(a.matches.truth_category, b.matches.truth_category)
        and np.array_equal(a.matches.truth_counts, b.matches.truth_counts)
    )
    if not same:
        raise InvalidInput("the two were not measured on the same labels")
    if (a.seed, len(a.drawn)) != (b.seed, len(b.drawn)):
        raise InvalidInput("the two were not given the same draws")
    if not 0 < level < 1:
        raise InvalidInput("a bootstrap needs a level between 0 and 1")
    ends = np.percentile(b.drawn - a.drawn, [50 * (1 - level), 50 * (1 + level)])
    return Difference(
        a=a.ap,
        b=b.ap,
        difference=b.ap - a.ap,
        low=float(ends[0]),
        high=float(ends[1]),
        level=level,
        images=a.matches.images,
        samples=len(a.drawn),
        seed=a.seed,
    )


def _draws(
    line: Curves,
    measure: Callable[[Curves, NDArray[np.float64]], NDArray[np.float64]],
    *,
    samples: int,
    seed: int,
    on_progress: Progress = silent,
) -> NDArray[np.float64]:
    """(samples, ...) what is measured on every draw, on all cores.

    Args:
        line: Curves of the set.
        measure: (curves, weights (draws, images)) -> (draws, ...).
        samples: Draws.
        seed: Seed of the draws.
        on_progress: Called with the draws that are done.
    """
    chance = np.random.default_rng(seed)
    cores = usable_cores()
    longest = max(len(line.found), len(line.matches.image), 1)
    drawn: list[NDArray[np.float64]] = []
    with ThreadPoolExecutor(cores, "seatrial-bootstrap") as pool:
        for begun in range(0, samples, _DRAWS_AT_A_TIME):  # a draw takes a number for each image
            size = min(_DRAWS_AT_A_TIME, samples - begun)
            weights = np.stack([_draw(chance, line.matches) for _ in range(size)])  # (size, images)
            step = max(1, min(-(-size // cores), _NUMBERS_AT_A_TIME // longest))
            parts = [weights[at : at + step] for at in range(0, size, step)]
            drawn += pool.map(partial(measure, line), parts)
            on_progress("drawing images with replacement", begun + size, samples)
    return np.concatenate(drawn)


def _draw(chance: np.random.Generator, matches: Matches) -> NDArray[np.float64]:
    """(images,) how often each is drawn; a draw without any object has no AP and is drawn anew."""
    counting = matches.truth_image[matches.truth_counts[0]]
    while True:
        picks = chance.integers(0, matches.images, matches.images)
        weights = np.bincount(picks, minlength=matches.images).astype(np.float64)
        if weights[counting].any():
            return weights


def _ap(line: Curves, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(draws,) AP of draws."""
    precision = average_precision(line, weights)
    result: NDArray[np.float64] = np.nanmean(precision.reshape(len(weights), -1), axis=1)
    return result


def _figures(line: Curves, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(draws, 3) AP, AP50 and AR100 of draws."""
    precision = average_precision(line, weights)  # (draws, T, K)
    draws, steps, categories = precision.shape
    hits = weighted_counts(
        line.segment, weights[:, line.matches.image[line.found]], steps * categories
    ).reshape(precision.shape)
    objects = objects_drawn(line, weights)[:, np.newaxis]  # (draws, 1, K)
    recall = np.divide(hits, objects, out=np.full_like(hits, np.nan), where=objects > 0)
    every = (precision, precision[:, 0], recall)
    return np.stack([np.nanmean(one.reshape(draws, -1), axis=1) for one in every], axis=1)
