"""The clock of one request: each moment since its start belongs to one stage."""

from __future__ import annotations

import time

# What the detector does, in its order; ``queue`` is every wait: for a thread and for a lane.
STAGES = ("decode", "preprocess", "queue", "infer", "postprocess")
# What a service does for a request, in its order.
REQUEST_STAGES = ("receive", *STAGES, "encode")


class Clock:
    """Divides the time since it was made into stages, without gaps.

    Attributes:
        stages_ms: Stage name -> milliseconds, in the order in which the stages ended first.
    """

    __slots__ = ("_last", "_start", "stages_ms")

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self.stages_ms: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """End a stage: the time since the end of the stage before is added to it."""
        now = time.perf_counter()
        self.stages_ms[stage] = self.stages_ms.get(stage, 0.0) + 1e3 * (now - self._last)
        self._last = now

    def timing_ms(self) -> dict[str, float]:
        """The stages that have ended, in the order of `REQUEST_STAGES`, and their ``total``."""
        timing = {
            stage: self.stages_ms[stage] for stage in REQUEST_STAGES if stage in self.stages_ms
        }
        timing["total"] = 1e3 * (self._last - self._start)
        return timing
