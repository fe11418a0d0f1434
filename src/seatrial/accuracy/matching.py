"""Which detection found which object, by COCO's rules, for a whole set at once.

Source: pycocotools ``cocoeval.py`` (``evaluateImg``) and ``maskApi.c`` (``bbIou``), followed to
the last bit; the tests compare with it. There a loop runs over images, classes, areas,
thresholds and boxes; here each step takes the next detection of every image and class together.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seatrial.datasets.labels import Truth
from seatrial.detect.detections import BOX_DECIMALS, SCORE_DECIMALS, Detections
from seatrial.errors import ServiceFailed

# (10,) float64. Not 0.5 + 0.05 k: the sums differ in the last bit, and comparisons see that.
IOU_THRESHOLDS: NDArray[np.float64] = np.linspace(0.5, 0.95, 10)
# Name -> smallest and largest area, square pixels, both included.
AREAS = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
# Most detections that count for one image and class, most confident first.
MAX_DETECTIONS = 100

FALSE_POSITIVE, TRUE_POSITIVE, IGNORED = 0, 1, 2

_PAIRS_AT_A_TIME = 1_000_000
_COUNTS = 1 << 24  # added to the rank of an object that counts: it goes before all that do not


@dataclass(frozen=True, slots=True)
class Predictions:
    """Detections of a set of images, most confident first within each image.

    Attributes:
        image: (D,) int64, index into the set's images.
        category: (D,) int64, index into the set's categories.
        xywh: (D, 4) float64: left, top, width, height, source pixels.
        score: (D,) float64, 0-1.
    """

    image: NDArray[np.int64]
    category: NDArray[np.int64]
    xywh: NDArray[np.float64]
    score: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.score)

    def take(self, kept: NDArray[np.intp]) -> Predictions:
        """The detections of these indices."""
        return Predictions(self.image[kept], self.category[kept], self.xywh[kept], self.score[kept])

    @classmethod
    def of(
        cls, detections: Sequence[Detections], category_of: NDArray[np.int64] | None = None
    ) -> Predictions:
        """Detections of all images in one table, rounded as a service answers.

        Args:
            detections: Boxes of each image, in the set's order.
            category_of: (labels,) int64, from `match_labels`: category of each class of the
                model, -1 where the set has none: those boxes are left out. Default: classes are
                the categories.

        Raises:
            ServiceFailed: A class number is not one of the labels.
        """
        some = [*detections, Detections.empty()]
        class_id = np.concatenate([one.class_id for one in some])  # (D,)
        # Rounded in float64: float32 has no 0.1, and figures would depend on it.
        xyxy = np.concatenate([one.xyxy for one in some]).astype(np.float64).round(BOX_DECIMALS)
        score = np.concatenate([one.score for one in some]).astype(np.float64)
        category = class_id
        if category_of is not None:
            wrong = class_id[(class_id < 0) | (class_id >= len(category_of))]
            if len(wrong):
                raise ServiceFailed(
                    f"a detection of class {wrong[0]}, of {len(category_of)} labels"
                )
            category = category_of[class_id]
        everything = cls(
            image=np.repeat(np.arange(len(detections)), [len(one) for one in detections]).astype(
                np.int64
            ),
            category=category,
            xywh=np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1),
            score=score.round(SCORE_DECIMALS),
        )
        return everything.take(np.flatnonzero(category >= 0))


@dataclass(frozen=True, slots=True)
class Matches:
    """The outcome of every detection; all figures are made from this.

    Detections are sorted by category, then from the most to the least confident.

    Attributes:
        images: Number of images.
        categories: Number of categories.
        image: (D,) int64.
        category: (D,) int64.
        score: (D,) float64.
        rank: (D,) int64: place among the detections of its image and category, from 0.
        status: (A, T, D) int8 by area range and IoU threshold: `FALSE_POSITIVE`,
            `TRUE_POSITIVE`, or `IGNORED`: it found a crowd or an object out of the area range,
            or found nothing and is out of the range itself.
        truth_image: (G,) int64.
        truth_category: (G,) int64.
        truth_counts: (A, G) bool: the object is no crowd and within the area range.
    """

    images: int
    categories: int
    image: NDArray[np.int64]
    category: NDArray[np.int64]
    score: NDArray[np.float64]
    rank: NDArray[np.int64]
    status: NDArray[np.int8]
    truth_image: NDArray[np.int64]
    truth_category: NDArray[np.int64]
    truth_counts: NDArray[np.bool_]

    def positives(self, area: int) -> NDArray[np.int64]:
        """(K,) objects of each category that count in an area range."""
        return np.bincount(
            self.truth_category[self.truth_counts[area]], minlength=self.categories
        ).astype(np.int64)


def match(truth: Truth, predictions: Predictions, *, images: int, categories: int) -> Matches:
    """Match detections to objects at COCO's thresholds and area ranges.

    Within an image and a category, detections choose in order of confidence: the free object
    with the greatest IoU at or over the threshold, objects that count before others.

    Args:
        truth: The objects.
        predictions: The detections.
        images: Number of images; those without objects or detections count too.
        categories: Number of categories.
    """
    kept, group, rank = by_group(predictions, categories)
    limits = np.array(list(AREAS.values()))  # (A, 2)
    truth_counts = _within(truth.area, limits) & ~truth.crowd
    found, chosen = assign(
        truth.image * categories + truth.category,
        truth.xywh,
        truth.crowd,
        truth_counts,
        group,
        kept.xywh,
        IOU_THRESHOLDS,
    )
    final = np.lexsort((-kept.score, kept.category))
    place = np.empty_like(final)
    place[final] = np.arange(len(final))
    outside = ~_within(kept.xywh[:, 2] * kept.xywh[:, 3], limits)[:, final]
    status = np.repeat(
        np.where(outside, IGNORED, FALSE_POSITIVE).astype(np.int8)[:, np.newaxis],
        len(IOU_THRESHOLDS),
        axis=1,
    )
    spot = place[found]
    for area, counts in enumerate(truth_counts):
        for step in range(len(IOU_THRESHOLDS)):
            hit = np.flatnonzero(chosen[area, step] >= 0)
            real = counts[chosen[area, step, hit]]
            status[area, step, spot[hit]] = np.where(real, TRUE_POSITIVE, IGNORED)
    return Matches(
        images=images,
        categories=categories,
        image=kept.image[final],
        category=kept.category[final],
        score=kept.score[final],
        rank=rank[final],
        status=status,
        truth_image=truth.image,
        truth_category=truth.category,
        truth_counts=truth_counts,
    )


def by_group(
    predictions: Predictions, categories: int, *, most: int | None = MAX_DETECTIONS
) -> tuple[Predictions, NDArray[np.int64], NDArray[np.int64]]:
    """Sort by image and category, most confident first.

    Args:
        predictions: The detections.
        categories: Number of categories.
        most: Number of detections of an image and category that are kept; None keeps all.

    Returns:
        The detections; (D,) number of the image and category; (D,) rank within it.
    """
    group = predictions.image * categories + predictions.category
    order = np.lexsort((-predictions.score, group))
    group = group[order]
    rank = _rank(group)
    keep = rank < (len(rank) if most is None else most)
    return predictions.take(order[keep]), group[keep], rank[keep]


def _rank(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place of each entry within its run of equal numbers, from 0."""
    position = np.arange(len(group))
    first = np.flatnonzero(np.diff(group, prepend=-1))
    return position - np.repeat(first, np.diff(np.append(first, len(group))))


