"""Training through Ultralytics: our order, our mAP, our checkpoints around its own loop."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seatrial.train.after_step import best_folder
from seatrial.train.journal import read_epochs, read_steps
from seatrial.train.plan import Data, TrainingPlan, read_sets, scratch_base, settle
from seatrial.train.read_recipe import read_recipe
from seatrial.train.recipe import Compute, Optimiser, Recipe

pytestmark = pytest.mark.filterwarnings("ignore")

BRIEF = """
epochs = 3
batch = 8
image_size = 64
[augmentation]
mosaic = 0.5
plain_epochs = 1
[compute]
threads = 1
[diagnosis]
action = "warn"
"""


@pytest.fixture
def yolo_plan(ultralytics: Any, cells: str, tmp_path: Path) -> Callable[..., TrainingPlan]:
    """Settles a plan for YOLO11n with random weights."""

    def make(recipe: str = BRIEF) -> TrainingPlan:
        file = tmp_path / "recipe.toml"
        file.write_text(recipe)
        base = scratch_base("yolo11n", "ultralytics")
        return settle(
            "ultralytics", base, Data(cells), read_recipe(file, "yolo"), read_sets(cells, None)
        )

    return make


@pytest.fixture
def offline(tmp_path: Path) -> dict[str, str]:
    return {
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        "YOLO_CONFIG_DIR": str(tmp_path),
    }


def arguments(plan: TrainingPlan, **changes: object) -> dict[str, Any]:
    from seatrial.train.ultralytics_inputs import arguments as of

    recipe: Recipe = msgspec.structs.replace(plan.recipe, **changes)
    return of(msgspec.structs.replace(plan, recipe=recipe), Path("run"))


def test_a_killed_run_goes_on_to_the_same_result(
    trainings: Any,
    yolo_plan: Callable[..., TrainingPlan],
    start: Callable[..., Path],
    offline: dict[str, str],
) -> None:
    whole, killed = start(yolo_plan()), start(yolo_plan())
    assert trainings.train(whole, environment=offline) == 0
    assert trainings.train(killed, environment=offline, die=("step", 4)) == -signal.SIGKILL
    assert len(read_epochs(killed)) == 1
    assert trainings.train(killed, environment=offline) == 0
    assert read_steps(killed) == read_steps(whole)
    pairs = zip(read_epochs(killed), read_epochs(whole), strict=True)
    assert all((a.loss, a.ap, a.ap50) == (b.loss, b.ap, b.ap50) for a, b in pairs)
    folders = [best_folder(run) for run in (whole, killed)]
    assert all(folder is not None for folder in folders)
    states = [weights(folder) for folder in folders if folder is not None]
    assert all(bool((states[0][name] == states[1][name]).all()) for name in states[0])


def weights(folder: Path) -> dict[str, Any]:
    from seatrial.models.import_checkpoint import load_ultralytics

    found: dict[str, Any] = load_ultralytics(folder / "model.pt").model.state_dict()
    return found


def test_the_recipe_is_said_in_its_words(yolo_plan: Callable[..., TrainingPlan]) -> None:
    plan = yolo_plan()
    said = arguments(plan)
    assert (said["batch"], said["nbs"]) == (8, 8)  # a step after each batch
    assert (said["mosaic"], said["close_mosaic"], said["fliplr"]) == (0.5, 1, 0.5)
    assert (said["optimizer"], said["patience"], said["amp"]) == ("auto", 0, False)
    assert said["device"] == "cpu"


def test_threads_and_loaders_are_those_of_the_recipe(
    yolo_plan: Callable[..., TrainingPlan], cells: str, tmp_path: Path
) -> None:
    import torch

    from seatrial.train.ultralytics_trainer import RunContext, UltralyticsTrainer

    before = torch.get_num_threads()
    plan = yolo_plan(BRIEF.replace("threads = 1", "threads = 3\nworkers = 2"))
    torch.set_num_threads(3)  # as a process that trains does before
    try:
        trainer = UltralyticsTrainer(RunContext(plan, tmp_path, read_sets(cells, None)))
        assert torch.get_num_threads() == 3
        assert trainer.args.workers == 2
    finally:
        torch.set_num_threads(before)


def test_a_batch_that_does_not_fit_is_not_halved_without_a_word(
    yolo_plan: Callable[..., TrainingPlan], cells: str, tmp_path: Path
) -> None:
    from seatrial.errors import OutOfMemory
    from seatrial.train.ultralytics_trainer import RunContext, UltralyticsTrainer

    trainer = UltralyticsTrainer(RunContext(yolo_plan(), tmp_path, read_sets(cells, None)))
    trainer._setup_train()
    with pytest.raises(OutOfMemory, match="a batch of 8"):
        trainer._build_train_pipeline()  # what Ultralytics calls once more with half the batch


def test_a_batch_in_parts_is_still_one_step(yolo_plan: Callable[..., TrainingPlan]) -> None:
    said = arguments(yolo_plan(), accumulate=4)
    assert (said["batch"], said["nbs"]) == (2, 8)


@pytest.mark.parametrize(("kind", "bias"), [("adamw", 0.0), ("sgd", 0.1)])
def test_biases_warm_up_from_high_with_sgd_alone(
    yolo_plan: Callable[..., TrainingPlan], kind: str, bias: float
) -> None:
    said = arguments(yolo_plan(), optimiser=Optimiser(kind=kind))  # type: ignore[arg-type]
    assert said["warmup_bias_lr"] == bias


def test_several_gpus_share_a_batch(yolo_plan: Callable[..., TrainingPlan]) -> None:
    said = arguments(yolo_plan(), compute=Compute(device="cuda", processes=2))
    assert (said["device"], said["batch"]) == ("0,1", 8)  # it divides the batch by itself


def test_everything_frozen_ends_it(
    trainings: Any,
    yolo_plan: Callable[..., TrainingPlan],
    start: Callable[..., Path],
    offline: dict[str, str],
) -> None:
    from seatrial.errors import TrainingFailed
    from seatrial.train.worker import read_failure

    frozen = BRIEF.replace("epochs = 3", 'epochs = 3\nfreeze = ["model"]')
    run = start(yolo_plan(frozen.replace('"warn"', '"stop"')))
    assert trainings.train(run, environment=offline) == 1
    failure = read_failure(run)
    assert failure is not None
    assert isinstance(failure.error(), TrainingFailed)
    assert "weights are trained" in failure.message


def test_half_precision_trains_and_nobody_is_told(
    trainings: Any,
    yolo_plan: Callable[..., TrainingPlan],
    start: Callable[..., Path],
    offline: dict[str, str],
) -> None:
    """bfloat16 on a CPU, pictures from a process of their own; MLflow is there, and not used."""
    half = BRIEF.replace("epochs = 3", 'epochs = 1\nprecision = "bf16"')
    run = start(yolo_plan(half.replace("threads = 1", "threads = 1\nworkers = 1")))
    told = {"MLFLOW_TRACKING_URI": f"sqlite:///{run / 'told.db'}"}
    assert trainings.train(run, environment={**offline, **told}) == 0
    assert len(read_steps(run)) == 3
    assert not (run / "told.db").exists()
