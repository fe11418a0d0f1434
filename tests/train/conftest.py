"""Runs that several tests compare others with."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seatrial.train.journal import read_epochs
from seatrial.train.plan import Data, TrainingPlan, read_sets, scratch_base, settle
from seatrial.train.read_recipe import read_recipe
from training_runs import YOLO, brief, curve, losses, weights


@pytest.fixture(scope="session")
def whole(
    trainings: Any, settle_plan: Callable[..., TrainingPlan], start: Callable[..., Path]
) -> Callable[[str, int], Path]:
    """(Trainer, epochs) -> folder of a run that nobody interrupted."""
    found: dict[tuple[str, int], Path] = {}

    def of(trainer: str, epochs: int) -> Path:
        if (trainer, epochs) not in found:
            run = start(settle_plan(trainer, "rt_detr", brief(epochs)))
            assert trainings.train(run) == 0
            found[trainer, epochs] = run
        return found[trainer, epochs]

    return of


@pytest.fixture
def killed_and_resumed(
    trainings: Any,
    whole: Callable[[str, int], Path],
    settle_plan: Callable[..., TrainingPlan],
    start: Callable[..., Path],
) -> Callable[..., Path]:
    """Kills a run of two epochs at a point, checks it, resumes it, compares with a whole run."""

    def check(
        trainer: str, die: tuple[str, int], at_death: Callable[[Path], None] | None = None
    ) -> Path:
        run = start(settle_plan(trainer, "rt_detr", brief(2)))
        assert trainings.train(run, die=die) == -signal.SIGKILL
        if die[0] == "step":
            assert len(read_epochs(run)) == 1
        if at_death is not None:
            at_death(run)
        assert trainings.train(run) == 0
        untouched = whole(trainer, 2)
        assert losses(run) == losses(untouched)
        assert curve(run) == curve(untouched)
        ours, theirs = weights(run), weights(untouched)
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
        return run

    return check


@pytest.fixture
def yolo_plan(ultralytics: Any, cells: str, tmp_path: Path) -> Callable[..., TrainingPlan]:
    """Settles a plan for YOLO11n with random weights."""

    def make(recipe: str = YOLO) -> TrainingPlan:
        file = tmp_path / "recipe.toml"
        file.write_text(recipe)
        base = scratch_base("yolo11n", "ultralytics")
        return settle(
            "ultralytics", base, Data(cells), read_recipe(file, "yolo"), read_sets(cells, None)
        )

    return make
