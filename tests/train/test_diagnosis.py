"""Each thing that goes wrong is named with its likely cause; what is right is left in peace."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
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


@pytest.mark.parametrize(
    ("reading", "wanted"),
    [
        (diagnosis.CENTRE, [20, 35, 40, 85]),
        (diagnosis.CORNER, [30, 60, 50, 110]),
        (diagnosis.CORNERS, [30, 60, 20, 50]),
    ],
)
def test_what_four_numbers_may_mean(reading: str, wanted: list[float]) -> None:
    numbers = np.array([[30.0, 60.0, 20.0, 50.0]])
    for _, readings in diagnosis.READINGS.values():
        if reading in readings:
            assert readings[reading](numbers, np.array([SIZE])).tolist() == [wanted]
    assert [meant for meant, _ in diagnosis.READINGS.values()] == [
        diagnosis.CORNER,
        diagnosis.CENTRE,
    ]


OVER = [150.0, 10.0, 60.0, 20.0]  # 10 pixels over the right border
ACROSS = [10.0, 10.0, 20.0, 10.0]


def findings(*rows: list[float]) -> list[diagnosis.Symptom]:
    return diagnosis.of_labels(labelled(rows, [0] * len(rows)), which="training")


def test_fewer_than_three_boxes_say_nothing() -> None:
    assert findings() == []
    tiny = [0.1, 0.1, 0.2, 0.2]
    for row in (OVER, tiny):
        assert findings(row, row) == []
        (finding,) = findings(row, row, row)
        assert (finding.code, finding.fatal) == ("box-format", True)
    assert findings(OVER, OVER, *[ACROSS] * 20) == []


def test_boxes_of_2_pixels_and_of_images_of_1_pixel_are_no_fractions() -> None:
    assert findings(*[[0.0, 0.0, 2.0, 2.0]] * 3) == []
    one = labelled([[0.0, 0.0, 1.0, 1.0]] * 3, [0] * 3)
    images = tuple(msgspec.structs.replace(image, width=1, height=1) for image in one.images)
    assert diagnosis.of_labels(replace(one, images=images), which="training") == []


def test_one_box_in_fifty_may_leave_its_image() -> None:
    assert findings(*[OVER] * 3, *[ACROSS] * 147) == []
    (finding,) = findings(*[OVER] * 3, *[ACROSS] * 146)
    assert finding.seen.startswith("3 of 149 boxes of the training set leave their images")
    assert finding.seen.endswith("the first in 0.png")


@pytest.mark.parametrize(
    ("row", "inside"),
    [
        ([-2, 10, 20, 20], True), ([-2.1, 10, 20, 20], False),
        ([182, 10, 20, 20], True), ([182.1, 10, 20, 20], False),
        ([10, -1, 20, 20], True), ([10, -1.1, 20, 20], False),
        ([10, 81, 20, 20], True), ([10, 81.1, 20, 20], False),
    ],
)  # fmt: skip
def test_a_hundredth_of_an_image_is_allowed_for_rounding(row: list[float], inside: bool) -> None:
    assert (findings(row, row, row) == []) == inside


def test_another_reading_must_fit_99_boxes_in_100(corners: list[list[float]]) -> None:
    near = [120.0, 60.0, 190.0, 95.0]  # as corners inside, as a size far outside
    beyond = [120.0, 60.0, 300.0, 95.0]
    for fitting, named in ((99, True), (98, False)):
        wrong = labelled([near] * fitting + [beyond] * (100 - fitting), [0] * 100)
        (finding,) = diagnosis.of_labels(wrong, which="training")
        assert (f"numbers are {diagnosis.CORNERS}" in finding.cause) == named
        assert finding.fatal
        assert "leave their images" in finding.seen


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
    label, sight = ("car", "bus") if off > 0 else ("van", "bus")
    assert f"sees {sight!r} in most objects that are labelled {label!r}" in finding.seen
    assert f"({-off:+d})" in finding.cause
    assert finding.hint.startswith("add 1 to" if off > 0 else "subtract 1 from")
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


def test_a_frozen_weight_of_any_part_of_the_head_is_counted() -> None:
    some = [("a.weight", 10, True), ("cls.weight", 5, False), ("score.bias", 5, False)]
    finding = diagnosis.of_parameters(some, ("cls", "score"), new_head=True)
    assert finding is not None
    assert "(cls.weight and 1 more)" in finding.seen
    assert finding.fatal
    assert diagnosis.of_parameters(some, ("other",), new_head=True) is None


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


def test_the_hint_is_the_published_rate_or_a_fifth_of_a_rate_near_it() -> None:
    exploding = rows(*[3.0] * 5, *[90.0] * 5)
    auto = msgspec.structs.replace(RECIPE, optimiser=Optimiser(kind="auto", learning_rate=0.01))
    for recipe, rate in (
        (with_rate(1e-4), "2e-05"),
        (with_rate(1.5e-4), "3e-05"),
        (with_rate(1.6e-4), "0.0001"),
        (auto, "0.002"),  # its own rate is not known
    ):
        finding = diagnosis.of_loss(recipe, "rt_detr", exploding)
        assert finding is not None
        assert finding.hint == f"optimiser.learning_rate = {rate}, or a longer warm-up"
        assert (finding.fatal, finding.step) == (True, 10)


def test_one_large_loss_is_no_explosion() -> None:
    spike = rows(*[3.0] * 9, 90.0)
    assert diagnosis.of_loss(RECIPE, "rt_detr", spike) is None
    assert diagnosis.of_loss(RECIPE, "rt_detr", rows(*[3.0] * 4, *[90.0] * 5)) is None
    assert diagnosis.of_loss(RECIPE, "rt_detr", rows(*[3.0] * 5, *[60.0] * 5)) is None
    assert diagnosis.of_loss(RECIPE, "rt_detr", rows(*[3.0] * 5, *[60.1] * 5)) is not None


@pytest.mark.parametrize(
    ("means", "rises"),
    [
        ((3.0, 3.0, 3.5), False), ((3.0, 3.0, 3.91), True),
        ((5.0, 3.0, 4.5), False),  # above the lowest, below the first
        ((5.0, 3.0, 5.5), True),
    ],
)  # fmt: skip
def test_a_rise_is_above_the_lowest_by_a_third_and_above_the_first(
    means: tuple[float, ...], rises: bool
) -> None:
    recipe = msgspec.structs.replace(RECIPE, diagnosis=Diagnosis(rising_steps=5))
    steps = rows(*(mean for mean in means for _ in range(5)))
    assert (diagnosis.of_loss(recipe, "rt_detr", steps) is not None) == rises
    assert diagnosis.of_loss(recipe, "rt_detr", steps[1:]) is None  # not a whole window


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


def test_names_are_suspected_where_three_objects_in_ten_are_placed(
    corners: list[list[float]],
) -> None:
    dataset = labelled([as_size(row) for row in corners])
    turned = [3 - kind for kind in dataset.truth.category.tolist()]
    for placed, suspected in ((12, False), (13, True)):  # of 40
        some = seen(dataset, turned)
        some.predictions.xywh[placed:, 0] += 500
        finding = blind(dataset, some)
        assert finding is not None
        assert ("under wrong names" in finding.cause) == suspected
    for classes, suspected in ((1, False), (2, True)):
        few = labelled([as_size(row) for row in corners], [i % classes for i in range(40)])
        few = replace(few, categories=few.categories[:classes])
        finding = blind(few, seen(few, [classes - 1 - i % classes for i in range(40)]))
        assert finding is not None
        assert ("under wrong names" in finding.cause) == suspected


def test_a_loss_of_less_than_half_says_that_the_training_set_is_learned(
    corners: list[list[float]],
) -> None:
    dataset = labelled([as_size(row) for row in corners])
    far = seen(dataset, dataset.truth.category.tolist(), moved=500)
    short = msgspec.structs.replace(RECIPE, diagnosis=Diagnosis(blind_epochs=1))
    for losses, learned in (((4.0, 1.9), True), ((4.0, 2.0), False), ((4.0,), False)):
        finding = blind(dataset, far, recipe=short, losses=losses)
        assert finding is not None
        assert ("the training set is learned" in finding.cause) == learned
        assert learned or finding.hint.endswith("diagnosis.blind_epochs = 4")


def test_a_warm_up_that_has_ended_is_no_cause(corners: list[list[float]]) -> None:
    dataset = labelled([as_size(row) for row in corners])
    far = seen(dataset, dataset.truth.category.tolist(), moved=500)
    recipe = msgspec.structs.replace(RECIPE, schedule=Schedule(warmup_steps=500))
    for step, cause in ((499, "warmup_steps is 500"), (500, "has not learned yet")):
        finding = blind(dataset, far, recipe=recipe, step=step)
        assert finding is not None
        assert cause in finding.cause
    early = blind(dataset, far, recipe=recipe, step=50)
    assert early is not None
    assert early.hint == "schedule.warmup_steps = 5 for a set of this size"


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
