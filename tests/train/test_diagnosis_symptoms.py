"""Faults of a training are named with their likely cause; a sound one is left in peace."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import pytest

from labelled_boxes import as_size, labelled, seen
from seatrial.datasets.labels import LabelledSet
from seatrial.train import diagnosis
from seatrial.train.journal import StepRecord
from seatrial.train.read_recipe import read_recipe
from seatrial.train.recipe import Diagnosis, Optimiser, Recipe, Schedule
from seatrial.train.validation import Validation

RECIPE = read_recipe(None, "rt_detr")


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
