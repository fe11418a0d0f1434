"""COCO's average precision and recall, for a set of images as it is or resampled.

Source: pycocotools ``cocoeval.py`` (``accumulate``, ``summarize``). Images carry weights: all 1
for the official figures, counts of a draw with replacement for a bootstrap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seatrial.accuracy.matching import (
    IGNORED,
    IOU_THRESHOLDS,
    TRUE_POSITIVE,
    Matches,
)

# (101,) float64: where precision is read off. As pycocotools has it, see IOU_THRESHOLDS.
RECALLS: NDArray[np.float64] = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, slots=True)
class Curves:
    """The precision-recall curves of all categories and thresholds, at their true positives.

    Precision has its peaks at true positives, and recall rises only there, so the others are left
    out. A segment is one threshold and category: ``step * categories + category``.

    Attributes:
        matches: Matches that the curves are made of.
        area: Index into `AREAS`.
        found: (N,) true positives, as indices into the detections, segment after segment.
        segment: (N,) ascending.
        begin: (N,) index of the first detection of the category.
        ignored: (M,) ignored detections, threshold after threshold.
        ignored_span: (2, N) the ignored ones between ``begin`` and ``found``, from and to.
        counting: (P,) objects that count, as indices into the truth.
    """

    matches: Matches
    area: int
    found: NDArray[np.int64]
    segment: NDArray[np.int64]
    begin: NDArray[np.int64]
    ignored: NDArray[np.int64]
    ignored_span: NDArray[np.int64]
    counting: NDArray[np.int64]


def curves(matches: Matches, area: int = 0) -> Curves:
    """Lay out the curves of one area range.

    Args:
        matches: Matches of the whole set.
        area: Index into `AREAS`.
    """
    detections = len(matches.image)
    # One line of numbers, threshold after threshold, so that one search serves them all.
    line = np.flatnonzero(matches.status[area] == TRUE_POSITIVE)
    ignored = np.flatnonzero(matches.status[area] == IGNORED)
    step, found = np.divmod(line, max(detections, 1))
    category = matches.category[found]
    begin = np.searchsorted(matches.category, np.arange(matches.categories))[category]
    return Curves(
        matches=matches,
        area=area,
        found=found,
        segment=step * matches.categories + category,
        begin=begin,
        ignored=ignored % max(detections, 1),
        ignored_span=np.stack(
            [np.searchsorted(ignored, line - found + begin), np.searchsorted(ignored, line)]
        ),
        counting=np.flatnonzero(matches.truth_counts[area]),
    )


def average_precision(
    lines: Curves, weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Average precision, interpolated at 101 recalls.

    Args:
        lines: From `curves`.
        weights: (..., images) how often each image counts, of one draw or of several; once each
            by default.

    Returns:
        (..., T, K) by threshold and category; NaN for a category without objects.
    """
    precision, recall, objects, first = _steps(lines, weights)
    reached = np.searchsorted(RECALLS, recall, "right")
    gained = np.diff(reached, prepend=0)
    gained[..., first] = reached[..., first]
    steps, categories = len(IOU_THRESHOLDS), lines.matches.categories
    area = weighted_counts(lines.segment, precision * gained, steps * categories)
    result: NDArray[np.float64] = area.reshape(*area.shape[:-1], steps, categories) / len(RECALLS)
    result[np.broadcast_to((objects == 0)[..., np.newaxis, :], result.shape)] = np.nan
    return result


def weighted_counts(
    index: NDArray[np.int64], weights: NDArray[np.float64], size: int
) -> NDArray[np.float64]:
    """(..., size) sums of the weights (..., N) of each index (N,), as `numpy.bincount` has them."""
    rows = weights.reshape(math.prod(weights.shape[:-1]), len(index))
    places = np.arange(len(rows))[:, np.newaxis] * size + index
    sums = np.bincount(places.ravel(), weights=rows.ravel(), minlength=len(rows) * size)
    # Of nothing, the sums are integers.
    return sums.astype(np.float64, copy=False).reshape(*weights.shape[:-1], size)


