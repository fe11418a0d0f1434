"""Inputs of Ultralytics' trainer: the recipe as its arguments, the set in its form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from seatrial.train.plan import TrainingPlan, read_sets
from seatrial.train.recipe import Augmentation, Compute, Optimiser, Recipe, Schedule
from seatrial.train.sampler import Draw

pytestmark = pytest.mark.filterwarnings("ignore")


def arguments(plan: TrainingPlan, **changes: object) -> dict[str, Any]:
    from seatrial.train.ultralytics_inputs import arguments as of

    recipe: Recipe = msgspec.structs.replace(plan.recipe, **changes)
    return of(msgspec.structs.replace(plan, recipe=recipe), Path("run"))


def test_the_recipe_is_told_as_arguments(yolo_plan: Callable[..., TrainingPlan]) -> None:
    found = arguments(yolo_plan(), epochs=3)
    assert (found["batch"], found["nbs"]) == (8, 8)  # a step after each batch
    assert (found["mosaic"], found["close_mosaic"], found["fliplr"]) == (0.5, 1, 0.5)
    assert (found["optimizer"], found["patience"], found["amp"]) == ("auto", 0, False)
    assert (found["device"], found["imgsz"], found["epochs"]) == ("cpu", 32, 3)
    assert (found["lr0"], found["lrf"], found["cos_lr"]) == (0.01, 0.01, False)
    assert found["multi_scale"] == 0.0


def test_a_batch_in_parts_is_still_one_step(yolo_plan: Callable[..., TrainingPlan]) -> None:
    found = arguments(yolo_plan(), accumulate=4)
    assert (found["batch"], found["nbs"]) == (2, 8)


def test_schedule_precision_and_scale_are_told(yolo_plan: Callable[..., TrainingPlan]) -> None:
    found = arguments(
        yolo_plan(),
        schedule=Schedule("cosine", final=0.2, warmup_steps=3, warmup_epochs=0.5),
        augmentation=Augmentation(multi_scale=(0.75, 1.25), plain_epochs=99),
        precision="bf16",
    )
    assert (found["cos_lr"], found["lrf"], found["amp"]) == (True, 0.2, "bf16")
    assert found["warmup_epochs"] == 3.0  # of one step an epoch each
    assert found["multi_scale"] == 0.25
    assert found["close_mosaic"] == 2  # no more than there are epochs


@pytest.mark.parametrize(("kind", "bias"), [("adamw", 0.0), ("sgd", 0.1), ("musgd", 0.1)])
def test_biases_warm_up_from_high_with_sgd_alone(
    yolo_plan: Callable[..., TrainingPlan], kind: str, bias: float
) -> None:
    found = arguments(yolo_plan(), optimiser=Optimiser(kind=kind))  # type: ignore[arg-type]
    assert found["warmup_bias_lr"] == bias


def test_several_gpus_share_a_batch(yolo_plan: Callable[..., TrainingPlan]) -> None:
    found = arguments(yolo_plan(), compute=Compute(device="cuda", processes=2))
    assert (found["device"], found["batch"]) == ("0,1", 8)  # it divides the batch by itself


@pytest.fixture
def images(yolo_plan: Callable[..., TrainingPlan], cells: str, tmp_path: Path) -> Any:
    from seatrial.train.ultralytics_trainer import RunContext, UltralyticsTrainer

    trainer = UltralyticsTrainer(RunContext(yolo_plan(), tmp_path, read_sets(cells, None)))
    trainer.data = trainer.get_dataset()
    return trainer.build_dataset("train", "train", 8)


def test_labels_are_those_of_the_set_and_equal_draws_give_equal_images(
    images: Any, cells: str
) -> None:
    labels = images.get_labels()
    assert len(labels) == len(images.get_img_files("")) == 24
    assert labels[0]["shape"] == (96, 96)
    assert labels[0]["cls"].shape == (len(labels[0]["bboxes"]), 1)
    truth = read_sets(cells, None)[0].truth
    assert sum(len(one["bboxes"]) for one in labels) == len(truth)
    first, again, other = (
        images[draw] for draw in (Draw(0, 3, 1.0), Draw(0, 3, 1.0), Draw(1, 3, 1.0))
    )
    assert np.array_equal(first["img"], again["img"])
    assert not np.array_equal(first["img"], other["img"])
    assert not list(Path(cells.removeprefix("yolo:")).rglob("*.cache"))
