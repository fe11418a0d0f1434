"""Which pictures make which step: shared out, gone on with, never by chance."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest

from seatrial.train.recipe import Augmentation, Compute, Recipe
from seatrial.train.sampler import (
    Draw,
    Sampler,
    image_generator,
    plain,
    seed_everything,
)

VARIED = Augmentation(multi_scale=(0.5, 1.5), plain_epochs=2)


def recipe(processes: int = 1, accumulate: int = 1, **changes: object) -> Recipe:
    plain_one = Recipe(epochs=5, batch=8, accumulate=accumulate, augmentation=VARIED)
    return msgspec.structs.replace(plain_one, compute=Compute(processes=processes), **changes)


def steps(images: int, epoch: int, processes: int = 1, accumulate: int = 1) -> list[set[Draw]]:
    """What each step of an epoch sees, over all processes and parts."""
    settings = recipe(processes, accumulate)
    seen: list[set[Draw]] = []
    for rank in range(processes):
        order = Sampler(images, settings, rank=rank)
        order.set_epoch(epoch)
        share = batched(list(order), 8 // processes)
        for number, part in enumerate(share):
            if rank == 0:
                seen.append(set())
            seen[number] |= set(part)
    return seen


def batched(rows: list[Draw], size: int) -> list[list[Draw]]:
    return [rows[i : i + size] for i in range(0, len(rows), size)]


@pytest.mark.parametrize(("processes", "accumulate"), [(2, 1), (4, 1), (1, 4), (2, 2)])
def test_a_step_sees_the_same_pictures_however_it_is_shared(
    processes: int, accumulate: int
) -> None:
    assert steps(30, 1, processes, accumulate) == steps(30, 1)
    assert all(len(step) == 8 for step in steps(30, 1, processes, accumulate))


def test_an_epoch_sees_every_picture_and_is_filled_up() -> None:
    seen = [draw.image for step in steps(30, 0) for draw in step]
    assert len(seen) == 32
    assert set(seen) == set(range(30))


def test_epochs_differ_and_each_can_be_had_without_those_before() -> None:
    order = Sampler(30, recipe())
    epochs = []
    for epoch in (0, 1, 2):
        order.set_epoch(epoch)
        epochs.append([draw.image for draw in order])
    assert epochs[0] != epochs[1] != epochs[2]
    fresh = Sampler(30, recipe())
    fresh.set_epoch(2)
    assert [draw.image for draw in fresh] == epochs[2]
    first = Sampler(30, recipe())
    assert [draw.image for draw in first] == epochs[0]  # before an epoch is set
    assert {draw.epoch for draw in fresh} == {2}


def test_fewer_pictures_than_a_batch_are_taken_more_than_once() -> None:
    order = Sampler(3, recipe())
    assert order.steps == 1
    assert sorted({draw.image for draw in order}) == [0, 1, 2]


def test_a_step_has_one_canvas_and_the_last_epochs_the_usual_one() -> None:
    for epoch in range(5):
        factors = [{draw.factor for draw in step} for step in steps(30, epoch)]
        assert all(len(step) == 1 for step in factors)
        assert (factors == [{1.0}] * 4) == (epoch >= 3)
        assert plain(recipe(), epoch) == (epoch >= 3)


def test_a_picture_draws_the_same_in_an_epoch_and_anew_in_the_next() -> None:
    def drawn(draw: Draw, seed: int = 0) -> list[float]:
        return image_generator(recipe(seed=seed), draw).random(4).tolist()

    assert drawn(Draw(1, 7, 1.0)) == drawn(Draw(1, 7, 0.5))
    different = [drawn(Draw(1, 7, 1)), drawn(Draw(2, 7, 1)), drawn(Draw(1, 8, 1))]
    different.append(drawn(Draw(1, 7, 1), seed=1))
    assert len({tuple(one) for one in different}) == 4


def test_weights_are_drawn_alike_in_all_processes_and_noise_is_not() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    def drawn(epoch: int, rank: int) -> tuple[float, float, float]:
        seed_everything(recipe(), epoch, rank, torch)
        return random.random(), float(np.random.random()), float(torch.rand(()))

    state = torch.get_rng_state()
    try:
        assert drawn(-1, 0) == drawn(-1, 3)
        assert drawn(0, 0) != drawn(0, 1)
        assert drawn(0, 0) == drawn(0, 0)
    finally:
        torch.set_rng_state(state)


def test_draws_come_from_places_that_no_version_changes() -> None:
    """Else a run that an earlier version began would go on with other images."""
    settings, epoch = recipe(seed=5), 2
    sampler = Sampler(30, settings)
    sampler.set_epoch(epoch)
    draws = list(sampler)
    order = np.resize(np.random.default_rng((5, 0, epoch)).permutation(30), 32)
    assert [draw.image for draw in draws] == order.tolist()
    for step in range(4):
        factor = np.random.default_rng((5, 1, epoch, step)).uniform(0.5, 1.5)
        assert {draw.factor for draw in draws[8 * step : 8 * step + 8]} == {factor}
    ours = image_generator(settings, Draw(epoch, 7, 1.0)).random(3)
    assert ours.tolist() == np.random.default_rng((5, 2, epoch, 7)).random(3).tolist()


@pytest.mark.parametrize(
    ("epoch", "rank", "place"), [(-1, 3, (0, 0)), (0, 1, (1, 1)), (4, 0, (5, 0))]
)
def test_seeds_come_from_places_that_no_version_changes(
    epoch: int, rank: int, place: tuple[int, int]
) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    state = torch.get_rng_state()
    try:
        seed_everything(recipe(seed=5), epoch, rank, torch)
        seed = int(np.random.default_rng((5, 3, *place)).integers(2**31))
        assert torch.initial_seed() == seed
        assert random.random() == random.Random(seed).random()
        assert np.random.random() == np.random.RandomState(seed).random_sample()
    finally:
        torch.set_rng_state(state)
