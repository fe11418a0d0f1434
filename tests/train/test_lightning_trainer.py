"""Training through Lightning: kills, and the recipe as its settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seatrial.train.plan import TrainingPlan
from training_runs import STEPS_PER_EPOCH

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]


@pytest.fixture(scope="module")
def module(transformers: Any) -> Any:
    pytest.importorskip("lightning", reason="lightning is not installed: seatrial[train]")
    from seatrial.train import lightning_trainer

    return lightning_trainer


@pytest.mark.parametrize("die", [("step", STEPS_PER_EPOCH + 3), ("saving", 1), ("keeping", 0)])
def test_a_killed_run_resumes_to_the_same_result(
    die: tuple[str, int], killed_and_resumed: Callable[..., Path]
) -> None:
    run = killed_and_resumed("lightning", die)
    assert not list(run.glob(".best-*"))
    assert not list(run.glob(".part-*"))


@pytest.mark.parametrize(("precision", "wanted"), [("f32", "32-true"), ("bf16", "bf16-mixed")])
def test_the_recipe_is_told_as_settings(
    module: Any, settle_plan: Callable[..., TrainingPlan], precision: str, wanted: str
) -> None:
    text = f'epochs = 3\nbatch = 8\naccumulate = 2\nprecision = "{precision}"'
    trainer = module.lightning_trainer(settle_plan("lightning", "detr", text))
    assert trainer.precision == wanted
    assert (trainer.max_epochs, trainer.accumulate_grad_batches) == (3, 2)
    assert trainer.gradient_clip_val == 0.1
    assert trainer.num_devices == 1
    assert trainer.loggers == []


def test_a_clip_norm_of_zero_does_not_clip(
    module: Any, settle_plan: Callable[..., TrainingPlan]
) -> None:
    plan = settle_plan("lightning", "detr", "[optimiser]\nclip_norm = 0.0")
    assert module.lightning_trainer(plan).gradient_clip_val is None
