"""Recipes of short trainings, and what is compared of two runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seatrial.train.after_step import best_folder
from seatrial.train.journal import read_epochs, read_steps

TRAINERS = ("transformers", "lightning")
STEPS_PER_EPOCH = 6  # of 24 images
_BRIEF = """
epochs = {epochs}
batch = 4
image_size = 64
[optimiser]
learning_rate = 1e-3
[schedule]
warmup_steps = 4
[ema]
decay = 0.9
warmup_steps = 4
[compute]
threads = 1
processes = {processes}
[diagnosis]
action = "warn"
"""
UNCHANGED = """
[augmentation]
flip = 0.0
colour = 0.0
crop = 0.0
zoom_out = 0.0
multi_scale = [1.0, 1.0]
"""
YOLO = """
epochs = 2
batch = 8
image_size = 32
[augmentation]
mosaic = 0.5
plain_epochs = 1
[compute]
threads = 1
[diagnosis]
action = "warn"
"""


def brief(epochs: int, processes: int = 1) -> str:
    """A recipe of so many epochs, with a warm-up and an average that matter in the first one."""
    return _BRIEF.format(epochs=epochs, processes=processes)


def losses(run: Path) -> list[float]:
    """Loss of every step."""
    return [row.loss for row in read_steps(run)]


def rates(run: Path) -> list[float]:
    """Learning rate of every step."""
    return [row.learning_rate for row in read_steps(run)]


def curve(run: Path) -> list[tuple[Any, ...]]:
    """Every epoch without its times: equal for an uninterrupted run and one that was resumed."""
    return [(row.epoch, row.step, row.loss, row.ap, row.ap50) for row in read_epochs(run)]


def weights(run: Path) -> dict[str, Any]:
    """The best weights of a run, as arrays."""
    from safetensors.numpy import load_file

    folder = best_folder(run)
    assert folder is not None
    return load_file(folder / "model.safetensors")
