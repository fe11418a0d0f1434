"""What must be the same: both trainers, one process or two, a run that was killed and gone on with.

Small networks of the real architectures, trained by the real trainers in processes of their own.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seatrial.progress import silent
from seatrial.train.after_step import best_folder
from seatrial.train.journal import read_epochs, read_steps
from seatrial.train.launch import launch
from seatrial.train.plan import TrainingPlan

pytestmark = pytest.mark.filterwarnings("ignore")

BRIEF = """
epochs = {epochs}
batch = 8
[optimiser]
learning_rate = 1e-3
[schedule]
warmup_steps = 4
[ema]
decay = 0.9
warmup_steps = 4
[compute]
threads = 1
processes = {processes}
[diagnosis]
action = "warn"
"""
TRAINERS = ("transformers", "lightning")
Losses = dict[str, list[float]]


def brief(epochs: int, processes: int = 1) -> str:
    return BRIEF.format(epochs=epochs, processes=processes)


def losses(run: Path) -> list[float]:
    return [row.loss for row in read_steps(run)]


def rates(run: Path) -> list[float]:
    return [row.learning_rate for row in read_steps(run)]


def curve(run: Path) -> list[tuple[Any, ...]]:
    """All that an uninterrupted run and one that was gone on with must have alike."""
    return [(row.epoch, row.step, row.loss, row.ap, row.ap50) for row in read_epochs(run)]


def weights(run: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    folder = best_folder(run)
    assert folder is not None
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def whole(
    trainings: Any, settle_plan: Callable[..., TrainingPlan], start: Callable[..., Path]
) -> Any:
    """(Trainer, epochs) -> folder of a run that nobody interrupted, 3 steps an epoch."""
    found: dict[tuple[str, int], Path] = {}

    def of(trainer: str, epochs: int) -> Path:
        if (trainer, epochs) not in found:
            run = start(settle_plan(trainer, "rt_detr", brief(epochs)))
            assert trainings.train(run) == 0
            found[trainer, epochs] = run
        return found[trainer, epochs]

    return of


@pytest.mark.parametrize("kind", ["detr", "d_fine"])
def test_both_trainers_have_the_same_losses(
    kind: str, trainings: Any, settle_plan: Callable[..., TrainingPlan], start: Callable[..., Path]
) -> None:
    runs = [start(settle_plan(trainer, kind, brief(2))) for trainer in TRAINERS]
    assert [trainings.train(run) for run in runs] == [0, 0]
    assert len(losses(runs[0])) == 6
    assert losses(runs[0]) == pytest.approx(losses(runs[1]), abs=1e-3)
    assert rates(runs[0]) == rates(runs[1])
    assert curve(runs[0])[-1] == pytest.approx(curve(runs[1])[-1], abs=1e-3)


def test_both_trainers_have_the_same_losses_for_twenty_steps(whole: Any) -> None:
    first, second = (whole(trainer, 7) for trainer in TRAINERS)
    assert len(losses(first)) == 21
    assert losses(first) == pytest.approx(losses(second), abs=1e-3)
    assert rates(first) == rates(second)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_two_processes_have_the_losses_of_one_for_twenty_steps(
    trainer: str,
    whole: Any,
    support_path: dict[str, str],
    settle_plan: Callable[..., TrainingPlan],
    start: Callable[..., Path],
) -> None:
    plan = settle_plan(trainer, "rt_detr", brief(7, processes=2))
    run, alone = start(plan), whole(trainer, 7)
    launch(plan, run, {**os.environ, **support_path}, silent)
    assert len(losses(run)) == 21
    assert losses(run) == pytest.approx(losses(alone), abs=1e-3)
    assert rates(run) == rates(alone)
    assert curve(run)[-1] == pytest.approx(curve(alone)[-1], abs=1e-3)


@pytest.mark.parametrize(
    ("trainer", "die"),
    [
        ("transformers", ("step", 4)),
        ("transformers", ("saving", 1)),
        ("lightning", ("step", 7)),
        ("lightning", ("saving", 1)),
        ("lightning", ("keeping", 0)),
    ],
)
def test_a_killed_run_goes_on_to_the_same_result(
    trainer: str,
    die: tuple[str, int],
    trainings: Any,
    whole: Any,
    settle_plan: Callable[..., TrainingPlan],
    start: Callable[..., Path],
) -> None:
    run, untouched = start(settle_plan(trainer, "rt_detr", brief(3))), whole(trainer, 3)
    assert trainings.train(run, die=die) == -signal.SIGKILL
    assert len(read_epochs(run)) < 3
    if (trainer, *die) == ("transformers", "saving", 1):
        assert torn_checkpoints(run) == {"checkpoint-6"}
    assert trainings.train(run) == 0
    assert losses(run) == losses(untouched)
    assert curve(run) == curve(untouched)
    ours, theirs = weights(run), weights(untouched)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def torn_checkpoints(run: Path) -> set[str]:
    """Those that were being written when the run was killed."""
    from seatrial.train.transformers_trainer import STATES, last_checkpoint

    whole = last_checkpoint(run)
    return {folder.name for folder in (run / STATES).iterdir() if folder != whole}


OVERFIT = """
epochs = 28
batch = 4
[optimiser]
learning_rate = 4e-3
backbone_learning_rate = 4e-3
[schedule]
kind = "linear"
warmup_steps = 10
[ema]
decay = 0.8
warmup_steps = 0
[augmentation]
flip = 0.0
colour = 0.0
crop = 0.0
zoom_out = 0.0
multi_scale = [1.0, 1.0]
[compute]
threads = 1
[diagnosis]
action = "warn"
"""


@pytest.mark.parametrize("trainer", TRAINERS)
def test_sixteen_pictures_are_learned_by_heart(
    trainer: str,
    trainings: Any,
    few: str,
    settle_plan: Callable[..., TrainingPlan],
    start: Callable[..., Path],
) -> None:
    run = start(settle_plan(trainer, "rt_detr", OVERFIT, data=few))
    assert trainings.train(run) == 0
    assert max(row.ap50 for row in read_epochs(run)) >= 0.9


def test_patience_ends_a_training(
    trainings: Any, settle_plan: Callable[..., TrainingPlan], start: Callable[..., Path]
) -> None:
    stuck = brief(9).replace("learning_rate = 1e-3", "learning_rate = 1e-12")
    run = start(settle_plan("transformers", "rt_detr", f"patience = 2\n{stuck}"))
    assert trainings.train(run) == 0
    assert [row.epoch for row in read_epochs(run)] == [1, 2, 3]


def test_memory_that_does_not_suffice_is_said_so(
    trainings: Any, settle_plan: Callable[..., TrainingPlan], start: Callable[..., Path]
) -> None:
    from seatrial.errors import OutOfMemory
    from seatrial.train.worker import read_failure

    small = brief(1).replace("batch = 8", "batch = 24\nimage_size = 640")
    small = small.replace("threads = 1", f"threads = 1\nmemory_gib = {trainings.memory_gib + 0.5}")
    run = start(settle_plan("transformers", "rt_detr", small))
    assert trainings.train(run) == 1
    failure = read_failure(run)
    assert failure is not None
    assert isinstance(failure.error(), OutOfMemory)
    assert "24 images" in failure.message
