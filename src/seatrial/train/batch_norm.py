"""Batch norms whose statistics are those of all processes' images, on CPUs too."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from torch import nn


class SumOverProcesses(torch.autograd.Function):
    """A tensor summed over all processes; its gradient is summed as well."""

    @staticmethod
    def forward(ctx: Any, own: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor (...) that has the same shape in all processes."""
        total = own.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        """The sum of the processes' gradients."""
        total = gradient.contiguous().clone()
        torch.distributed.all_reduce(total)
        return total


class SharedBatchNorm(nn.BatchNorm2d):
    """A batch norm over the images of all processes, on any device.

    PyTorch's ``SyncBatchNorm`` does the same on GPUs only.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (N, C, H, W) float."""
        if not self.training:
            return super().forward(x)
        summed: Any = SumOverProcesses.apply
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
    """Make a network's batch norms take the statistics of all processes' images."""
    if device == "cuda":
        convert: Any = torch.nn.SyncBatchNorm.convert_sync_batchnorm
        convert(network)
        return
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm
