"""What happened in a run, line by line: every step, every epoch.

Two files of JSON lines. A run that goes on after a kill drops what came after its checkpoint, so
that the lines are those of one uninterrupted run.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T", bound="StepRecord | Epoch")


class StepRecord(msgspec.Struct, frozen=True):
    """One optimiser step.

    Attributes:
        step: From 1.
        epoch: From 1.
        loss: Mean over all processes and parts of the batch.
        learning_rate: That it was taken with, outside the backbone.
        parts: Of the loss, by name.
    """

    step: int
    epoch: int
    loss: float
    learning_rate: float
    parts: dict[str, float] = {}


class Epoch(msgspec.Struct, frozen=True):
    """One epoch, validated.

    Attributes:
        epoch: From 1.
        step: Steps taken by its end.
        loss: Mean of its steps.
        ap: Mean over IoU 0.50 to 0.95 and classes, on validation.
        ap50: At IoU 0.50.
        ap75: At IoU 0.75.
        train_s: Seconds of its steps.
        val_s: Seconds of its validation.
    """

    epoch: int
    step: int
    loss: float
    ap: float
    ap50: float
    ap75: float
    train_s: float
    val_s: float


class Journal:
    """The lines of a run.

    Args:
        run: Its folder.
        write: Only one process does.
    """

    STEPS, EPOCHS = "steps.jsonl", "epochs.jsonl"

    def __init__(self, run: Path, *, write: bool = True) -> None:
        self._run = run
        self._write = write
        self.steps = read_steps(run)
        self.epochs = read_epochs(run)

    def begin(self, step: int) -> None:
        """Drop what came after a step: it is done again."""
        self.steps = [row for row in self.steps if row.step <= step]
        self.epochs = [row for row in self.epochs if row.step <= step]
        if self._write:
            for name, rows in ((self.STEPS, self.steps), (self.EPOCHS, self.epochs)):
                part = self._run / f".{name}"
                part.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
                os.replace(part, self._run / name)

    def step(self, row: StepRecord) -> None:
        """Add a step; JSON has no numbers for a loss that is none."""
        self.steps.append(row)
        if math.isfinite(row.loss):
            self._append(self.STEPS, row)

    def epoch(self, row: Epoch) -> None:
        """Add an epoch."""
        self.epochs.append(row)
        self._append(self.EPOCHS, row)

    @property
    def best(self) -> Epoch | None:
        """The epoch of the highest mAP, the first of equals."""
        return max(self.epochs, key=lambda row: row.ap, default=None)

    def _append(self, name: str, row: StepRecord | Epoch) -> None:
        if self._write:
            with (self._run / name).open("ab") as file:
                file.write(msgspec.json.encode(row) + b"\n")


def read_steps(run: Path) -> list[StepRecord]:
    """The steps of a run, as far as they were written."""
    return _read(run / Journal.STEPS, StepRecord)


def read_epochs(run: Path) -> list[Epoch]:
    """The epochs of a run, as far as they were written."""
    return _read(run / Journal.EPOCHS, Epoch)


def _read(file: Path, kind: type[T]) -> list[T]:
    if not file.is_file():
        return []
    lines = file.read_bytes().splitlines(keepends=True)
    # A line without its end was cut off by a kill.
    return [msgspec.json.decode(line, type=kind) for line in lines if line.endswith(b"\n")]