def _within(area: NDArray[np.float64], limits: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(A, N) bool: whether an area, square pixels, is in each of the ranges (A, 2)."""
    within: NDArray[np.bool_] = (area >= limits[:, :1]) & (area <= limits[:, 1:])
    return within


def assign(
    truth_group: NDArray[np.int64],
    truth_xywh: NDArray[np.float64],
    crowd: NDArray[np.bool_],
    counts: NDArray[np.bool_],
    group: NDArray[np.int64],
    xywh: NDArray[np.float64],
    thresholds: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Let detections choose objects of their group, one after the other.

    Args:
        truth_group: (G,) number of the image and category of each object.
        truth_xywh: (G, 4) left, top, width, height.
        crowd: (G,) may be chosen any number of times.
        counts: (A, G) is chosen before objects that do not.
        group: (D,) ascending; within a group the detections are in the order of choosing.
        xywh: (D, 4).
        thresholds: (T,) lowest IoU.

    Returns:
        (C,) detections that overlap an object enough at the lowest threshold, and (A, T, C) the
        object that each chose, -1 for none.
    """
    lowest = np.minimum(thresholds, 1 - 1e-10)  # (T,); as pycocotools has it
    parts = _overlaps(truth_group, truth_xywh, crowd, group, xywh, lowest.min())
    # (P,) each: the pairs that overlap enough at the lowest threshold.
    detection, truth, iou = (np.concatenate(part) for part in zip(*parts, strict=True))
    # Of equal overlaps the last object wins in pycocotools: so it does by this order.
    order = np.lexsort((truth, iou, detection))  # (P,)
    found, first = np.unique(detection, return_index=True)  # (C,) detections with a pair
    turn = _rank(group[found])  # (C,) place of the detection among those of its group
    # Detections and their pairs turn by turn: first the most confident of every group.
    order = order[np.argsort(np.repeat(turn, _lengths(first, len(order))), kind="stable")]
    found = found[np.argsort(turn, kind="stable")]
    detection, truth, iou = detection[order], truth[order], iou[order]
    first = np.flatnonzero(np.diff(detection, prepend=-1))  # (C,) first pair of each detection
    # (P,) place among the pairs of the detection, from 1; the greatest overlap is the last.
    preference = 1 + np.arange(len(order)) - np.repeat(first, _lengths(first, len(order)))
    chosen = np.full((len(found), len(counts), len(thresholds)), -1, np.int64)  # (C, A, T)
    taken = np.zeros((len(truth_group), len(counts), len(thresholds)), np.bool_)  # (G, A, T)
    begins = np.searchsorted(np.sort(turn), np.arange(turn.max(initial=-1) + 2))  # (turns + 1,)
    bounds = np.append(first, len(order))  # (C + 1,) pairs of detection c: bounds[c : c + 2]
    for begin, end in itertools.pairwise(begins):  # one turn: N detections, R pairs
        rows = slice(bounds[begin], bounds[end])
        them = truth[rows]  # (R,)
        free = ~taken[them] | crowd[them, np.newaxis, np.newaxis]  # (R, A, T)
        free &= (iou[rows, np.newaxis] >= lowest)[:, np.newaxis]
        wish = preference[rows, np.newaxis] + _COUNTS * counts[:, them].T  # (R, A)
        wish = np.where(free, wish[:, :, np.newaxis], 0)  # (R, A, T)
        best = np.maximum.reduceat(wish, first[begin:end] - bounds[begin], axis=0)  # (N, A, T)
        pair = first[begin:end, np.newaxis, np.newaxis] + best % _COUNTS - 1  # (N, A, T)
        chosen[begin:end] = np.where(best > 0, truth[pair], -1)
        one, area, step = np.nonzero(best)
        taken[chosen[begin:end][one, area, step], area, step] = True
    return found, np.ascontiguousarray(chosen.transpose(1, 2, 0))  # (C,), (A, T, C)


def _lengths(first: NDArray[np.intp], total: int) -> NDArray[np.intp]:
    """Lengths of the runs that begin at `first`."""
    return np.diff(np.append(first, total))


def _overlaps(
    truth_group: NDArray[np.int64],
    truth_xywh: NDArray[np.float64],
    crowd: NDArray[np.bool_],
    group: NDArray[np.int64],
    xywh: NDArray[np.float64],
    lowest: float,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    """Pairs of a detection and an object of its group whose IoU is at least `lowest`.

    Yields:
        Detection (P,), object (P,), IoU (P,) float64; with a crowd, the intersection over the
        detection's own area. In parts, so that crowded images do not fill the memory.
    """
    by_group = np.argsort(truth_group, kind="stable")
    begin = np.searchsorted(truth_group[by_group], group, "left")
    count = np.searchsorted(truth_group[by_group], group, "right") - begin
    busy = np.flatnonzero(count)
    ends = np.cumsum(count[busy])
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.searchsorted(ends, np.arange(_PAIRS_AT_A_TIME, total, _PAIRS_AT_A_TIME))
    for part in np.split(busy, cuts):
        detection = np.repeat(part, count[part])
        offset = np.arange(len(detection)) - np.repeat(
            np.cumsum(count[part]) - count[part], count[part]
        )
        truth = by_group[begin[detection] + offset]
        iou = pair_iou(xywh[detection], truth_xywh[truth], crowd[truth])
        near = np.flatnonzero(iou >= lowest)
        yield detection[near], truth[near], iou[near]


def pair_iou(
    found: NDArray[np.float64],
    truth: NDArray[np.float64],
    crowd: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """IoU of pairs, in the order of ``bbIou``'s sums.

    Args:
        found: (P, 4) left, top, width, height.
        truth: (P, 4), the partner of each.
        crowd: (P,) the partner is a crowd: the intersection over the area of `found`.

    Returns:
        (P,) float64.
    """
    low = np.maximum(found[:, :2], truth[:, :2])
    high = np.minimum(found[:, 2:] + found[:, :2], truth[:, 2:] + truth[:, :2])
    width, height = (high - low).T
    shared = np.where((width > 0) & (height > 0), width * height, 0.0)
    own = found[:, 2] * found[:, 3]
    union = own + truth[:, 2] * truth[:, 3] - shared
    if crowd is not None:
        union = np.where(crowd, own, union)
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)
