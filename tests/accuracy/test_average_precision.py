"""COCO's figures: by hand on tiny sets, and against both reference implementations."""

from __future__ import annotations

import contextlib
import io
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from seatrial.accuracy import matching
from seatrial.accuracy.average_precision import (
    average_precision,
    curves,
    mean,
    precision_at_recalls,
)
from seatrial.accuracy.evaluate import Figures, coco_results, score
from seatrial.accuracy.matching import Predictions, match
from seatrial.datasets.labels import Category, LabelledImage, LabelledSet, Truth

Row = tuple[Any, ...]


def labelled(objects: list[Row], *, images: int = 1, categories: int = 1) -> LabelledSet:
    """Objects as rows (image, category, xywh[, crowd])."""
    return LabelledSet(
        "test",
        tuple(LabelledImage(10 * i, f"{i}.jpg", Path(), None, None) for i in range(images)),
        tuple(Category(2 * c + 1, f"class {c}") for c in range(categories)),
        Truth.of(
            [row[0] for row in objects],
            [row[1] for row in objects],
            [row[2] for row in objects],
            crowd=[len(row) > 3 and row[3] for row in objects],
        ),
    )


def detected(rows: list[Row]) -> Predictions:
    """Detections as rows (image, category, xywh, score)."""
    return Predictions(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float64).reshape(-1, 4),
        np.array([row[3] for row in rows], np.float64),
    )


def figures(objects: list[Row], rows: list[Row], **sizes: int) -> Figures:
    found = score(labelled(objects, **sizes), detected(rows))[1].figures
    # pycocotools' guard against 0 / 0 costs the last bit.
    values = msgspec.structs.asdict(found).values()
    return Figures(*(None if value is None else round(value, 12) for value in values))


BOX = (0, 0, 100, 100)  # large: 10,000 square pixels
FAR = (300, 300, 100, 100)
FURTHER = (500, 0, 100, 100)


def test_one_object_found_exactly() -> None:
    got = figures([(0, 0, BOX)], [(0, 0, BOX, 0.9)])
    assert got == Figures(1, 1, 1, None, None, 1, 1, 1, 1, None, None, 1)


def test_overlap_of_62_percent_passes_three_of_the_ten_thresholds() -> None:
    got = figures([(0, 0, BOX)], [(0, 0, (0, 0, 100, 62), 0.9)])
    assert (got.ap, got.ap50, got.ap75) == (pytest.approx(0.3), 1, 0)


def test_wrong_detection_above_a_right_one_halves_precision() -> None:
    assert figures([(0, 0, BOX)], [(0, 0, FAR, 0.9), (0, 0, BOX, 0.8)]).ap == pytest.approx(0.5)


def test_wrong_detection_below_the_last_right_one_costs_nothing() -> None:
    assert figures([(0, 0, BOX)], [(0, 0, FAR, 0.7), (0, 0, BOX, 0.8)]).ap == 1


def test_half_of_the_objects_reach_51_of_the_101_recalls() -> None:
    got = figures([(0, 0, BOX), (0, 0, FAR)], [(0, 0, BOX, 0.9)])
    assert got.ap == pytest.approx(51 / 101)
    assert got.ar100 == 0.5


def test_precision_is_the_best_at_any_greater_recall() -> None:
    # Right, wrong, right: precision 1, 1/2, 2/3. Recall 0 to 0.5 reads 1, the rest reads 2/3.
    rows = [(0, 0, BOX, 0.9), (0, 0, FURTHER, 0.8), (0, 0, FAR, 0.7)]
    got = figures([(0, 0, BOX), (0, 0, FAR)], rows)
    assert got.ap == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_second_detection_of_an_object_is_wrong() -> None:
    rows = [(0, 0, BOX, 0.9), (0, 0, BOX, 0.8), (0, 0, FAR, 0.7)]
    got = figures([(0, 0, BOX), (0, 0, FAR)], rows)
    assert got.ap == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_more_confident_detection_chooses_first_and_takes_the_greatest_overlap() -> None:
    left, right = (0, 0, 100, 100), (20, 0, 100, 100)
    # The first one overlaps the right object most (IoU 0.905), and the left one at IoU 0.739.
    rows = [(0, 0, (15, 0, 100, 100), 0.9), (0, 0, (2, 0, 100, 100), 0.8)]
    assert figures([(0, 0, left), (0, 0, right)], rows).ap50 == 1


