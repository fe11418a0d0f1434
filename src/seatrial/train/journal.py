"""The journal of a run: one JSON line for each step and each epoch.

A run that resumes after a kill drops the lines after its checkpoint, so that the lines are those of
one uninterrupted run.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TypeVar

import msgspec

from seatrial.system.files import write_atomically

T = TypeVar("T", bound="StepRecord | Epoch")


class StepRecord(msgspec.Struct, frozen=True):
    """One optimiser step.

    Attributes:
        step: Optimiser step, counted from 1.
        epoch: Epoch, counted from 1.
        loss: Mean loss over all processes and parts of the batch.
        learning_rate: Learning rate of the step, outside the backbone.
        parts: Parts of the loss by name.
    """

    step: int
    epoch: int
    loss: float
    learning_rate: float
    parts: dict[str, float] = {}


class Epoch(msgspec.Struct, frozen=True):
    """One epoch and its validation.

    Attributes:
        epoch: Epoch, counted from 1.
        step: Optimiser steps taken by its end.
        loss: Mean loss of its steps.
        ap: mAP on validation: mean over IoU 0.50 to 0.95 and classes.
        ap50: mAP at IoU 0.50.
        ap75: mAP at IoU 0.75.
        train_s: Duration of its steps, seconds.
        val_s: Duration of its validation, seconds.
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
    """The steps and epochs of a run, in memory and in its folder.

    Args:
        run: Folder of the run.
        write: True for the process that writes; one of several does.
    """

    STEPS, EPOCHS = "steps.jsonl", "epochs.jsonl"

    def __init__(self, run: Path, *, write: bool = True) -> None:
        self._run = run
        self._write = write
        self.steps = read_steps(run)
        self.epochs = read_epochs(run)

    def begin(self, step: int) -> None:
        """Drop the lines after a step: those steps are taken again."""
        self.steps = [row for row in self.steps if row.step <= step]
        self.epochs = [row for row in self.epochs if row.step <= step]
        if self._write:
            for name, rows in ((self.STEPS, self.steps), (self.EPOCHS, self.epochs)):
                lines = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
                write_atomically(self._run / name, lines)

    def step(self, row: StepRecord) -> None:
        """Add a step; a loss that is not a number stays in memory, since JSON cannot hold it."""
        self.steps.append(row)
        if math.isfinite(row.loss):
            self._append(self.STEPS, row)

    def epoch(self, row: Epoch) -> None:
        """Add an epoch."""
        self.epochs.append(row)
        self._append(self.EPOCHS, row)

    @property
    def best(self) -> Epoch | None:
        """The epoch of the highest mAP, the first of equals; None before the first one."""
        return max(self.epochs, key=lambda row: row.ap, default=None)

    def _append(self, name: str, row: StepRecord | Epoch) -> None:
        if self._write:
            with (self._run / name).open("ab") as file:
                file.write(msgspec.json.encode(row) + b"\n")


def read_steps(run: Path) -> list[StepRecord]:
    """The steps that a run has written."""
    return _read(run / Journal.STEPS, StepRecord)


def read_epochs(run: Path) -> list[Epoch]:
    """The epochs that a run has written."""
    return _read(run / Journal.EPOCHS, Epoch)


def _read(file: Path, kind: type[T]) -> list[T]:
    if not file.is_file():
        return []
    lines = file.read_bytes().splitlines(keepends=True)
    # A line without its end was cut off by a kill.
    return [msgspec.json.decode(line, type=kind) for line in lines if line.endswith(b"\n")]
