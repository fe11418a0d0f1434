"""Whether to copy the outputs of a lane, so that it is free before they are read.

A copy costs CPU time and gives the lane back by the time of reading less that of the copy. It pays
where it gains more than it costs: where reading takes more than twice as long. Both are learnt, in
one service that of each kind of request: 0.4 ms of copying and 0.6 ms of reading for a YOLO of 80
classes, but 2.6 ms where each anchor over a confidence of 0.001 counts (benchmarks/batching.py).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seatrial.deployment import Thresholds
from seatrial.engines.lanes import newer_mean_s

LOWEST = 16  # confidences below 2 to the power of minus this are one kind
COPY_COSTS = 2.0  # times: what it costs itself, and what it takes of the gain


class EarlyRelease:
    """Learns what copying and reading the outputs of one detector take. Thread-safe."""

    def __init__(self) -> None:
        self._copy_s = 0.0
        self._read_s: dict[tuple[bool, int], float] = {}
        self._lock = threading.Lock()

    def pays(self, thresholds: Thresholds) -> bool:
        """Whether to copy before reading; also where nothing is known of reading yet."""
        read_s = self._read_s.get(_kind(thresholds), math.inf)
        return COPY_COSTS * self._copy_s < read_s

    def copied(self, seconds: float) -> None:
        """Learn from a copy of all outputs."""
        with self._lock:
            self._copy_s = newer_mean_s(self._copy_s, seconds)

    def read(self, thresholds: Thresholds, seconds: float) -> None:
        """Learn from the reading of the outputs of one image."""
        kind = _kind(thresholds)
        with self._lock:
            self._read_s[kind] = newer_mean_s(self._read_s.get(kind, 0.0), seconds)


def _kind(thresholds: Thresholds) -> tuple[bool, int]:
    """Requests that take about as long to read: of few values, whatever clients ask for."""
    exponent = math.frexp(thresholds.confidence)[1] if thresholds.confidence else -LOWEST
    return thresholds.multi_label, max(-LOWEST, exponent)


def copied(outputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Arrays of the caller's own."""
    return {name: np.array(array) for name, array in outputs.items()}
