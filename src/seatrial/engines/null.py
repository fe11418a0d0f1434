"""An engine that computes nothing: it measures everything but the model."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seatrial.engines.base import Arrays, EngineConfig, Lane, of_batch
from seatrial.errors import DeviceUnavailable
from seatrial.manifest import Manifest, TensorSpec


class NullLane:
    """Answers with zeros, the same arrays each time."""

    lends = False  # they never change

    def __init__(self, threads: int, outputs: tuple[TensorSpec, ...], max_batch: int = 1) -> None:
        self.threads = threads
        self._answers = [
            {spec.name: _zeros(spec, size) for spec in outputs} for size in range(1, max_batch + 1)
        ]

    def infer(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """Return zeros of the graph's output shapes: no detections."""
        return self._answers[len(next(iter(feeds.values()))) - 1]


@functools.cache  # of all lanes, and of the models that follow each other in a service
def _zeros(spec: TensorSpec, size: int) -> NDArray[Any]:
    shape = of_batch(spec.shape, size)
    return np.zeros([1 if side < 0 else side for side in shape], spec.dtype)


class NullEngine:
    """Has the inputs and outputs of an artifact and computes nothing."""

    formats: ClassVar[tuple[str, ...]] = ("onnx", "openvino", "torch", "tensorrt")
    name = "null"
    device = "cpu"
    precision = "none"

    def __init__(self, model: Path, manifest: Manifest, config: EngineConfig) -> None:
        if config.device != "cpu":
            raise DeviceUnavailable(f"the null engine runs on cpu, not on {config.device}")
        self.inputs = manifest.inputs
        self.outputs = manifest.outputs
        self.narrow: tuple[Lane, ...] = tuple(
            NullLane(config.threads, self.outputs, config.max_batch)
            for _ in range(config.instances)
        )
        self._max_batch = config.max_batch
        self.wide: Lane | None = (
            NullLane(config.wide_threads, self.outputs) if config.wide_threads else None
        )

    def renew(self, lane: Lane) -> Lane:
        """See `seatrial.engines.base.RenewingEngine.renew`."""
        return NullLane(lane.threads, self.outputs, self._max_batch)

    def properties(self) -> dict[str, str]:
        """See `Engine.properties`."""
        return {"note": "computes nothing; answers with zeros"}

    def close(self) -> None:
        """Nothing to release."""
