"""Work of every trainer after a step and after an epoch: journal, diagnosis, best weights."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from seatrial.errors import TrainingFailed
from seatrial.progress import Progress, silent
from seatrial.report.numbers import duration, significant
from seatrial.system.files import PART, staged_folder
from seatrial.train import diagnosis
from seatrial.train.diagnosis import Symptom
from seatrial.train.journal import Epoch, Journal, StepRecord
from seatrial.train.plan import TrainingPlan
from seatrial.train.tracking import open_tracker
from seatrial.train.validation import Validator

FINDINGS = "findings.jsonl"
BEST = "best-"
EVERY_S = 10.0  # between two messages within an epoch


class EnoughSteps(Exception):
    """As many steps were taken as were asked for."""


class AfterStep:
    """The journal of a run, and what follows from it.

    Args:
        plan: TrainingPlan of the run.
        run: Folder of the run.
        validator: Measures networks on the validation set.
        rank: Rank of this process; only the first one writes.
        track: Name of a tracker, see `seatrial.train.tracking`.
        most_steps: Number of steps after which `EnoughSteps` is raised.
        on_progress: Takes messages; those of the first process.

    Attributes:
        journal: Steps and epochs so far.
        steps_per_epoch: Optimiser steps of an epoch; 0 where the trainer has not said yet.
    """

    def __init__(
        self,
        plan: TrainingPlan,
        run: Path,
        validator: Validator,
        *,
        rank: int = 0,
        track: str | None = None,
        most_steps: int | None = None,
        on_progress: Progress = silent,
    ) -> None:
        self.plan = plan
        self.run = run
        self.journal = Journal(run, write=rank == 0)
        self.tell = on_progress if rank == 0 else silent
        self._validator = validator
        self._first = rank == 0
        self._tracker = open_tracker(track, run, plan) if track and rank == 0 else None
        self._most_steps = most_steps
        self._told = self._epoch_began = time.monotonic()
        self._steps_before = 0
        self.steps_per_epoch = 0
        self._stopped = False

    def begin(self, step: int) -> None:
        """Start after a step: 0, or the one that a checkpoint was written at."""
        self.journal.begin(step)
        if self._first:
            for prefix in (f".{BEST}", PART):  # was being written when a run was killed
                for folder in self.run.glob(f"{prefix}*"):
                    shutil.rmtree(folder, ignore_errors=True)
        if step:
            self.tell(f"resuming after step {step}, epoch {len(self.journal.epochs)}")
        self._steps_before = step
        self._epoch_began = time.monotonic()

    def step(self, row: StepRecord) -> None:
        """Write a step into the journal and judge its loss.

        Raises:
            TrainingFailed: The loss is not a number, or explodes.
            EnoughSteps: See `most_steps`.
        """
        self.journal.step(row)
        if self._tracker is not None:
            figures = {"loss": row.loss, "learning_rate": row.learning_rate, **row.parts}
            self._tracker.log(row.step, figures)
        now = time.monotonic()
        if now - self._told > EVERY_S:
            self._told = now
            self.tell(self._within_epoch(row, now - self._epoch_began))
        self.symptom(diagnosis.of_loss(self.plan.recipe, self.plan.base.family, self.journal.steps))
        if self._most_steps is not None and row.step >= self._most_steps:
            raise EnoughSteps

    def epoch(self, epoch: int, step: int, network: Any, save: Callable[[Path], None]) -> bool:
        """Validate after an epoch, and keep the network if it is the best so far.

        Args:
            epoch: Epoch, counted from 1.
            step: Optimiser steps taken so far.
            network: Network to validate; in evaluation mode afterwards.
            save: Writes the network into a folder.

        Returns:
            True where patience has run out.

        Raises:
            TrainingFailed: The network finds nothing, or other classes.
        """
        trained = time.monotonic()
        found = self._validator.measure(network)
        figures = found.scores.figures
        losses = [row.loss for row in self.journal.steps if row.epoch == epoch]
        row = Epoch(
            epoch=epoch,
            step=step,
            loss=sum(losses) / max(1, len(losses)),
            ap=figures.ap or 0.0,
            ap50=figures.ap50 or 0.0,
            ap75=figures.ap75 or 0.0,
            train_s=trained - self._epoch_began,
            val_s=time.monotonic() - trained,
        )
        best = self.journal.best
        if self._first and (best is None or row.ap > best.ap):
            with staged_folder(self.run / _best_name(epoch), replace=True) as folder:
                save(folder)
        self.journal.epoch(row)
        if self._tracker is not None:
            shown = {"val/ap": row.ap, "val/ap50": row.ap50, "val/ap75": row.ap75}
            self._tracker.log(step, shown)
        left = self.plan.recipe.epochs - epoch
        more = f", about {duration(left * (row.train_s + row.val_s))} left" if left else ""
        self.tell(
            f"epoch {epoch} of {self.plan.recipe.epochs}: loss {row.loss:.4g}, mAP {row.ap:.4f}, "
            f"mAP50 {row.ap50:.4f} ({row.train_s:.0f} s + {row.val_s:.0f} s{more})"
        )
        self.symptom(
            diagnosis.of_validation(
                self.plan.recipe,
                self.plan.base.family,
                self._validator.dataset,
                found,
                epochs_ap50=[one.ap50 for one in self.journal.epochs],
                losses=[one.loss for one in self.journal.epochs],
                step=step,
            )
        )
        self._steps_before = step
        self._epoch_began = time.monotonic()
        return self._patience_is_out(epoch)

    def sealed(self) -> None:
        """Remove kept networks that no checkpoint needs: call it once a checkpoint is written."""
        best = self.journal.best
        if self._first and best is not None:
            for folder in self.run.glob(f"{BEST}*"):
                if folder.name != _best_name(best.epoch):
                    shutil.rmtree(folder, ignore_errors=True)

    def symptom(self, found: Symptom | None) -> None:
        """Record a symptom, and end the training where it is fatal.

        Raises:
            TrainingFailed: The symptom is fatal and the recipe says to stop then.
        """
        if found is None:
            return
        if self._first:
            record_symptom(self.run, found)
        stop = found.fatal and self.plan.recipe.diagnosis.action == "stop"
        if stop or found.code == "loss-not-a-number":  # no step can follow it
            raise TrainingFailed(found.message, hint=found.hint)
        self.tell(f"warning: {found.message}")

    def close(self) -> None:
        """Close the tracker."""
        if self._tracker is not None:
            self._tracker.close()

    def _within_epoch(self, row: StepRecord, elapsed_s: float) -> str:
        """Where the training is, how fast it is, and how long it will take."""
        recipe, epochs = self.plan.recipe, self.journal.epochs
        step_s = elapsed_s / max(1, row.step - self._steps_before)
        pace = f"{significant(recipe.batch / step_s)} images/s" if step_s > 0 else ""
        total = self.steps_per_epoch * recipe.epochs
        if not total:
            return f"epoch {row.epoch} of {recipe.epochs}, step {row.step}: loss {row.loss:.4g}" + (
                f", {pace}" if pace else ""
            )
        # Validations count as far as one was seen.
        val_s = epochs[-1].val_s * (recipe.epochs - len(epochs)) if epochs else 0.0
        left = duration((total - row.step) * step_s + val_s)
        return (
            f"epoch {row.epoch} of {recipe.epochs}, step {row.step} of {total}: "
            f"loss {row.loss:.4g}, {pace}, about {left} left"
        )

    def _patience_is_out(self, epoch: int) -> bool:
        patience, best = self.plan.recipe.patience, self.journal.best
        if not patience or best is None or epoch - best.epoch < patience:
            return False
        if not self._stopped:
            self.tell(f"no better mAP since epoch {best.epoch}: ending early")
        self._stopped = True
        return True


def best_folder(run: Path) -> Path | None:
    """The folder of a run's best network; None before its first validation."""
    best = Journal(run, write=False).best
    folder = run / _best_name(best.epoch) if best is not None else None
    return folder if folder is not None and folder.is_dir() else None


def record_symptom(run: Path, symptom: Symptom) -> None:
    """Add a symptom to those of a run, unless it is there."""
    if symptom not in read_symptoms(run):
        with (run / FINDINGS).open("ab") as file:
            file.write(msgspec.json.encode(symptom) + b"\n")


def read_symptoms(run: Path) -> list[Symptom]:
    """The symptoms that were seen in a run."""
    file = run / FINDINGS
    lines = file.read_bytes().splitlines() if file.is_file() else []
    return [msgspec.json.decode(line, type=Symptom) for line in lines]


def _best_name(epoch: int) -> str:
    return f"{BEST}{epoch:04}"