def test_image_without_objects_counts() -> None:
    rows = [(0, 0, BOX, 0.9), (1, 0, BOX, 0.8)]
    assert figures([(1, 0, BOX)], rows, images=2).ap == pytest.approx(0.5)


def test_detections_in_a_crowd_count_neither_way_and_any_number_of_times() -> None:
    crowd = (200, 200, 300, 300)
    inside = [(0, 0, (210 + 20 * i, 210, 15, 15), 0.95) for i in range(5)]
    got = figures([(0, 0, BOX), (0, 0, crowd, True)], [*inside, (0, 0, BOX, 0.9)])
    assert got.ap == 1
    assert figures([(0, 0, BOX), (0, 0, crowd)], [*inside, (0, 0, BOX, 0.9)]).ap < 0.2


def test_object_goes_before_a_crowd_that_overlaps_more() -> None:
    got = figures([(0, 0, (0, 0, 500, 500), True), (0, 0, BOX)], [(0, 0, (0, 0, 100, 80), 0.9)])
    assert got.ap50 == 1


def test_other_class_is_wrong_and_a_class_without_objects_has_no_ap() -> None:
    objects, rows = [(0, 0, BOX), (0, 1, FAR)], [(0, 0, BOX, 0.9), (0, 2, FAR, 0.9)]
    _, got = score(labelled(objects, categories=3), detected(rows))
    assert got.figures.ap == 0.5
    assert [(one.name, one.category_id, one.ap) for one in got.classes] == [
        ("class 0", 1, 1),
        ("class 1", 3, 0),
    ]


def test_detections_beyond_the_hundredth_of_a_class_and_image_do_not_count() -> None:
    wrong = [(0, 0, (0, 2 * i, 1, 1), 0.9) for i in range(100)]
    assert figures([(0, 0, FAR)], [*wrong[1:], (0, 0, FAR, 0.5)]).ap == pytest.approx(0.01)
    assert figures([(0, 0, FAR)], [*wrong, (0, 0, FAR, 0.5)]).ap == 0
    other = [(0, 1, row[2], row[3]) for row in wrong]  # the limit is by class
    assert figures([(0, 0, FAR)], [*other, (0, 0, FAR, 0.5)], categories=2).ap == 1


def test_sizes_and_recall_limits() -> None:
    small, medium = (0, 0, 32, 32), (100, 100, 96, 96)  # both on the border of two ranges
    objects = [(0, 0, small), (0, 0, medium), (0, 0, FAR)]
    got = figures(objects, [(0, 0, small, 0.9), (0, 0, FAR, 0.8)])
    assert got.ap_small == 1  # 1024 belongs to small and to medium
    assert got.ap_medium == pytest.approx(51 / 101)
    assert got.ap_large == pytest.approx(51 / 101)
    assert (got.ar1, got.ar10, got.ar100) == (pytest.approx(1 / 3), *[pytest.approx(2 / 3)] * 2)
    assert (got.ar_small, got.ar_medium, got.ar_large) == (1, 0.5, 0.5)


def test_no_detections_and_no_objects() -> None:
    got = figures([(0, 0, BOX)], [])
    assert (got.ap, got.ar100) == (0, 0)
    assert figures([(0, 0, BOX, True)], [(0, 0, BOX, 0.9)]).ap is None


# ------------------------------------------------------------------- reference implementations


