"""Each thing that goes wrong is named with its likely cause; what is right is left in peace."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from seatrial.accuracy.evaluate import score
from seatrial.accuracy.matching import Predictions
from seatrial.datasets.labels import Category, LabelledImage, LabelledSet, Truth
from seatrial.train import diagnosis
from seatrial.train.journal import StepRecord
from seatrial.train.read_recipe import read_recipe
from seatrial.train.recipe import Diagnosis, Optimiser, Recipe, Schedule
from seatrial.train.validation import Validation

NAMES = ("car", "bus", "van", "bike")
SIZE = (200, 100)
RECIPE = read_recipe(None, "rt_detr")


def labelled(
    numbers: Sequence[Sequence[float]],
    classes: Sequence[int] | None = None,
    source: str = "coco:somewhere",
) -> LabelledSet:
    """One picture a box, as a reader would have it."""
    count = len(numbers)
    xywh = np.array(numbers, np.float64).reshape(-1, 4)
    kinds = np.arange(count) % len(NAMES) if classes is None else np.array(classes)
    return LabelledSet(
        source=source,
        images=tuple(
            LabelledImage(i + 1, f"{i}.png", Path(f"{i}.png"), *SIZE) for i in range(count)
        ),
        categories=tuple(Category(i, name) for i, name in enumerate(NAMES)),
        truth=Truth(
            np.arange(count), kinds.astype(np.int64), xywh, xywh[:, 2] * xywh[:, 3],
            np.zeros(count, np.bool_), np.arange(count),
        ),
    )  # fmt: skip


@pytest.fixture
def corners() -> list[list[float]]:
    """Left, top, right, bottom of 40 boxes, pixels, all inside their pictures."""
    draw = np.random.default_rng(0)
    rows = []
    for _ in range(40):
        width, height = draw.uniform(10, 60), draw.uniform(10, 40)
        left, top = draw.uniform(0, SIZE[0] - width), draw.uniform(0, SIZE[1] - height)
        rows.append([left, top, left + width, top + height])
    return rows


def as_size(row: Sequence[float]) -> list[float]:
    left, top, right, bottom = row
    return [left, top, right - left, bottom - top]


def as_centre(row: Sequence[float]) -> list[float]:
    left, top, right, bottom = row
    return [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]


def read_as_centre(row: Sequence[float]) -> list[float]:
    """What the reader of YOLO labels makes of four numbers."""
    x, y, width, height = row
    return [x - width / 2, y - height / 2, width, height]


def test_sound_labels_are_left_in_peace(corners: list[list[float]]) -> None:
    for source in ("coco:here", "yolo:here train"):
        sound = labelled([as_size(row) for row in corners], source=source)
        assert diagnosis.of_labels(sound, which="training") == []


@pytest.mark.parametrize(
    ("source", "written", "named"),
    [
        ("coco:here", lambda row: row, "[left, top, right, bottom]"),
        ("coco:here", as_centre, "[centre x, centre y, width, height]"),
        ("yolo:here", lambda row: read_as_centre(row), "[left, top, right, bottom]"),
        ("yolo:here", lambda row: read_as_centre(as_size(row)), "[left, top, width, height]"),
    ],
)
def test_boxes_in_another_format_are_named(
    corners: list[list[float]],
    source: str,
    written: Callable[[Sequence[float]], list[float]],
    named: str,
) -> None:
    wrong = labelled([written(row) for row in corners], source=source)
    (finding,) = diagnosis.of_labels(wrong, which="training")
    assert finding.code == "box-format"
    assert finding.fatal
    assert f"numbers are {named}" in finding.cause
    assert "leave their images" in finding.seen


def test_fractions_where_pixels_are_meant_are_named(corners: list[list[float]]) -> None:
    scale = np.array([*SIZE, *SIZE])
    wrong = labelled([(np.array(as_size(row)) / scale).tolist() for row in corners])
    (finding,) = diagnosis.of_labels(wrong, which="validation")
    assert (finding.code, finding.fatal) == ("box-format", True)
    assert "fractions of the image" in finding.cause


def test_boxes_of_other_pictures_are_named_without_a_format(corners: list[list[float]]) -> None:
    wrong = labelled([[3 * value for value in as_size(row)] for row in corners])
    (finding,) = diagnosis.of_labels(wrong, which="training")
    assert "images of other sizes" in finding.cause


def test_numbers_that_start_at_one_are_named(corners: list[list[float]]) -> None:
    boxes = [as_size(row) for row in corners]
    shifted = labelled(boxes, [1 + i % 3 for i in range(len(boxes))])
    (finding,) = diagnosis.of_labels(shifted, which="training")
    assert finding.code == "labels-off-by-one"
    assert "numbers that start at 1" in finding.cause
    assert not finding.fatal  # a class without objects may be meant


def seen(dataset: LabelledSet, classes: Sequence[int], *, moved: float = 0.0) -> Validation:
    """A model that finds every object, under these classes, so many pixels away."""
    count = len(dataset.truth)
    found = Predictions(
        np.arange(count), np.array(classes, np.int64),
        dataset.truth.xywh + np.array([moved, 0, 0, 0]), np.full(count, 0.9),
    )  # fmt: skip
    matches, scores = score(dataset, found)
    return Validation(scores, matches, found)


@pytest.mark.parametrize("off", [1, -1])
def test_a_base_model_that_knows_the_classes_sees_labels_off_by_one(
    corners: list[list[float]], off: int
) -> None:
    real = [i % 2 + (0 if off > 0 else 2) for i in range(len(corners))]
    dataset = labelled([as_size(row) for row in corners], real)
    finding = diagnosis.of_known_classes(dataset, seen(dataset, [kind + off for kind in real]))
    assert finding is not None
    assert finding.code == "labels-off-by-one"
    assert finding.fatal
    assert diagnosis.of_known_classes(dataset, seen(dataset, real)) is None


def rows(*losses: float) -> list[StepRecord]:
    return [StepRecord(i + 1, 1, loss, 1e-4) for i, loss in enumerate(losses)]


def with_rate(rate: float, **changes: object) -> Recipe:
    optimiser = msgspec.structs.replace(RECIPE.optimiser, learning_rate=rate)
    return msgspec.structs.replace(RECIPE, optimiser=optimiser, **changes)


def test_everything_frozen_is_named() -> None:
    finding = diagnosis.of_parameters([("a.weight", 10, False)], ("head",), new_head=False)
    assert finding is not None
    assert (finding.code, finding.fatal) == ("everything-frozen", True)
    assert "0 of 10 weights" in finding.seen
    some = [("a.weight", 10, True), ("head.weight", 5, False)]
    assert diagnosis.of_parameters(some, ("head",), new_head=False) is None


def test_a_new_head_that_is_frozen_is_named() -> None:
    some = [("a.weight", 10, True), ("head.weight", 5, False)]
    finding = diagnosis.of_parameters(some, ("head",), new_head=True)
    assert finding is not None
    assert "new and frozen" in finding.seen


@pytest.mark.parametrize(
    ("recipe", "losses", "cause"),
    [
        (with_rate(0.01), (3.0, 9.0, math.nan), "100 times the published 0.0001"),
        (with_rate(1e-4, precision="f16"), (3.0, math.inf), "half precision overflows"),
        (RECIPE, (math.nan,), "the base's weights"),
        (RECIPE, (3.0, 2.9, math.nan), "a step was too large"),
    ],
)
def test_a_loss_that_is_no_number_is_named(
    recipe: Recipe, losses: tuple[float, ...], cause: str
) -> None:
    finding = diagnosis.of_loss(recipe, "rt_detr", rows(*losses))
    assert finding is not None
    assert finding.code == "loss-not-a-number"
    assert cause in finding.cause
    assert f"at step {len(losses)}" in finding.seen


def test_a_loss_that_explodes_or_rises_means_a_learning_rate_too_high() -> None:
    exploded = diagnosis.of_loss(with_rate(0.01), "rt_detr", rows(*[3.0] * 5, *[90.0] * 5))
    short = with_rate(0.01, diagnosis=Diagnosis(rising_steps=5))
    rising = diagnosis.of_loss(short, "rt_detr", rows(*[3.0] * 5, *[2.0] * 5, *[4.0] * 5))
    for finding in (exploded, rising):
        assert finding is not None
        assert finding.code == "learning-rate-too-high"
        assert "100 times the published" in finding.cause
        assert "learning_rate = 0.0001" in finding.hint


def test_a_loss_that_falls_or_swings_is_left_in_peace() -> None:
    short = msgspec.structs.replace(RECIPE, diagnosis=Diagnosis(rising_steps=5))
    falling = rows(*(10.0 / (1 + i / 5) for i in range(30)))
    swinging = rows(*(3.0 + (i % 5) / 2 for i in range(30)))
    for steps in (falling, swinging):
        assert all(
            diagnosis.of_loss(short, "rt_detr", steps[: i + 1]) is None for i in range(len(steps))
        )


def blind(
    dataset: LabelledSet,
    found: Validation,
    *,
    recipe: Recipe = RECIPE,
    losses: Sequence[float] = (3.0, 2.9, 2.9, 2.9, 2.9),
    step: int = 500,
) -> diagnosis.Symptom | None:
    return diagnosis.of_validation(
        recipe,
        "rt_detr",
        dataset,
        found,
        epochs_ap50=[0.0] * len(losses),
        losses=losses,
        step=step,
    )


def test_an_map_of_zero_is_named_with_what_speaks_for_its_cause(
    corners: list[list[float]],
) -> None:
    dataset = labelled([as_size(row) for row in corners])
    far = seen(dataset, dataset.truth.category.tolist(), moved=500)
    swapped = seen(dataset, [3 - kind for kind in dataset.truth.category.tolist()])
    slow = with_rate(1e-6)
    waiting = msgspec.structs.replace(RECIPE, schedule=Schedule(warmup_steps=2000))
    for finding, cause in (
        (blind(dataset, swapped), "under wrong names"),
        (blind(dataset, far, recipe=waiting), "warmup_steps is 2000"),
        (blind(dataset, far, losses=(9.0, 5.0, 3.0, 2.0, 1.0)), "the training set is learned"),
        (blind(dataset, far, recipe=slow), "too low"),
        (blind(dataset, far, recipe=with_rate(0.01)), "too high"),
        (blind(dataset, far), "has not learned yet"),
    ):
        assert finding is not None
        assert finding.code == "blind"
        assert finding.fatal
        assert cause in finding.cause
    assert blind(dataset, far, losses=(3.0, 2.9)) is None  # too early to tell


def test_one_object_under_a_wrong_name_is_all_of_the_objects() -> None:
    dataset = labelled([[10, 10, 40, 40]], [1])
    finding = blind(dataset, seen(dataset, [3]))
    assert finding is not None
    assert finding.cause.startswith("100% of the objects")


def test_a_warm_up_that_has_ended_is_no_cause(corners: list[list[float]]) -> None:
    dataset = labelled([as_size(row) for row in corners])
    far = seen(dataset, dataset.truth.category.tolist(), moved=500)
    recipe = msgspec.structs.replace(RECIPE, schedule=Schedule(warmup_steps=500))
    for step, cause in ((499, "warmup_steps is 500"), (500, "has not learned yet")):
        finding = blind(dataset, far, recipe=recipe, step=step)
        assert finding is not None
        assert cause in finding.cause


def test_a_detector_that_found_something_once_is_not_blind(corners: list[list[float]]) -> None:
    dataset = labelled([as_size(row) for row in corners])
    far = seen(dataset, dataset.truth.category.tolist(), moved=500)

    def judged(*ap50: float) -> diagnosis.Symptom | None:
        return diagnosis.of_validation(
            RECIPE, "rt_detr", dataset, far, epochs_ap50=ap50, losses=[2.0] * len(ap50), step=500
        )

    epochs = RECIPE.diagnosis.blind_epochs
    assert judged(*[0.0] * (epochs - 1)) is None
    finding = judged(*[diagnosis.BLIND / 2] * epochs)
    assert finding is not None
    assert (finding.code, finding.step) == ("blind", 500)
    assert judged(diagnosis.BLIND, *[0.0] * epochs) is None


def test_sets_that_are_numbered_differently_are_named(corners: list[list[float]]) -> None:
    real = [i % 3 for i in range(len(corners))]
    dataset = labelled([as_size(row) for row in corners], real)
    finding = diagnosis.of_validation(
        RECIPE,
        "rt_detr",
        dataset,
        seen(dataset, [kind + 1 for kind in real]),
        epochs_ap50=[0.0],
        losses=[2.0],
        step=100,
    )
    assert finding is not None
    assert finding.code == "labels-off-by-one"
    assert "training and of the validation set" in finding.cause


def test_the_automatic_optimiser_is_not_blamed_for_a_rate_it_did_not_take() -> None:
    auto = msgspec.structs.replace(RECIPE, optimiser=Optimiser(kind="auto", learning_rate=0.01))
    finding = diagnosis.of_loss(auto, "yolo", rows(*[3.0] * 5, *[90.0] * 5))
    assert finding is not None
    assert "published" not in finding.cause
