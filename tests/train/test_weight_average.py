"""The moving average of weights: what is validated and kept."""

from __future__ import annotations

import math
from typing import Any

import pytest

from seatrial.train.recipe import Ema


@pytest.fixture
def layer(torch: Any) -> Any:
    """A weight of 0, and a norm with running statistics."""
    module = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.BatchNorm1d(1))
    module[0].weight.data.fill_(0.0)
    return module


def average_of(layer: Any, **settings: Any) -> Any:
    from seatrial.train.weight_average import WeightAverage

    return WeightAverage(layer, Ema(**settings))


def test_the_average_follows_faster_at_first(layer: Any) -> None:
    average = average_of(layer, decay=0.9, warmup_steps=10)
    layer[0].weight.data.fill_(1.0)
    expected = 0.0
    for step in (1, 2, 3):
        average.update(layer)
        keep = 0.9 * (1 - math.exp(-step / 10))
        expected = keep * expected + (1 - keep)
        assert average.network[0].weight.item() == pytest.approx(expected)
    assert average.updates == 3


def test_buffers_are_averaged_and_counts_are_copied(layer: Any) -> None:
    average = average_of(layer, decay=0.5, warmup_steps=0)
    layer[1].running_mean.fill_(4.0)
    layer[1].num_batches_tracked.fill_(7)
    average.update(layer)
    assert average.network[1].running_mean.item() == 2.0
    assert average.network[1].num_batches_tracked.item() == 7


def test_an_average_continues_from_its_state(layer: Any) -> None:
    average = average_of(layer, decay=0.9, warmup_steps=10)
    layer[0].weight.data.fill_(1.0)
    average.update(layer)
    other = average_of(layer, decay=0.9, warmup_steps=10)
    other.restore(average.state())
    for one in (average, other):
        one.update(layer)
    assert other.network[0].weight.item() == average.network[0].weight.item()
    assert other.updates == 2


def test_without_decay_the_average_is_the_network_of_the_last_step(layer: Any) -> None:
    average = average_of(layer, decay=0.0, warmup_steps=0)
    layer[0].weight.data.fill_(7.0)
    average.update(layer)
    assert average.network[0].weight.item() == 7.0


def test_the_average_is_a_copy_in_evaluation_mode(layer: Any) -> None:
    average = average_of(layer.train(), decay=0.9, warmup_steps=0)
    layer[0].weight.data.fill_(3.0)
    assert average.network[0].weight.item() == 0.0
    assert not average.network.training
    assert not any(weight.requires_grad for weight in average.network.parameters())
    assert layer.training
