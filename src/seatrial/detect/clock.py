"""The clock of one request: each moment since its start belongs to one stage."""

from __future__ import annotations

import time

# What the detector does, in its order; ``queue`` is every wait: for a thread and for a lane.
STAGES = ("decode", "preprocess", "queue", "infer", "postprocess")
# What a service does for a request until its answer is there, in its order.
REQUEST_STAGES = ("admission", "receive", *STAGES, "encode")
SEND = "send"  # the stage behind them: the answer is on its way while its times are written in it


class Clock:
    """Divides the time since it was made into stages, without gaps.

    Attributes:
        stages_ms: Stage name -> milliseconds, in the order in which the stages ended first.
        laps: Stage name and end of each lap, seconds by `time.perf_counter`, in their order.
        start: When it was made, by the same clock.
    """

    __slots__ = ("_last", "laps", "stages_ms", "start")

    def __init__(self) -> None:
        self.start = self._last = time.perf_counter()
        self.stages_ms: dict[str, float] = {}
        self.laps: list[tuple[str, float]] = []

    def began(self, at: float, stage: str) -> None:
        """Let the clock count from an earlier moment on, in a stage that ends now.

        Args:
            at: The moment, by `time.perf_counter`; before any lap.
            stage: Name of the stage.
        """
        self.start = self._last = at
        self.lap(stage)

    def lap(self, stage: str, now: float | None = None) -> None:
        """End a stage: the time since the end of the stage before is added to it.

        Args:
            stage: Its name.
            now: When it ended, on the clock of `time.perf_counter`; default: now.
        """
        now = time.perf_counter() if now is None else now
        self.stages_ms[stage] = self.stages_ms.get(stage, 0.0) + 1e3 * (now - self._last)
        self.laps.append((stage, now))
        self._last = now

    @property
    def end(self) -> float:
        """When the last stage ended, by `time.perf_counter`."""
        return self._last

    def timing_ms(self) -> dict[str, float]:
        """The stages that have ended, in the order of `REQUEST_STAGES`, and their ``total``."""
        timing = {
            stage: self.stages_ms[stage] for stage in REQUEST_STAGES if stage in self.stages_ms
        }
        timing["total"] = 1e3 * (self._last - self.start)
        return timing
