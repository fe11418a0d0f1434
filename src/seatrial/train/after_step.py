"""What every trainer does after a step and an epoch: note, look for trouble, keep the best."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from seatrial.errors import TrainingFailed
from seatrial.train import diagnosis
from seatrial.train.diagnosis import Symptom
from seatrial.train.journal import Epoch, Journal, StepRecord
from seatrial.train.plan import Plan
from seatrial.train.tracking import open_tracker
from seatrial.train.validation import Validator

FINDINGS = "findings.jsonl"
BEST = "best-"
EVERY_S = 10.0  # between two lines on the screen within an epoch


class Enough(Exception):
    """As many steps were taken as were asked for."""


class AfterStep:
    """A run's notes, and what follows from them.

    Args:
        plan: Of the run.
        run: Its folder.
        validator: Measures on the validation set.
        rank: Of this process; only the first one writes.
        track: Where figures are shown, by name.
        most_steps: Raise `Enough` after so many.
    """

    def __init__(
        self,
        plan: Plan,
        run: Path,
        validator: Validator,
        *,
        rank: int = 0,
        track: str | None = None,
        most_steps: int | None = None,
    ) -> None:
        self.plan = plan
        self.run = run
        self.journal = Journal(run, write=rank == 0)
        self._validator = validator
        self._first = rank == 0
        self._tracker = open_tracker(track, run, plan) if track and rank == 0 else None
        self._most_steps = most_steps
        self._shown = self._epoch_began = time.monotonic()
        self._stopped = False

    def begin(self, step: int) -> None:
        """Start at a step, 0 or the one that a checkpoint was written at."""
        self.journal.begin(step)
        if step:
            self._tell(f"going on after step {step}, epoch {len(self.journal.epochs)}")
        self._epoch_began = time.monotonic()

    def step(self, row: StepRecord) -> None:
        """Note a step.

        Raises:
            TrainingFailed: The loss is no number, or runs away.
            Enough: See `most_steps`.
        """
        self.journal.step(row)
        figures = {"loss": row.loss, "learning_rate": row.learning_rate, **row.parts}
        if self._tracker is not None:
            self._tracker.log(row.step, figures)
        now = time.monotonic()
        if now - self._shown > EVERY_S:
            self._shown = now
            self._tell(f"epoch {row.epoch}, step {row.step}: loss {row.loss:.4g}")
        self._judge(diagnosis.of_loss(self.plan.recipe, self.plan.base.family, self.journal.steps))
        if self._most_steps is not None and row.step >= self._most_steps:
            raise Enough

    def epoch(self, epoch: int, step: int, network: Any, save: Callable[[Path], None]) -> bool:
        """Validate after an epoch, and keep the network if it is the best so far.

        Args:
            epoch: From 1.
            step: Steps taken by now.
            network: To validate; in evaluation mode afterwards.
            save: Writes the network into a folder.

        Returns:
            Whether patience has run out.

        Raises:
            TrainingFailed: It finds nothing, or other classes.
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
        if best is None or row.ap > best.ap:
            self._keep(epoch, save)
        self.journal.epoch(row)
        if self._tracker is not None:
            shown = {"val/ap": row.ap, "val/ap50": row.ap50, "val/ap75": row.ap75}
            self._tracker.log(step, shown)
        self._tell(
            f"epoch {epoch} of {self.plan.recipe.epochs}: loss {row.loss:.4g}, mAP {row.ap:.4f}, "
            f"mAP50 {row.ap50:.4f} ({row.train_s:.0f} s + {row.val_s:.0f} s)"
        )
        epochs = self.journal.epochs
        self._judge(
            diagnosis.of_validation(
                self.plan.recipe,
                self.plan.base.family,
                self._validator.dataset,
                found,
                [one.ap50 for one in epochs],
                [one.loss for one in epochs],
                step,
            )
        )
        self._epoch_began = time.monotonic()
        return self._patience_is_out(epoch)

    def sealed(self) -> None:
        """A checkpoint was written: of the kept networks, only its best is still needed."""
        best = self.journal.best
        if self._first and best is not None:
            for folder in self.run.glob(f"{BEST}*"):
                if folder.name != _best_name(best.epoch):
                    shutil.rmtree(folder, ignore_errors=True)

    def finding(self, finding: Symptom | None) -> None:
        """Tell of something that was found before the first step; see `of_labels` and others.

        Raises:
            TrainingFailed: It makes the training vain, and the recipe says to stop then.
        """
        self._judge(finding)

    def close(self) -> None:
        """Write out what is left."""
        if self._tracker is not None:
            self._tracker.close()

    def _judge(self, finding: Symptom | None) -> None:
        if finding is None:
            return
        if self._first:
            note_finding(self.run, finding)
        stop = finding.fatal and self.plan.recipe.diagnosis.action == "stop"
        if stop or finding.code == "loss-not-a-number":  # nothing comes after it
            raise TrainingFailed(finding.message, hint=finding.hint)
        self._tell(f"warning: {finding.message}")

    def _keep(self, epoch: int, save: Callable[[Path], None]) -> None:
        if not self._first:
            return
        part = self.run / f".{_best_name(epoch)}"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        save(part)
        final = self.run / _best_name(epoch)
        shutil.rmtree(final, ignore_errors=True)  # of a run that was killed before it was sealed
        os.rename(part, final)

    def _patience_is_out(self, epoch: int) -> bool:
        patience, best = self.plan.recipe.patience, self.journal.best
        if not patience or best is None or epoch - best.epoch < patience:
            return False
        if not self._stopped:
            self._tell(f"no better mAP since epoch {best.epoch}: ending early")
        self._stopped = True
        return True

    def _tell(self, text: str) -> None:
        if self._first:
            tell(text)


def tell(text: str) -> None:
    """A line for whoever watches."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def best_folder(run: Path) -> Path | None:
    """Where the best network of a run is; None before its first validation."""
    best = Journal(run, write=False).best
    folder = run / _best_name(best.epoch) if best is not None else None
    return folder if folder is not None and folder.is_dir() else None


def note_finding(run: Path, finding: Symptom) -> None:
    """Add to a run's findings, once."""
    if finding not in read_findings(run):
        with (run / FINDINGS).open("ab") as file:
            file.write(msgspec.json.encode(finding) + b"\n")


def read_findings(run: Path) -> list[Symptom]:
    """What was found in a run."""
    file = run / FINDINGS
    lines = file.read_bytes().splitlines() if file.is_file() else []
    return [msgspec.json.decode(line, type=Symptom) for line in lines]


def _best_name(epoch: int) -> str:
    return f"{BEST}{epoch:04}"
