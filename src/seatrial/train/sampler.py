"""Images of each step: the same for every trainer, number of processes and resumption.

The sampler keeps no state: the order of an epoch, the canvas of a step and the augmentation of an
image each follow from the seed and from their place in the run. A run that resumes after a kill, or
on more processes, draws what the uninterrupted run would have drawn.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from seatrial.train.recipe import Recipe

MULTIPLE_PX = 32  # sides of a canvas, where they vary
_ORDER, _SIZE, _IMAGE, _EPOCH = range(4)  # streams of draws that must not repeat one another


class Draw(NamedTuple):
    """One image of one step.

    Attributes:
        epoch: Epoch, counted from 0.
        image: Index of the image in the set.
        factor: Scale of the canvas in this step.
    """

    epoch: int
    image: int
    factor: float


class Sampler:
    """The draws of one process in one epoch, batch after batch.

    A step takes the next `batch` images of the epoch's permutation; process r takes the r-th
    part of each. The last step of an epoch is filled up from the permutation's beginning.

    Args:
        images: Number of images in the set.
        recipe: Seed, batch, processes.
        rank: Rank of this process.

    Attributes:
        steps: Optimiser steps of an epoch.
    """

    def __init__(self, images: int, recipe: Recipe, *, rank: int = 0) -> None:
        self.steps = max(1, -(-images // recipe.batch))
        self._images = images
        self._recipe = recipe
        self._rank = rank
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration, counted from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Number of images that this process takes in an epoch."""
        return self.steps * self._recipe.batch // self._recipe.compute.processes

    def __iter__(self) -> Iterator[Draw]:
        epoch, recipe = self._epoch, self._recipe
        order = generator(recipe.seed, _ORDER, epoch).permutation(self._images)
        order = np.resize(order, self.steps * recipe.batch)
        low, high = recipe.augmentation.multi_scale
        if plain(recipe, epoch):
            low = high = 1.0
        parts = order.reshape(
            self.steps, recipe.accumulate, recipe.compute.processes, recipe.micro_batch
        )
        for step, part in enumerate(parts):
            factor = float(generator(recipe.seed, _SIZE, epoch, step).uniform(low, high))
            for image in part[:, self._rank].ravel().tolist():
                yield Draw(epoch, image, factor)


def generator(*place: int) -> np.random.Generator:
    """Random numbers of one place: equal places give equal numbers."""
    return np.random.default_rng(place)


def image_generator(recipe: Recipe, draw: Draw) -> np.random.Generator:
    """Random numbers for the augmentation of one image in one epoch."""
    return generator(recipe.seed, _IMAGE, draw.epoch, draw.image)


def plain(recipe: Recipe, epoch: int) -> bool:
    """Whether images are only flipped in an epoch, counted from 0."""
    return epoch >= recipe.epochs - recipe.augmentation.plain_epochs


def seed_everything(recipe: Recipe, epoch: int, rank: int, torch: Any) -> None:
    """Seed the generators of Python, NumPy and PyTorch at the beginning of an epoch.

    Args:
        recipe: Holds the seed.
        epoch: Epoch, counted from 0; -1 for random weights, which are the same in all processes.
        rank: Rank of this process.
        torch: The package.
    """
    place = (epoch + 1, 0 if epoch < 0 else rank)
    seed = int(generator(recipe.seed, _EPOCH, *place).integers(2**31))
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
