"""Optimiser groups, schedule, average of the weights, and batch norms over all processes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed
from torch import nn

from seatrial.train.network import BACKBONE, NORMS
from seatrial.train.plan import Plan
from seatrial.train.recipe import Ema, Schedule


def optimiser(network: Any, plan: Plan) -> torch.optim.Optimizer:
    """The optimiser, with groups for the backbone and for what has no weight decay.

    Args:
        network: Of transformers; its frozen weights are left out.
        plan: Of the run.
    """
    settings = plan.recipe.optimiser
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, weight, decays in _weights(network, plan):
        inside = name.startswith(BACKBONE)
        rate = settings.backbone_learning_rate if inside else settings.learning_rate
        decay = settings.weight_decay if decays else 0.0
        groups.setdefault((rate, decay), []).append(weight)
    # The first group is the one whose learning rate is told.
    order = sorted(groups, key=lambda key: (key[0] != settings.learning_rate, -key[1]))
    rows = [{"params": groups[key], "lr": key[0], "weight_decay": key[1]} for key in order]
    if settings.kind == "sgd":
        return torch.optim.SGD(rows, momentum=settings.momentum, nesterov=settings.momentum > 0)
    return torch.optim.AdamW(rows, betas=(settings.momentum, 0.999))


def _weights(network: Any, plan: Plan) -> list[tuple[str, nn.Parameter, bool]]:
    everything = plan.base.family == "detr"  # was trained with decay of norms and biases too
    norms = {id(w) for m in network.modules() if isinstance(m, NORMS) for w in m.parameters()}
    return [
        (name, weight, everything or not (id(weight) in norms or name.endswith("bias")))
        for name, weight in network.named_parameters()
        if weight.requires_grad
    ]


def factor(schedule: Schedule, *, steps: int, per_epoch: int) -> Callable[[int], float]:
    """What learning rates are multiplied by, for each step from 0.

    Args:
        schedule: Of the recipe.
        steps: Of the whole training.
        per_epoch: Steps of an epoch.
    """
    warmup = max(schedule.warmup_steps, round(schedule.warmup_epochs * per_epoch))

    def of(step: int) -> float:
        rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
        share = min(1.0, max(0, step - warmup) / max(1, steps - warmup))
        if schedule.kind == "linear":
            return rise * (1 - (1 - schedule.final) * share)
        if schedule.kind == "cosine":
            wave = (1 + math.cos(math.pi * share)) / 2
            return rise * (schedule.final + (1 - schedule.final) * wave)
        if schedule.kind == "step" and step >= schedule.step_at * steps:
            return rise * 0.1
        return rise

    return of


class WeightAverage:
    """Exponential moving average of a network: what is validated and kept.

    Source: RT-DETR's ``optim/ema.py``; buffers are averaged too.

    Args:
        network: What is averaged; copied.
        settings: Of the recipe. With a decay of 0 the copy is the network of the last step.
    """

    def __init__(self, network: nn.Module, settings: Ema) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.updates = 0
        self._settings = settings

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take a step into account."""
        self.updates += 1
        warmup = self._settings.warmup_steps
        rise = 1 - math.exp(-self.updates / warmup) if warmup else 1.0
        keep = self._settings.decay * rise
        new = network.state_dict()
        for name, value in self.network.state_dict().items():
            if value.dtype.is_floating_point and keep:
                value.lerp_(new[name], 1 - keep)
            else:
                value.copy_(new[name])

    def state(self) -> dict[str, Any]:
        """All that going on needs."""
        return {"weights": self.network.state_dict(), "updates": self.updates}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.network.load_state_dict(state["weights"])
        self.updates = state["updates"]


class Summed(torch.autograd.Function):
    """A tensor summed over all processes; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, own: torch.Tensor) -> torch.Tensor:
        """(...) of any shape, the same in all processes."""
        total = own.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        """What every process has of it."""
        total = gradient.contiguous().clone()
        torch.distributed.all_reduce(total)
        return total


class SharedBatchNorm(nn.BatchNorm2d):
    """A batch norm whose statistics are those of all processes' pictures, on any device.

    PyTorch's ``SyncBatchNorm`` does the same on GPUs alone.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W)."""
        if not self.training:
            return super().forward(x)
        summed: Any = Summed.apply
        count = torch.tensor(float(x.numel() / x.shape[1]), device=x.device)
        torch.distributed.all_reduce(count)
        mean = summed(x.sum((0, 2, 3))) / count
        spread = x - mean[None, :, None, None]
        variance = summed(spread.square().sum((0, 2, 3))) / count
        if self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                # cumulative averages (momentum None) are in none of these networks
                momentum = self.momentum if self.momentum is not None else 0.1
                unbiased = variance * count / (count - 1)
                self.running_mean.lerp_(mean.detach(), momentum)
                self.running_var.lerp_(unbiased.detach(), momentum)
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
        normalised: torch.Tensor = spread * torch.rsqrt(variance + self.eps)[None, :, None, None]
        if self.weight is None:
            return normalised
        scaled: torch.Tensor = normalised * self.weight[None, :, None, None]
        return scaled + self.bias[None, :, None, None]


def share_batch_norms(network: nn.Module, device: str) -> None:
    """Make batch norms take the statistics of all processes' pictures."""
    if device == "cuda":
        convert: Any = torch.nn.SyncBatchNorm.convert_sync_batchnorm
        convert(network)
        return
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm
