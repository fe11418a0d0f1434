"""Training through Ultralytics: our order, our mAP, our checkpoints around its own loop."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seatrial.train.after_step import best_folder
from seatrial.train.journal import read_epochs, read_steps
from seatrial.train.plan import TrainingPlan, read_sets
from training_runs import YOLO

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]


@pytest.fixture
def offline(tmp_path: Path) -> dict[str, str]:
    return {
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        "YOLO_CONFIG_DIR": str(tmp_path),
    }


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


def test_threads_and_loaders_are_those_of_the_recipe(
    yolo_plan: Callable[..., TrainingPlan], cells: str, tmp_path: Path
) -> None:
    import torch

    from seatrial.train.ultralytics_trainer import RunContext, UltralyticsTrainer

    before = torch.get_num_threads()
    plan = yolo_plan(YOLO.replace("threads = 1", "threads = 3\nworkers = 2"))
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


def test_everything_frozen_ends_it(
    trainings: Any,
    yolo_plan: Callable[..., TrainingPlan],
    start: Callable[..., Path],
    offline: dict[str, str],
) -> None:
    from seatrial.errors import TrainingFailed
    from seatrial.train.worker import read_failure

    frozen = YOLO.replace("epochs = 2", 'epochs = 2\nfreeze = ["model"]')
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
    half = YOLO.replace("epochs = 2", 'epochs = 1\nprecision = "bf16"')
    run = start(yolo_plan(half.replace("threads = 1", "threads = 1\nworkers = 1")))
    told = {"MLFLOW_TRACKING_URI": f"sqlite:///{run / 'told.db'}"}
    assert trainings.train(run, environment={**offline, **told}) == 0
    assert len(read_steps(run)) == 3
    assert not (run / "told.db").exists()
