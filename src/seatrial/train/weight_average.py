"""The moving average of a network's weights: what is validated and kept."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import nn

from seatrial.train.recipe import Ema


class WeightAverage:
    """Exponential moving average of a network's weights and buffers.

    Source: RT-DETR's ``optim/ema.py``.

    Args:
        network: The network to average; copied.
        settings: Decay and warm-up. With a decay of 0 the copy is the network of the last step.

    Attributes:
        network: The average, in evaluation mode.
        updates: Steps that it has seen.
    """

    def __init__(self, network: nn.Module, settings: Ema) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.updates = 0
        self._settings = settings

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take the weights of a step into the average."""
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
        """The average as a checkpoint holds it."""
        return {"weights": self.network.state_dict(), "updates": self.updates}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.network.load_state_dict(state["weights"])
        self.updates = state["updates"]
