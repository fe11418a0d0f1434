"""The hot path of one request: bytes -> decode -> preprocess -> engine -> postprocess."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seatrial.artifact import Artifact
from seatrial.deployment import Thresholds
from seatrial.detect.clock import Clock
from seatrial.detect.decode import decode
from seatrial.detect.detections import Detections
from seatrial.detect.families.registry import family_of
from seatrial.detect.preprocess import fit
from seatrial.engines.base import Engine
from seatrial.engines.lanes import Lanes, Place

MAX_PIXELS = 50_000_000


class Ticket(Place):
    """One request on its way through a detector: its place among the lanes, and its clock.

    Args:
        lanes: The detector's lanes.
        deadline_s: Seconds from now until when the request has to be answered.

    Attributes:
        clock: The time of each stage so far.
    """

    __slots__ = ("clock",)

    def __init__(self, lanes: Lanes, deadline_s: float = math.inf) -> None:
        self.clock = Clock()
        super().__init__(lanes, deadline_s)


@dataclass(frozen=True, slots=True)
class Detected:
    """Result of one request.

    Attributes:
        image: (H, W, 3) uint8 RGB, the source image, upright.
        detections: Boxes in its pixels.
        stages_ms: Stage name -> milliseconds, in the order in which the stages ended; ``queue``
            is the wait for a lane.
        lane_threads: Threads that computed the inference.
    """

    image: NDArray[np.uint8]
    detections: Detections
    stages_ms: dict[str, float]
    lane_threads: int


class Detector:
    """An artifact, an engine, and the family's pre- and postprocessing. Thread-safe.

    Args:
        artifact: Describes how images go in and boxes come out.
        engine: Compiled from the artifact; the detector owns it from here on.
    """

    def __init__(self, artifact: Artifact, engine: Engine) -> None:
        self.artifact = artifact
        self.engine = engine
        self.lanes = Lanes(engine)
        self._family = family_of(artifact.manifest)
        self._preprocessing = artifact.manifest.preprocessing
        self._input = artifact.manifest.inputs[0].name

    def detect(
        self,
        data: bytes | memoryview | NDArray[np.uint8],
        options: Thresholds,
        *,
        max_pixels: int = MAX_PIXELS,
        ticket: Ticket | None = None,
    ) -> Detected:
        """Find objects in an image, encoded or decoded.

        Args:
            data: A JPEG, PNG or WebP file; or its pixels, (H, W, 3) uint8 RGB.
            options: Thresholds.
            max_pixels: Larger images are refused before they are decoded.
            ticket: The request's ticket where it has one, held by the caller and ready.

        Raises:
            InvalidInput: See `seatrial.detect.decode.decode`.
            DeadlineExceeded: The ticket's deadline passed before a lane was free.
            Abandoned: The ticket was cancelled before a lane was free.
        """
        if ticket is None:
            with Ticket(self.lanes) as own:
                own.ready()
                return self.detect(data, options, max_pixels=max_pixels, ticket=own)
        clock = ticket.clock
        image = data if isinstance(data, np.ndarray) else decode(data, max_pixels=max_pixels)
        clock.lap("decode")
        ticket.check()
        batch, letterbox = fit(image, self._preprocessing)
        feeds = self._family.feeds(letterbox)
        clock.lap("preprocess")
        lane = self.lanes.acquire(ticket)
        try:
            clock.lap("queue")
            outputs = lane.infer({self._input: batch, **feeds})
            clock.lap("infer")
            # Before the lane is released: the arrays are its own and change with its next call.
            detections = self._family.detections(outputs, letterbox, options)
        finally:
            self.lanes.release(lane)
        clock.lap("postprocess")
        return Detected(image, detections, dict(clock.stages_ms), lane.threads)

    def warm_up(self) -> None:
        """Run every lane once: the first run allocates and compiles."""
        blank = np.zeros((*self._preprocessing.size_hw, 3), np.uint8)
        batch, letterbox = fit(blank, self._preprocessing)
        feeds = {self._input: batch, **self._family.feeds(letterbox)}
        for lane in (*self.engine.narrow, *([self.engine.wide] if self.engine.wide else [])):
            lane.infer(feeds)

    def close(self) -> None:
        """Release the engine."""
        self.engine.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
