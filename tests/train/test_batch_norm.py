"""Batch norms over several processes: of one process they are PyTorch's own."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def group(torch: Any, tmp_path: Path) -> Iterator[None]:
    """A group of this one process."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture
def pair(torch: Any, group: None) -> tuple[Any, Any]:
    """A batch norm of PyTorch, and the same one shared."""
    from seatrial.train.batch_norm import share_batch_norms

    theirs = torch.nn.Sequential(torch.nn.BatchNorm2d(3, momentum=0.3))
    with torch.no_grad():
        theirs[0].weight.copy_(torch.tensor([0.5, 2.0, -1.0]))
        theirs[0].bias.copy_(torch.tensor([1.0, 0.0, -3.0]))
    ours = copy.deepcopy(theirs)
    share_batch_norms(ours, "cpu")
    return theirs, ours


def images(torch: Any, seed: int = 0) -> Any:
    scale = torch.tensor([1.0, 10.0, 0.1]).reshape(1, 3, 1, 1)
    drawn = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(seed))
    return (drawn * scale + 2).requires_grad_()


def test_outputs_gradients_and_running_statistics_are_pytorchs(
    torch: Any, pair: tuple[Any, Any]
) -> None:
    from seatrial.train.batch_norm import SharedBatchNorm

    theirs, ours = pair
    assert type(ours[0]) is SharedBatchNorm
    for seed in (0, 1):  # twice: running statistics are averages
        given = [images(torch, seed), images(torch, seed)]
        weight = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(9))
        for network, x in zip(pair, given, strict=True):
            (network(x) * weight).sum().backward()
        close = {"atol": 1e-4, "rtol": 1e-4}
        torch.testing.assert_close(ours(given[0]), theirs(given[0]), **close)
        torch.testing.assert_close(given[1].grad, given[0].grad, **close)
        torch.testing.assert_close(ours[0].weight.grad, theirs[0].weight.grad, **close)
        torch.testing.assert_close(ours[0].bias.grad, theirs[0].bias.grad, **close)
        torch.testing.assert_close(ours[0].running_mean, theirs[0].running_mean, **close)
        torch.testing.assert_close(ours[0].running_var, theirs[0].running_var, **close)
        assert ours[0].num_batches_tracked == theirs[0].num_batches_tracked == 2 * seed + 2


def test_in_evaluation_the_running_statistics_are_used(torch: Any, pair: tuple[Any, Any]) -> None:
    theirs, ours = (network.eval() for network in pair)
    x = images(torch)
    assert torch.equal(ours(x), theirs(x))
    assert ours[0].num_batches_tracked == 0


def test_a_batch_norm_without_weights_only_normalises(torch: Any, group: None) -> None:
    from seatrial.train.batch_norm import share_batch_norms

    theirs = torch.nn.Sequential(torch.nn.BatchNorm2d(3, affine=False))
    ours = copy.deepcopy(theirs)
    share_batch_norms(ours, "cpu")
    torch.testing.assert_close(ours(images(torch)), theirs(images(torch)), atol=1e-5, rtol=1e-5)


def test_on_gpus_pytorchs_own_takes_their_place(torch: Any) -> None:
    from seatrial.train.batch_norm import share_batch_norms

    network = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.BatchNorm2d(3))
    share_batch_norms(network, "cuda")
    assert type(network[1]) is torch.nn.SyncBatchNorm
    assert type(network[0]) is torch.nn.Conv2d
