"""The one comparison of a child with its parent, on the same images.

An export, an INT8 version, a finetuned model and a second model on a page are all compared here,
by one matcher and one rule, so that the same two models give the same answer everywhere.

**The rule.** A box is *seen* from a confidence on, the floor: 0.25, what services report by
default. Two boxes are the same where image and class are equal and their IoU is 0.5 or more; each
is used once, the child's most confident first (`seatrial.accuracy.matching.assign`). One of a pair
is seen, the other has half the floor or more: a box that fell from 0.26 to 0.24, or to 0.13, is
matched and its confidence has shifted; one that fell to 0.12 is lost. Half, because INT8 is known
to halve confidences while the AP holds: that is a fault of the confidences, which the mean shift
shows, and no box is gone. A share of the floor and not a fixed distance below it, because a floor
of 0.05 (see `choose_floor`) has no 0.10 below it. Boxes under half the floor take part in nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.accuracy.bootstrap import Difference, Resampled, difference, resample
from seatrial.accuracy.matching import Matches, Predictions, by_group, match, pair_iou
from seatrial.accuracy.pairs import IOU, pairs
from seatrial.datasets.labels import LabelledSet
from seatrial.errors import InvalidInput
from seatrial.progress import Progress, silent

FLOOR = 0.25
PARTNER = 0.5  # least confidence of the weaker of a pair, as a share of the floor
LEVEL = 0.95
# Where n tries showed no failure, the rate of failures is below 3 / n, at a level of 95 %.
# Source: Hanley and Lippman-Hand, If nothing goes wrong, is everything all right?, JAMA 1983.
RULE_OF_THREE = 3.0
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
# One bin of 41 lies around 0: shifts of nothing are drawn neither as rises nor as falls.
HISTOGRAM_EDGES: NDArray[np.float64] = np.linspace(-1.025, 1.025, 42)
PARENT_EDGES: NDArray[np.float64] = np.linspace(0.0, 1.0, 11)
_DRAWS_AT_A_TIME = 64


class ConfidenceBand(msgspec.Struct, frozen=True):
    """Matched boxes whose parent has a confidence from ``low`` (included) to ``high``."""

    low: float
    high: float
    boxes: int
    mean_parent: float
    mean_child: float


class Agreement(msgspec.Struct, frozen=True):
    """Boxes that both detectors see, as a share of the boxes of both.

    Attributes:
        share: F1: twice the pairs over the boxes of both sides, 0-1.
        low: Lower end of its interval.
        high: Upper end.
        level: Level of the interval.
    """

    share: float
    low: float
    high: float
    level: float


class Comparison(msgspec.Struct, frozen=True):
    """A child against its parent on the same images.

    Confidences are compared over matched boxes; what has no matched box is None, or empty.

    Attributes:
        floor: Confidence from which on a box is seen.
        images: Number of images.
        parent_boxes: Boxes of the parent that are seen.
        child_boxes: Boxes of the child that are seen.
        matched: Pairs, at least one of the two seen.
        lost: Boxes of the parent that are seen and have no partner.
        gained: Boxes of the child that are seen and have no partner.
        agreement: Share of the boxes that both see, with its interval; None where neither has any.
        iou_mean: Mean IoU of the pairs.
        iou_least: Least IoU of a pair.
        mean_shift: Mean of the child's confidence less the parent's.
        mean_abs_shift: Mean size of that shift.
        most_shift: Largest size of that shift.
        percentiles: Percentile -> shift.
        histogram: Pairs by shift, in 41 bins of 0.05 around -1 to 1. Reports of
            earlier versions have 40, from -1 to 1.
        bands: Pairs by the parent's confidence; empty bands are left out.
        ap: AP of both and its difference with an interval; None without labels.
    """

    floor: float
    images: int
    parent_boxes: int
    child_boxes: int
    matched: int
    lost: int
    gained: int
    agreement: Agreement | None
    iou_mean: float | None
    iou_least: float | None
    mean_shift: float | None
    mean_abs_shift: float | None
    most_shift: float | None
    percentiles: dict[str, float] = {}
    histogram: tuple[int, ...] = ()
    bands: tuple[ConfidenceBand, ...] = ()
    ap: Difference | None = None


@dataclass(frozen=True, slots=True)
class BoxSet:
    """The boxes of one detector on a set of images, and their matches where there are labels.

    Many children are compared with one parent: its draws are kept.

    Attributes:
        predictions: Boxes down to a low confidence.
        images: Number of images.
        categories: Number of categories.
        matches: Which boxes found a labelled object; None without labels.
    """

    predictions: Predictions
    images: int
    categories: int
    matches: Matches | None = None
    _drawn: dict[tuple[int, int], Resampled] = field(default_factory=dict, repr=False)

    @classmethod
    def on(
        cls, dataset: LabelledSet, predictions: Predictions, matches: Matches | None = None
    ) -> BoxSet:
        """Boxes on a labelled set, matched with its objects unless their matches are given."""
        images, categories = len(dataset.images), len(dataset.categories)
        if matches is None:
            matches = match(dataset.truth, predictions, images=images, categories=categories)
        return cls(predictions, images, categories, matches)

    def resampled(self, samples: int, seed: int, on_progress: Progress = silent) -> Resampled:
        """AP in every draw; drawn once.

        Raises:
            InvalidInput: There are no labels, or nothing to draw.
        """
        if self.matches is None:
            raise InvalidInput("a bootstrap of AP needs labels")
        if (samples, seed) not in self._drawn:
            self._drawn[samples, seed] = resample(
                self.matches, samples=samples, seed=seed, on_progress=on_progress
            )
        return self._drawn[samples, seed]


def compare(
    child: BoxSet,
    parent: BoxSet,
    *,
    floor: float | None = None,
    samples: int = 1000,
    level: float = LEVEL,
    seed: int = 0,
    on_progress: Progress = silent,
) -> Comparison:
    """Compare a child with its parent.

    Args:
        child: Boxes of the child, down to half the floor or lower.
        parent: Boxes of the parent on the same images, in the same categories.
        floor: Confidence from which on a box is seen; default: `choose_floor`.
        samples: Draws of the bootstraps.
        level: Level of the intervals.
        seed: Seed of the draws.
        on_progress: Called with the draws that are done.

    Raises:
        InvalidInput: The two were not measured on the same images, categories and labels, or
            there is nothing to draw.
    """
    for what, of_child, of_parent in (
        ("images", child.images, parent.images),
        ("categories", child.categories, parent.categories),
    ):
        if of_child != of_parent:
            raise InvalidInput(
                f"the child was measured on {of_child} {what} and the parent on {of_parent}: "
                "they cannot be compared"
            )
    floor = choose_floor(parent.predictions) if floor is None else floor
    mine, theirs = (
        side.predictions.take(np.flatnonzero(side.predictions.score >= floor * PARTNER))
        for side in (child, parent)
    )
    mine, group, _ = by_group(mine, child.categories, most=None)
    their_group = theirs.image * child.categories + theirs.category
    ours, partners = pairs(their_group, theirs.xywh, group, mine.xywh, iou=IOU)  # (P,) indices
    seen = np.maximum(mine.score[ours], theirs.score[partners]) >= floor
    ours, partners = ours[seen], partners[seen]
    after, before = mine.score[ours], theirs.score[partners]
    shift = after - before
    overlap = pair_iou(mine.xywh[ours], theirs.xywh[partners])
    gained, lost = (  # images of the boxes that have no partner
        np.delete(side.image, paired)[np.delete(side.score, paired) >= floor]
        for side, paired in ((mine, ours), (theirs, partners))
    )
    ap = None
    if child.matches is not None and parent.matches is not None:
        drawn = [side.resampled(samples, seed, on_progress) for side in (parent, child)]
        ap = difference(*drawn, level=level)
    some = len(shift) > 0
    return Comparison(
        floor=floor,
        images=parent.images,
        parent_boxes=int((theirs.score >= floor).sum()),
        child_boxes=int((mine.score >= floor).sum()),
        matched=len(shift),
        lost=len(lost),
        gained=len(gained),
        agreement=_agreement(
            np.bincount(mine.image[ours], minlength=parent.images),
            np.bincount(np.concatenate([gained, lost]), minlength=parent.images),
            samples=samples,
            level=level,
            seed=seed,
        ),
        iou_mean=float(overlap.mean()) if some else None,
        iou_least=float(overlap.min()) if some else None,
        mean_shift=float(shift.mean()) if some else None,
        mean_abs_shift=float(np.abs(shift).mean()) if some else None,
        most_shift=float(np.abs(shift).max()) if some else None,
        percentiles={f"p{p}": float(np.percentile(shift, p)) for p in PERCENTILES if some},
        histogram=tuple(np.histogram(shift, HISTOGRAM_EDGES)[0].tolist()),
        bands=_bands(before, after),
        ap=ap,
    )


def choose_floor(parent: Predictions) -> float:
    """`FLOOR`; for a parent that is never as confident, half of its greatest confidence."""
    top = float(parent.score.max(initial=0.0))
    return FLOOR if top >= FLOOR or top == 0 else top / 2


def _agreement(
    both: NDArray[np.int64],
    alone: NDArray[np.int64],
    *,
    samples: int,
    level: float,
    seed: int,
) -> Agreement | None:
    """The share of boxes that both see, and a bootstrap of it over images (percentiles).

    The interval is never narrower than the number of boxes allows (`RULE_OF_THREE`): a hundred
    boxes without a difference do not show that there is none.

    Args:
        both: (images,) pairs.
        alone: (images,) boxes that only one of the two sees.
        samples: Draws.
        level: Level of the interval.
        seed: Seed of the draws.
    """
    boxes = int(2 * both.sum() + alone.sum())
    if not boxes:
        return None
    chance = np.random.default_rng(seed)
    count = len(both)
    drawn: list[NDArray[np.float64]] = []
    for begun in range(0, samples, _DRAWS_AT_A_TIME):
        size = min(_DRAWS_AT_A_TIME, samples - begun)
        weights = chance.multinomial(count, np.full(count, 1 / count), size=size)  # (size, images)
        paired, single = 2 * weights @ both, weights @ alone  # (size,)
        some = paired + single > 0
        drawn.append(paired[some] / (paired + single)[some])
    ends = np.percentile(np.concatenate(drawn), [50 * (1 - level), 50 * (1 + level)])
    most = 1 - RULE_OF_THREE / max(boxes / 2, RULE_OF_THREE)
    return Agreement(
        share=float(2 * both.sum() / boxes),
        low=min(float(ends[0]), most),
        high=float(ends[1]),
        level=level,
    )


def _bands(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[ConfidenceBand, ...]:
    band = np.minimum(np.searchsorted(PARENT_EDGES, before, "right") - 1, len(PARENT_EDGES) - 2)
    return tuple(
        ConfidenceBand(
            low=round(float(PARENT_EDGES[number]), 2),
            high=round(float(PARENT_EDGES[number + 1]), 2),
            boxes=int((band == number).sum()),
            mean_parent=float(before[band == number].mean()),
            mean_child=float(after[band == number].mean()),
        )
        for number in np.unique(band).tolist()
    )