def synthetic(
    seed: int, images: int, objects: int, per_image: int, categories: int = 80
) -> tuple[LabelledSet, Predictions]:
    """A set as COCO's val2017 is: few classes an image, most of them rare, crowds, all sizes.

    Scores have ties, boxes repeat, and classes have more than 100 detections in an image where
    there are few classes.
    """
    chance = np.random.default_rng(seed)
    weight = 1 / np.arange(1, categories + 1) ** 0.8
    palette = chance.choice(categories, (images, 3), p=weight / weight.sum())
    image = np.sort(chance.integers(0, images, objects))
    category = palette[image, chance.integers(0, 3, objects)]
    xywh = _boxes(chance, objects).round(2)
    many = images * per_image
    where = np.repeat(np.arange(images), per_image)
    begin, count = np.searchsorted(image, np.arange(images)), np.bincount(image, minlength=images)
    pick = begin[where] + (chance.random(many) * count[where]).astype(int)
    near = (chance.random(many) < 0.4) & (count[where] > 0)
    pick = pick.clip(max=objects - 1)
    moved = xywh[pick] + chance.normal(0, 0.1, (many, 4)) * np.tile(xywh[pick][:, 2:], 2)
    exact = near & (chance.random(many) < 0.1)
    moved[exact] = xywh[pick[exact]]
    moved[:, 2:] = moved[:, 2:].clip(0.5)
    right = near & (chance.random(many) < 0.85)
    guess = palette[where, chance.integers(0, 3, many)]
    rows = Predictions(
        where.astype(np.int64),
        np.where(right, category[pick], guess).astype(np.int64),
        np.where(near[:, None], moved, _boxes(chance, many)).round(2),
        np.where(near, chance.beta(2, 3, many), chance.beta(0.5, 8, many)).round(3),
    )
    dataset = labelled([], images=images, categories=categories)
    truth = Truth.of(
        image,
        category,
        xywh,
        area=xywh[:, 2] * xywh[:, 3] * chance.uniform(0.4, 1, objects),
        crowd=chance.random(objects) < 0.02,
    )
    return replace(dataset, truth=truth), rows


def _boxes(chance: np.random.Generator, count: int) -> Any:
    size = np.exp(chance.normal(4, 1, (count, 2))).clip(4, 400)
    return np.concatenate([chance.uniform(0, 1, (count, 2)) * (640 - size), size], axis=1)


def coarse(seed: int) -> tuple[LabelledSet, Predictions]:
    """Boxes on a grid: equal overlaps, overlaps that hit a threshold exactly, equal scores."""
    chance = np.random.default_rng(seed)

    def boxes(count: int) -> Any:
        return 10 * np.concatenate(
            [chance.integers(0, 4, (count, 2)), chance.integers(1, 5, (count, 2))], axis=1
        )

    objects = [
        (chance.integers(0, 20), chance.integers(0, 2), box, chance.random() < 0.1)
        for box in boxes(120)
    ]
    rows = [
        (*objects[pick][:2], box, round(chance.random(), 1))
        for pick, box in zip(chance.integers(0, 120, 900), boxes(900), strict=True)
    ]
    return labelled(objects, images=20, categories=2), detected(rows)


def as_coco(dataset: LabelledSet) -> dict[str, Any]:
    truth = dataset.truth
    return {
        "images": [{"id": image.id, "width": 640, "height": 640} for image in dataset.images],
        "categories": [{"id": c.id, "name": c.name} for c in dataset.categories],
        "annotations": [
            {
                "id": number + 1,
                "image_id": dataset.images[image].id,
                "category_id": dataset.categories[category].id,
                "bbox": xywh,
                "area": area,
                "iscrowd": int(crowd),
            }
            for number, (image, category, xywh, area, crowd) in enumerate(
                zip(
                    truth.image.tolist(), truth.category.tolist(), truth.xywh.tolist(),
                    truth.area.tolist(), truth.crowd.tolist(), strict=True,
                )
            )
        ],
    }  # fmt: skip


