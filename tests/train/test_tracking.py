"""Figures of a run in TensorBoard and MLflow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from seatrial.errors import InvalidConfig
from seatrial.train.plan import Base, Data, TrainingPlan
from seatrial.train.read_recipe import read_recipe
from seatrial.train.tracking import open_tracker

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def plan() -> TrainingPlan:
    base = Base("base", "rt_detr", "nowhere")
    recipe = read_recipe(None, "rt_detr")
    return TrainingPlan("transformers", base, Data("coco:here"), recipe, ("a",), (0,), True)


def track(name: str, run: Path, plan: TrainingPlan, steps: range) -> None:
    tracker = open_tracker(name, run, plan)
    for step in steps:
        tracker.log(step, {"loss": 1.0 / step})
    tracker.close()


def test_tensorboard_has_every_step(tmp_path: Path, plan: TrainingPlan) -> None:
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="TensorBoard is not installed: seatrial[track]",
    )
    track("tensorboard", tmp_path, plan, range(1, 4))
    events = reader.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("loss")]
    assert found == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]


def test_a_run_that_goes_on_is_the_same_run_in_mlflow(
    tmp_path: Path, plan: TrainingPlan, local: Callable[[], None]
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed: seatrial[track]")
    pytest.importorskip("sqlalchemy", reason="MLflow's database is not installed")
    local()
    track("mlflow", tmp_path, plan, range(1, 3))
    track("mlflow", tmp_path, plan, range(3, 5))
    run = (tmp_path / "mlflow-run").read_text()
    found = mlflow.MlflowClient().get_metric_history(run, "loss")
    assert [metric.step for metric in found] == [1, 2, 3, 4]
    assert mlflow.MlflowClient().get_run(run).data.params["optimiser.kind"] == "adamw"


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_an_unknown_tracker_is_an_error(tmp_path: Path, plan: TrainingPlan) -> None:
    with pytest.raises(InvalidConfig, match="unknown tracker 'wandb'"):
        open_tracker("wandb", tmp_path, plan)
