"""Torch modules as engines."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from seatrial.engines.base import Arrays, Lane
from seatrial.manifest import Manifest
from seatrial.system.extras import require


class ModuleLane:
    """Runs a module on PyTorch's own threads."""

    def __init__(self, torch: Any, module: Any, manifest: Manifest, device: str) -> None:
        self.threads = int(torch.get_num_threads())
        self._device = device
        self._torch = torch
        self._module = module
        self._inputs = [spec.name for spec in manifest.inputs]
        self._outputs = [spec.name for spec in manifest.outputs]

    lends = False

    def infer(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """See `seatrial.engines.base.Lane.infer`; takes any batch size."""
        given = [self._torch.from_numpy(feeds[name]).to(self._device) for name in self._inputs]
        with self._torch.no_grad():
            answers = self._module(*given)
        return {n: t.cpu().numpy() for n, t in zip(self._outputs, answers, strict=True)}


class ModuleEngine:
    """An engine that runs a checkpoint's module: the reference that exports are compared with.

    Args:
        module: ``torch.nn.Module`` in evaluation mode, on the device.
        manifest: Names of the inputs and outputs.
        device: Name of the device in PyTorch.
    """

    name, precision = "torch (eager)", "f32"
    wide: Lane | None = None

    def __init__(self, module: Any, manifest: Manifest, device: str = "cpu") -> None:
        torch = require("torch", extra="torch", purpose="running checkpoints")
        self.device = device
        self.inputs, self.outputs = manifest.inputs, manifest.outputs
        self.narrow: tuple[Lane, ...] = (ModuleLane(torch, module, manifest, device),)
        self._version = str(torch.__version__)

    def properties(self) -> dict[str, str]:
        """See `seatrial.engines.base.Engine.properties`."""
        return {"version": self._version}

    def close(self) -> None:
        """See `seatrial.engines.base.Engine.close`."""
        self.narrow = ()