def precision_at_recalls(lines: Curves, step: int) -> NDArray[np.float64]:
    """Interpolated precision at `RECALLS`, as a mean over the categories with objects.

    Its mean is the average precision at that threshold.

    Args:
        lines: From `curves`.
        step: Index into `IOU_THRESHOLDS`.

    Returns:
        (101,); all NaN where no category has objects.
    """
    precision, recall, objects, _ = _steps(lines, None)
    found = np.full((lines.matches.categories, len(RECALLS)), np.nan)
    found[objects > 0] = 0.0
    for category in np.flatnonzero(objects).tolist():
        own = lines.segment == step * lines.matches.categories + category
        at = np.searchsorted(recall[own], RECALLS, "left")
        known = at < own.sum()
        found[category, known] = precision[own][at[known]]
    known_rows = found[objects > 0]
    return known_rows.mean(axis=0) if len(known_rows) else np.full(len(RECALLS), np.nan)


def _steps(
    lines: Curves, weights: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[Any], NDArray[np.intp]]:
    """Envelope of precision, recall (..., N); objects (..., K); first points of segments (S,)."""
    matches = lines.matches
    first = np.flatnonzero(np.diff(lines.segment, prepend=-1))
    length = np.diff(np.append(first, len(lines.segment)))
    objects: NDArray[Any]
    if weights is None:  # then sums of weights are distances
        before = lines.begin + lines.ignored_span[1] - lines.ignored_span[0]
        seen = (lines.found + 1 - before).astype(np.float64)
        hits = np.arange(len(lines.found) + 1, dtype=np.float64)
        objects = matches.positives(lines.area)
    else:
        total = _running(weights[..., matches.image])
        ignored = _running(weights[..., matches.image[lines.ignored]])
        seen = total[..., lines.found + 1] - total[..., lines.begin]
        seen -= ignored[..., lines.ignored_span[1]] - ignored[..., lines.ignored_span[0]]
        hits = _running(weights[..., matches.image[lines.found]])
        objects = objects_drawn(lines, weights)
    right = hits[..., 1:] - np.repeat(hits[..., first], length, axis=-1)
    precision = _envelope(right / (seen + np.spacing(1)), lines.segment)
    per_hit = objects[..., lines.segment % matches.categories]
    recall = np.divide(right, per_hit, out=np.zeros_like(seen), where=per_hit > 0)
    return precision, recall, objects, first


def objects_drawn(lines: Curves, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., K) objects of each category that count, by the weights (..., images) of the images."""
    matches = lines.matches
    return weighted_counts(
        matches.truth_category[lines.counting],
        weights[..., matches.truth_image[lines.counting]],
        matches.categories,
    )


def recall(matches: Matches, area: int, limit: int) -> NDArray[np.float64]:
    """Highest recall with so many detections of an image and category.

    Args:
        matches: Matches of the whole set.
        area: Index into `AREAS`.
        limit: Most detections, at most `MAX_DETECTIONS`.

    Returns:
        (T, K); NaN for a category without objects.
    """
    hit = (matches.status[area] == TRUE_POSITIVE) & (matches.rank < limit)
    found = np.stack(
        [np.bincount(matches.category[row], minlength=matches.categories) for row in hit]
    )
    objects = matches.positives(area).astype(np.float64)
    objects[objects == 0] = np.nan
    result: NDArray[np.float64] = found / objects
    return result


def mean(values: NDArray[np.float64]) -> float | None:
    """Mean of what is a number; None where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _running(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., N + 1) sums of the first 0, 1, 2, ... values."""
    sums = np.zeros((*values.shape[:-1], values.shape[-1] + 1))
    np.cumsum(values, axis=-1, out=sums[..., 1:])
    return sums


def _envelope(precision: NDArray[np.float64], segment: NDArray[np.int64]) -> NDArray[np.float64]:
    """The greatest precision from here to the end of the segment."""
    # Earlier segments are lifted over later ones, so that one pass from the end serves them all.
    lift = -2.0 * segment
    backward = (precision + lift)[..., ::-1]
    highest: NDArray[np.float64] = np.maximum.accumulate(backward, axis=-1)[..., ::-1] - lift
    return highest
