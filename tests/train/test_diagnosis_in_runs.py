"""Trainings that go wrong, in processes of their own: each ends early and says its likely cause."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seatrial.train.after_step import read_symptoms
from seatrial.train.diagnosis import Symptom
from seatrial.train.journal import read_epochs, read_steps
from seatrial.train.plan import TrainingPlan
from seatrial.train.worker import read_failure
from training_runs import UNCHANGED

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]

RECIPE = (
    """
epochs = {epochs}
batch = {batch}
image_size = 64
precision = "f32"
freeze = {freeze}
[optimiser]
learning_rate = {rate}
backbone_learning_rate = {rate}
clip_norm = {clip_norm}
[schedule]
warmup_steps = 0
[ema]
decay = 0.8
warmup_steps = 0
[compute]
threads = 1
[diagnosis]
blind_epochs = 3
rising_steps = 6
"""
    + UNCHANGED
)


def recipe(**changes: Any) -> str:
    usual = {"epochs": 30, "batch": 8, "freeze": [], "rate": 1e-3, "clip_norm": 0.1}
    return RECIPE.format(**{**usual, **changes})


@pytest.fixture
def ending(
    trainings: Any, settle_plan: Callable[..., TrainingPlan], start: Callable[..., Path]
) -> Callable[..., tuple[Path, Symptom, str]]:
    """Trains until it ends: the run's folder, what was found in it, and what is said."""

    def train(trainer: str, kind: str, text: str, **where: str) -> tuple[Path, Symptom, str]:
        run = start(settle_plan(trainer, kind, text, **where))
        assert trainings.train(run) == 1
        failure = read_failure(run)
        assert failure is not None
        assert failure.kind == "TrainingFailed", failure.message
        return run, read_symptoms(run)[-1], f"{failure.message}; {failure.hint}"

    return train


Ending = Callable[..., tuple[Path, Symptom, str]]


@pytest.mark.parametrize("trainer", ["transformers", "lightning"])
def test_a_loss_that_is_no_number(ending: Ending, trainer: str) -> None:
    run, finding, said = ending(trainer, "rt_detr", recipe(rate=1e18, clip_norm=0.0))
    assert finding.code == "loss-not-a-number"
    assert len(read_steps(run)) < 10
    assert "the learning rate is too high" in said
    assert "optimiser.learning_rate = 0.0001" in said


def test_a_loss_that_explodes(ending: Ending) -> None:
    text = recipe(rate=0.5, clip_norm=0.0).replace("blind_epochs = 3", "blind_epochs = 30")
    text = text.replace("[optimiser]", '[optimiser]\nkind = "sgd"')
    run, finding, said = ending("lightning", "detr", text)
    assert finding.code == "learning-rate-too-high"
    assert len(read_steps(run)) < 30
    assert "5e+03 times the published 0.0001" in said


def test_an_map_of_zero_where_the_learning_rate_is_too_high(ending: Ending) -> None:
    run, finding, said = ending("transformers", "d_fine", recipe(rate=0.3, clip_norm=0.0))
    assert finding.code == "blind"
    assert len(read_epochs(run)) == 3
    assert "the learning rate is too high" in said


def test_an_map_of_zero(ending: Ending) -> None:
    run, finding, said = ending("transformers", "detr", recipe(rate=1e-9))
    assert finding.code == "blind"
    assert len(read_epochs(run)) == 3
    assert "mAP is 0 after 3 epochs" in said
    assert "the learning rate is too low" in said


DETR = '["model", "class_labels_classifier", "bbox_predictor"]'


@pytest.mark.parametrize(
    ("trainer", "kind", "all_parts"),
    [("transformers", "d_fine", '["model"]'), ("lightning", "detr", DETR)],
)
def test_everything_frozen(ending: Ending, trainer: str, kind: str, all_parts: str) -> None:
    run, finding, said = ending(trainer, kind, recipe(freeze=all_parts))
    assert finding.code == "everything-frozen"
    assert read_steps(run) == []
    assert "leave the head out" in said


def test_class_numbers_of_the_sets_that_are_off_by_one(
    ending: Ending, few: str, tmp_path: Path
) -> None:
    shifted = tmp_path / "shifted"
    shutil.copytree(few.removeprefix("yolo:"), shifted)
    for file in (shifted / "labels" / "val").iterdir():
        rows = [line.split() for line in file.read_text().splitlines()]
        kept = [[str(int(kind) + 1), *box] for kind, *box in rows if int(kind) < 2]
        file.write_text("".join(f"{' '.join(row)}\n" for row in kept))
    text = recipe(rate=4e-3, batch=4).replace("blind_epochs = 3", "blind_epochs = 30")
    run, finding, said = ending("lightning", "rt_detr", text, data=f"yolo:{shifted}")
    assert finding.code == "labels-off-by-one"
    assert len(read_epochs(run)) < 30
    assert "off by one against each other" in said
