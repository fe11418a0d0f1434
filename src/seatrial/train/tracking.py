"""Figures of a run in TensorBoard or MLflow, beside the run's own journal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec

from seatrial.errors import InvalidConfig
from seatrial.system.extras import require
from seatrial.train.plan import TrainingPlan

EXPERIMENT = "seatrial"


class FigureTracker(Protocol):
    """Shows the figures of a run while it trains."""

    def log(self, step: int, figures: dict[str, float]) -> None:
        """Show the figures of a step."""

    def close(self) -> None:
        """Write pending figures and end."""


def open_tracker(name: str, run: Path, plan: TrainingPlan) -> FigureTracker:
    """Open a tracker by name.

    Args:
        name: Key of `TRACKERS`.
        run: Folder of the run; the tracker's files go into it.
        plan: TrainingPlan of the run; the tracker shows its recipe.

    Raises:
        InvalidConfig: The name is unknown.
        MissingExtra: Its package is not installed.
    """
    if name not in TRACKERS:
        raise InvalidConfig(f"unknown tracker {name!r}", hint=f"known: {', '.join(TRACKERS)}")
    return TRACKERS[name](run, plan)


class TensorBoard:
    """Event files in ``RUN/tensorboard``."""

    def __init__(self, run: Path, plan: TrainingPlan) -> None:
        require("tensorboard", extra="track", purpose="--track tensorboard")
        writer = require("torch.utils.tensorboard", extra="track", purpose="--track tensorboard")
        self._writer = writer.SummaryWriter(str(run / "tensorboard"))
        self._writer.add_text("recipe", f"```\n{plan.recipe.to_toml()}\n```")

    def log(self, step: int, figures: dict[str, float]) -> None:
        """See `FigureTracker.log`."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """See `FigureTracker.close`."""
        self._writer.close()


class MLflow:
    """A run of MLflow: on the server that MLFLOW_TRACKING_URI names, else in ``RUN/mlflow.db``.

    A run that resumes after a kill stays the same run in MLflow.
    """

    def __init__(self, run: Path, plan: TrainingPlan) -> None:
        self._mlflow: Any = require("mlflow", extra="track", purpose="--track mlflow")
        if not self._mlflow.environment_variables.MLFLOW_TRACKING_URI.get():
            # Without a database, MLflow would write plain files, which it refuses since version 3.
            self._mlflow.set_tracking_uri(f"sqlite:///{(run / 'mlflow.db').absolute()}")
        self._mlflow.set_experiment(EXPERIMENT)
        note = run / "mlflow-run"
        before = note.read_text() if note.is_file() else None
        started = self._mlflow.start_run(run_id=before, run_name=run.name)
        note.write_text(started.info.run_id)
        if before is None:
            self._mlflow.log_params(_flat(msgspec.to_builtins(plan.recipe)))

    def log(self, step: int, figures: dict[str, float]) -> None:
        """See `FigureTracker.log`."""
        self._mlflow.log_metrics(figures, step=step)

    def close(self) -> None:
        """See `FigureTracker.close`."""
        self._mlflow.end_run()


TRACKERS: dict[str, Callable[[Path, TrainingPlan], FigureTracker]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
}


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= (
            _flat(value, f"{prefix}{key}.")
            if isinstance(value, dict)
            else {f"{prefix}{key}": value}
        )
    return found
