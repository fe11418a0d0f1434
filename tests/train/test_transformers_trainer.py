"""Training through transformers: kills, checkpoints, patience, the recipe as its arguments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seatrial.train.journal import read_epochs
from seatrial.train.plan import TrainingPlan
from training_runs import STEPS_PER_EPOCH, TRAINERS, brief

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]


@pytest.fixture(scope="module")
def module(transformers: Any) -> Any:
    pytest.importorskip("accelerate", reason="accelerate is not installed: seatrial[train]")
    from seatrial.train import transformers_trainer

    return transformers_trainer


def test_a_run_killed_between_checkpoints_resumes_to_the_same_result(
    killed_and_resumed: Callable[..., Path],
) -> None:
    killed_and_resumed("transformers", ("step", STEPS_PER_EPOCH + 2))


def test_a_run_killed_while_it_wrote_a_checkpoint_resumes_from_the_one_before(
    killed_and_resumed: Callable[..., Path], module: Any
) -> None:
    def torn(run: Path) -> None:
        whole = module.last_checkpoint(run)
        assert whole.name == f"checkpoint-{STEPS_PER_EPOCH}"
        others = {folder.name for folder in (run / module.STATES).iterdir() if folder != whole}
        assert others == {f"checkpoint-{2 * STEPS_PER_EPOCH}"}

    run = killed_and_resumed("transformers", ("saving", 1), torn)
    kept = {folder.name for folder in (run / module.STATES).glob("checkpoint-*")}
    assert kept == {f"checkpoint-{2 * STEPS_PER_EPOCH}"}


@pytest.mark.parametrize("trainer", TRAINERS)
def test_patience_ends_a_training(
    trainer: str,
    trainings: Any,
    settle_plan: Callable[..., TrainingPlan],
    start: Callable[..., Path],
) -> None:
    stuck = brief(9).replace("learning_rate = 1e-3", "learning_rate = 1e-12")
    run = start(settle_plan(trainer, "detr", f"patience = 1\n{stuck}"))
    assert trainings.train(run) == 0
    assert [row.epoch for row in read_epochs(run)] == [1, 2]


def test_the_newest_sealed_checkpoint_is_the_last_one(module: Any, tmp_path: Path) -> None:
    assert module.last_checkpoint(tmp_path) is None
    for number, sealed in ((9, True), (10, True), (12, False)):
        folder = tmp_path / module.STATES / f"checkpoint-{number}"
        folder.mkdir(parents=True)
        if sealed:
            (folder / module.SEAL).touch()
    assert module.last_checkpoint(tmp_path).name == "checkpoint-10"  # 10 comes after 9


def test_the_recipe_is_told_as_arguments(
    module: Any, settle_plan: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    plan = settle_plan("transformers", "detr", 'batch = 8\naccumulate = 2\nprecision = "bf16"')
    found = module.training_arguments(plan, tmp_path)
    assert (found.per_device_train_batch_size, found.gradient_accumulation_steps) == (4, 2)
    assert (found.bf16, found.fp16, found.use_cpu) == (True, False, True)
    assert found.max_grad_norm == plan.recipe.optimiser.clip_norm
    assert found.num_train_epochs == 300
    assert found.output_dir == str(tmp_path / "states")
    assert found.report_to == []
    plain = msgspec.structs.replace(
        plan, recipe=msgspec.structs.replace(plan.recipe, precision="f32", accumulate=1)
    )
    found = module.training_arguments(plain, tmp_path)
    assert (found.bf16, found.fp16, found.per_device_train_batch_size) == (False, False, 8)
