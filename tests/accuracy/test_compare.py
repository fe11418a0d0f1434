"""The one comparison of a child with its parent: which boxes are the same, and what moved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from grid_of_boxes import CLASSES, IMAGES, grid
from seatrial.accuracy.bootstrap import paired_bootstrap
from seatrial.accuracy.compare import FLOOR, BoxSet, Comparison, choose_floor, compare
from seatrial.accuracy.evaluate import score
from seatrial.accuracy.matching import Predictions
from seatrial.errors import InvalidInput


def boxes(*rows: tuple[int, int, float, float], width: float = 10) -> Predictions:
    """(image, category, left, confidence); boxes are 10 x 10."""
    table = np.array(rows, np.float64).reshape(-1, 4)
    xywh = np.zeros((len(rows), 4))
    xywh[:, 0], xywh[:, 2], xywh[:, 3] = table[:, 2], width, 10
    return Predictions(
        table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), xywh, table[:, 3]
    )


def compared(
    child: Predictions, parent: Predictions, images: int = IMAGES, **options: float
) -> Comparison:
    sides = (BoxSet(side, images, CLASSES) for side in (child, parent))
    return compare(*sides, samples=200, **options)  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------- the rule


@pytest.mark.parametrize(
    ("before", "after", "matched", "lost", "gained"),
    [
        (0.26, 0.24, 1, 0, 0),
        (0.26, 0.13, 1, 0, 0),  # export said found, INT8 said lost, before there was one rule
        (0.26, 0.125, 1, 0, 0),
        (0.26, 0.12, 0, 1, 0),
        (0.9, 0.13, 1, 0, 0),
        (0.13, 0.26, 1, 0, 0),
        (0.12, 0.26, 0, 0, 1),
        (0.24, 0.24, 0, 0, 0),  # neither is seen
        (0.25, 0.25, 1, 0, 0),
    ],
)
def test_one_of_a_pair_is_seen_and_the_other_has_half_the_floor(
    before: float, after: float, matched: int, lost: int, gained: int
) -> None:
    got = compared(boxes((0, 0, 0, after)), boxes((0, 0, 0, before)), floor=0.25)
    assert (got.floor, got.matched, got.lost, got.gained) == (0.25, matched, lost, gained)
    assert got.parent_boxes == (before >= 0.25)
    assert got.child_boxes == (after >= 0.25)
    if matched:
        assert got.mean_shift == pytest.approx(after - before)
        assert got.mean_abs_shift == got.most_shift == pytest.approx(abs(after - before))


@pytest.mark.parametrize(("left", "same"), [(0.0, True), (3.33, True), (3.34, False)])
def test_boxes_are_the_same_from_half_an_overlap_on(left: float, same: bool) -> None:
    got = compared(boxes((0, 0, left, 0.9)), boxes((0, 0, 0, 0.9)))  # IoU 0.5 at 3.333
    assert (got.matched, got.lost, got.gained) == ((1, 0, 0) if same else (0, 1, 1))
    if same:
        assert got.iou_mean == got.iou_least == pytest.approx((10 - left) / (10 + left))
    else:
        assert got.iou_mean is got.iou_least is got.mean_shift is got.most_shift is None


@pytest.mark.parametrize(
    ("images", "categories", "what"),
    [(IMAGES + 1, CLASSES, "images"), (IMAGES - 1, CLASSES, "images"), (IMAGES, 1, "categories")],
)
def test_other_images_or_categories_are_refused(images: int, categories: int, what: str) -> None:
    seen = boxes((0, 0, 0, 0.9))
    with pytest.raises(InvalidInput, match=f"{what} and the parent"):
        compare(BoxSet(seen, images, categories), BoxSet(seen, IMAGES, CLASSES))


def test_images_and_classes_are_not_mixed() -> None:
    parent = boxes((0, 1, 0, 0.9), (1, 0, 50, 0.9))
    child = boxes((0, 0, 0, 0.9), (2, 0, 50, 0.9))
    got = compared(child, parent)
    assert (got.matched, got.lost, got.gained) == (0, 2, 2)


def test_each_box_is_used_once_and_the_confident_ones_choose_first() -> None:
    parent = boxes((0, 0, 0, 0.9), (0, 0, 1, 0.8))
    got = compared(boxes((0, 0, 0, 0.9)), parent)
    assert (got.matched, got.lost, got.mean_shift) == (1, 1, 0)
    # The weaker box of the child overlaps the parent's more, and comes second all the same.
    got = compared(boxes((0, 0, 0, 0.4), (0, 0, 1, 0.9)), boxes((0, 0, 0, 0.9)))
    assert (got.matched, got.gained, got.mean_shift) == (1, 1, 0)
    assert got.iou_mean == pytest.approx(9 / 11)


def test_boxes_under_half_the_floor_take_nobody_as_a_partner() -> None:
    parent = boxes((0, 0, 1, 0.9), (0, 0, 0, 0.1))
    got = compared(boxes((0, 0, 0, 0.9)), parent)
    assert (got.matched, got.lost, got.gained, got.mean_shift) == (1, 0, 0, 0)


def test_an_image_with_more_boxes_than_coco_counts_loses_none() -> None:
    crowd = boxes(*((0, 0, 20.0 * n, 0.9 - n / 1000) for n in range(150)))
    got = compared(crowd, crowd)
    assert (got.matched, got.lost, got.gained, got.images) == (150, 0, 0, IMAGES)


def test_the_floor_can_be_given() -> None:
    parent, child = boxes((0, 0, 0, 0.45)), boxes((0, 0, 0, 0.26))
    assert compared(child, parent, floor=0.5).matched == 0
    assert compared(child, parent, floor=0.4).matched == 1
    assert compared(boxes((0, 0, 0, 0.19)), parent, floor=0.4).lost == 1


def test_a_parent_that_is_never_confident_is_compared_lower() -> None:
    assert choose_floor(boxes((0, 0, 0, 0.9), (0, 0, 20, 0.1))) == FLOOR
    assert choose_floor(boxes((0, 0, 0, 0.25))) == FLOOR
    assert choose_floor(boxes((0, 0, 0, 0.1))) == pytest.approx(0.05)
    assert choose_floor(boxes()) == FLOOR
    got = compared(boxes((0, 0, 0, 0.04)), boxes((0, 0, 0, 0.1)))
    assert (got.floor, got.matched) == (pytest.approx(0.05), 1)


# ------------------------------------------------------------------------------------ confidences


def test_halved_confidences_keep_ap_and_are_seen() -> None:
    dataset, parent = grid()
    child = replace(parent, score=parent.score / 2)
    before, after = (score(dataset, rows)[1].figures for rows in (parent, child))
    assert before == after
    got = compared(child, parent)
    seen = parent.score[parent.score >= 0.25]
    assert (got.matched, got.lost, got.gained) == (len(seen), 0, 0)
    assert got.mean_shift == pytest.approx(-seen.mean() / 2)
    assert got.mean_abs_shift == pytest.approx(seen.mean() / 2)
    assert got.most_shift == pytest.approx(seen.max() / 2)
    assert sum(got.histogram) == got.matched
    assert sum(got.histogram[20:]) == 0  # nothing rose
    assert got.histogram[19] == (seen / 2 <= 0.05).sum()
    assert got.percentiles["p50"] == pytest.approx(-np.median(seen) / 2)
    assert list(got.percentiles) == ["p1", "p5", "p25", "p50", "p75", "p95", "p99"]
    assert [band.low for band in got.bands] == [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert all(band.high == pytest.approx(band.low + 0.1) for band in got.bands)
    assert sum(band.boxes for band in got.bands) == got.matched
    assert all(band.mean_child == pytest.approx(band.mean_parent / 2) for band in got.bands)
    assert all(band.low <= band.mean_parent <= band.high for band in got.bands)


def test_boxes_that_come_go_or_change_class_are_no_shift() -> None:
    _, parent = grid()
    strong = np.flatnonzero(parent.score >= 0.25)
    category = parent.category.copy()
    category[strong[0]] ^= 1
    xywh = parent.xywh.copy()
    xywh[strong[1], 1] += 30  # IoU 0.25
    got = compared(replace(parent, category=category, xywh=xywh), parent)
    assert (got.matched, got.lost, got.gained) == (len(strong) - 2, 2, 2)
    assert got.mean_shift == 0


def test_a_child_without_boxes() -> None:
    _, parent = grid()
    got = compared(parent.take(np.zeros(0, np.intp)), parent)
    assert (got.matched, got.mean_shift, got.percentiles, got.bands) == (0, None, {}, ())
    assert got.lost == got.parent_boxes == (parent.score >= 0.25).sum()
    assert got.agreement is not None
    assert (got.agreement.share, got.agreement.low, got.agreement.high) == (0, 0, 0)


def test_nothing_on_either_side() -> None:
    got = compared(boxes(), boxes())
    assert (got.matched, got.lost, got.gained, got.agreement) == (0, 0, 0, None)


# -------------------------------------------------------------------------------------- agreement


def test_agreement_is_the_f1_of_boxes_with_an_interval_over_images() -> None:
    parent = boxes((0, 0, 0, 0.9), (0, 0, 50, 0.26), (1, 1, 0, 0.8), (1, 0, 80, 0.1))
    child = boxes((0, 0, 1, 0.7), (0, 0, 50, 0.2), (1, 0, 0, 0.8))
    got = compared(child, parent, images=3)
    assert (got.matched, got.lost, got.gained) == (2, 1, 1)
    assert got.agreement is not None
    assert got.agreement.share == pytest.approx(4 / 6)
    assert got.agreement.level == 0.95
    assert got.agreement.low < got.agreement.share < got.agreement.high
    assert compared(child, parent, images=3) == got  # seeded
    # All that is drawn is one of the two images: the ends are their own shares.
    assert (got.agreement.low, got.agreement.high) == (0, 1)
    narrow = compared(child, parent, images=3, level=0.1).agreement
    assert narrow is not None
    assert narrow.level == 0.1
    assert narrow.high - narrow.low < 1


def test_equal_detectors_agree_as_surely_as_the_number_of_boxes_allows() -> None:
    for count, lowest in ((20, 0.85), (3000, 0.999), (2, 0.0)):
        one = boxes(*((i, 0, 0, 0.9) for i in range(count)))
        agreement = compared(one, one, images=count).agreement
        assert agreement is not None
        assert (agreement.share, agreement.high) == (1, 1)
        assert agreement.low == pytest.approx(lowest)


# --------------------------------------------------------------------------------------------- AP


def test_with_labels_it_has_the_paired_difference_of_ap() -> None:
    dataset, parent = grid()
    child = replace(parent, xywh=parent.xywh + np.array([3, 0, 0, 0]))
    sides = [BoxSet.on(dataset, rows) for rows in (child, parent)]
    got = compare(*sides, samples=100, seed=3, level=0.9)
    assert sides[0].matches is not None
    assert sides[1].matches is not None
    assert got.ap == paired_bootstrap(
        sides[1].matches, sides[0].matches, samples=100, seed=3, level=0.9
    )
    assert got.ap is not None
    assert got.ap.difference < 0  # child less parent
    assert compare(sides[0], BoxSet(parent, IMAGES, CLASSES)).ap is None


def test_a_parents_draws_are_kept() -> None:
    dataset, parent = grid()
    kept, told = BoxSet.on(dataset, parent), []
    for seed in (0, 0, 1):
        compare(
            BoxSet.on(dataset, parent),
            kept,
            samples=50,
            seed=seed,
            on_progress=lambda what, done=0, total=0, unit="": told.append(done),
        )
    assert len(told) == 2 + 1 + 2


def test_other_labels_and_no_labels_are_refused() -> None:
    dataset, rows = grid()
    fewer = replace(dataset, truth=dataset.truth.take(np.arange(8)))
    with pytest.raises(InvalidInput, match="not measured on the same labels"):
        compare(BoxSet.on(fewer, rows), BoxSet.on(dataset, rows), samples=10)
    with pytest.raises(InvalidInput, match="needs labels"):
        BoxSet(rows, IMAGES, CLASSES).resampled(10, 0)
