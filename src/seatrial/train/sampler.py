"""Which pictures make which step: the same for every trainer, process count and resumption.

Nothing is carried along: the order of an epoch, the canvas of a step and the augmentation of a
picture each follow from the seed and from where they stand. So a run that goes on after a kill,
or on more processes, draws what the uninterrupted one would have drawn.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from seatrial.train.recipe import Recipe

MULTIPLE_PX = 32  # sides of a canvas, where they vary
_ORDER, _SIZE, _PICTURE, _EPOCH = range(4)  # streams of draws that must not repeat one another


class Draw(NamedTuple):
    """One picture of one step.

    Attributes:
        epoch: From 0.
        picture: Its index in the set.
        factor: Of the canvas, in this step.
    """

    epoch: int
    picture: int
    factor: float


class Sampler:
    """A sampler: the draws of one process in one epoch, batch after batch.

    A step takes the next `batch` pictures of the epoch's permutation; process r takes the r-th
    part of each. The last step of an epoch is filled up from the permutation's beginning.

    Args:
        pictures: In the set.
        recipe: Seed, batch, processes.
        rank: Of this process.
    """

    def __init__(self, pictures: int, recipe: Recipe, *, rank: int = 0) -> None:
        self.steps = max(1, -(-pictures // recipe.batch))
        self._pictures = pictures
        self._recipe = recipe
        self._rank = rank
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, of the next iteration."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Pictures that this process takes in an epoch."""
        return self.steps * self._recipe.batch // self._recipe.compute.processes

    def __iter__(self) -> Iterator[Draw]:
        epoch, recipe = self._epoch, self._recipe
        order = generator(recipe.seed, _ORDER, epoch).permutation(self._pictures)
        order = np.resize(order, self.steps * recipe.batch)
        low, high = recipe.augmentation.multi_scale
        if plain(recipe, epoch):
            low = high = 1.0
        parts = order.reshape(
            self.steps, recipe.accumulate, recipe.compute.processes, recipe.micro_batch
        )
        for step, part in enumerate(parts):
            factor = float(generator(recipe.seed, _SIZE, epoch, step).uniform(low, high))
            for picture in part[:, self._rank].ravel().tolist():
                yield Draw(epoch, picture, factor)


def generator(*place: int) -> np.random.Generator:
    """Random numbers for one place: the same place, the same numbers."""
    return np.random.default_rng(place)


def picture_generator(recipe: Recipe, draw: Draw) -> np.random.Generator:
    """Random numbers for the augmentation of one picture in one epoch."""
    return generator(recipe.seed, _PICTURE, draw.epoch, draw.picture)


def plain(recipe: Recipe, epoch: int) -> bool:
    """Whether pictures are only flipped in an epoch, from 0."""
    return epoch >= recipe.epochs - recipe.augmentation.plain_epochs


def seed_everything(recipe: Recipe, epoch: int, rank: int, torch: Any) -> None:
    """Seed what models and libraries draw from, at the beginning of an epoch.

    Args:
        recipe: Its seed.
        epoch: From 0; -1 before the first, for weights that are drawn: the same in all processes.
        rank: Of this process.
        torch: The package.
    """
    place = (epoch + 1, 0 if epoch < 0 else rank)
    seed = int(generator(recipe.seed, _EPOCH, *place).integers(2**31))
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