def by_pycocotools(labels: dict[str, Any], rows: list[dict[str, Any]]) -> tuple[Any, Any]:
    """The twelve figures, and AP by threshold and category."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = labels
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(rows), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    precision = run.eval["precision"][:, :, :, 0, 2].mean(axis=1)
    return np.array(run.stats), np.where(precision < 0, np.nan, precision)


def by_faster_coco_eval(labels: dict[str, Any], rows: list[dict[str, Any]]) -> Any:
    """The twelve figures."""
    from faster_coco_eval import COCO, COCOeval_faster

    truth = COCO(labels, print_function=lambda *_: None)
    run = COCOeval_faster(truth, truth.loadRes(rows), "bbox", print_function=lambda *_: None)
    run.run()
    return np.array(run.stats[:12])


@pytest.mark.parametrize(
    "made",
    [
        synthetic(0, 40, 300, 100, 80),
        synthetic(1, 15, 200, 300, 2),
        synthetic(2, 30, 60, 20, 5),
        synthetic(3, 2, 150, 400, 1),
        coarse(0),
        coarse(1),
    ],
    ids=["like COCO", "two classes", "few objects", "crowded", "coarse 0", "coarse 1"],
)
def test_figures_are_those_of_both_reference_implementations(
    made: tuple[LabelledSet, Predictions],
) -> None:
    dataset, rows = made
    results = list(coco_results(dataset, rows))
    reference, by_class = by_pycocotools(as_coco(dataset), results)
    matches, got = score(dataset, rows)
    ours = [-1.0 if v is None else v for v in msgspec.structs.asdict(got.figures).values()]
    np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours, by_faster_coco_eval(as_coco(dataset), results), atol=1e-12)
    np.testing.assert_allclose(average_precision(curves(matches)), by_class, rtol=0, atol=1e-12)
    assert 0.02 < reference[0] < 0.95


def test_pairs_are_compared_in_parts_without_a_difference(monkeypatch: Any) -> None:
    dataset, rows = synthetic(4, 10, 80, 50, 3)
    whole = score(dataset, rows)[1]
    monkeypatch.setattr(matching, "_PAIRS_AT_A_TIME", 7)
    assert score(dataset, rows)[1] == whole


def test_weights_are_the_same_as_images_that_are_there_several_times() -> None:
    dataset, rows = synthetic(5, 12, 90, 40, 4)
    # No ties: copies of an image would otherwise be ordered among other images' detections.
    rows = replace(rows, score=np.random.default_rng(0).permutation(len(rows)) / len(rows))
    weights = np.random.default_rng(1).integers(0, 4, 12)
    copies = np.repeat(np.arange(12), weights)
    truth_rows = [np.flatnonzero(dataset.truth.image == image) for image in copies]
    found_rows = [np.flatnonzero(rows.image == image) for image in copies]
    truth = dataset.truth.take(np.concatenate(truth_rows))
    found = rows.take(np.concatenate(found_rows))
    numbers = np.arange(len(copies))
    truth = replace(truth, image=np.repeat(numbers, [len(r) for r in truth_rows]))
    found = replace(found, image=np.repeat(numbers, [len(r) for r in found_rows]))
    copied = match(truth, found, images=len(copies), categories=4)
    once = match(dataset.truth, rows, images=12, categories=4)
    for area in range(4):
        np.testing.assert_allclose(
            average_precision(curves(once, area), weights.astype(float)),
            average_precision(curves(copied, area)),
            atol=1e-12,
        )
    assert mean(average_precision(curves(once))) != mean(average_precision(curves(copied)))


def test_five_thousand_images_are_scored_within_three_seconds() -> None:
    dataset, rows = synthetic(6, 5000, 36_000, 100)
    spent_s = []
    for _ in range(2):
        begun = time.process_time()  # of this process: other work on the machine is not ours
        score(dataset, rows)
        spent_s.append(time.process_time() - begun)
    assert min(spent_s) < 3.0


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_of_the_curve_is_the_average_precision(seed: int) -> None:
    chance = np.random.default_rng(seed)
    objects = [(n % 5, int(chance.integers(3)), [20 * n, 5, 10, 10]) for n in range(30)]
    rows = [
        (image, category, [left + float(chance.uniform(0, 6)), 5, 10, 10], float(chance.random()))
        for image, category, (left, *_) in objects
        if chance.random() < 0.8
    ]
    found = match(labelled(objects, images=5, categories=4).truth, detected(rows),
                  images=5, categories=4)  # fmt: skip
    lines = curves(found)
    for step, expected in enumerate(np.nanmean(average_precision(lines), axis=1)):
        precision = precision_at_recalls(lines, step)
        assert precision.mean() == pytest.approx(expected, abs=1e-12)
        assert (np.diff(precision) <= 1e-12).all()
