"""The hot path of one request: bytes -> decode -> preprocess -> engine -> postprocess."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from seatrial.artifact import Artifact
from seatrial.deployment import Thresholds
from seatrial.detect.decode import decode
from seatrial.detect.detections import Detections
from seatrial.detect.families.registry import family_of
from seatrial.detect.preprocess import fit
from seatrial.engines.base import Engine
from seatrial.engines.lanes import Lanes

MAX_PIXELS = 50_000_000
STAGES = ("decode", "preprocess", "queue", "infer", "postprocess")


@dataclass(frozen=True, slots=True)
class Detected:
    """What one request gave.

    Attributes:
        image: (H, W, 3) uint8 RGB, the source picture, upright.
        detections: Boxes in its pixels.
        stages_ms: Stage name -> milliseconds; ``queue`` is the wait for a lane.
        lane_threads: Threads that computed the inference.
    """

    image: NDArray[np.uint8]
    detections: Detections
    stages_ms: dict[str, float]
    lane_threads: int


class Detector:
    """An artifact, an engine, and the family's pre- and postprocessing. Thread-safe.

    Args:
        artifact: Says how pictures go in and boxes come out.
        engine: Compiled from it; the detector owns it from here on.
    """

    def __init__(self, artifact: Artifact, engine: Engine) -> None:
        self.artifact = artifact
        self.engine = engine
        self.lanes = Lanes(engine)
        self._family = family_of(artifact.manifest)
        self._preprocessing = artifact.manifest.preprocessing
        self._input = artifact.manifest.inputs[0].name

    def detect(
        self, data: bytes | memoryview, options: Thresholds, *, max_pixels: int = MAX_PIXELS
    ) -> Detected:
        """Find objects in an encoded picture.

        Args:
            data: A JPEG, PNG or WebP file.
            options: Thresholds.
            max_pixels: Larger pictures are refused before they are decoded.

        Raises:
            InvalidInput: See `seatrial.detect.decode.decode`.
        """
        self.lanes.arrive()
        return self.detect_admitted(data, options, max_pixels=max_pixels)

    def detect_admitted(
        self, data: bytes | memoryview, options: Thresholds, *, max_pixels: int = MAX_PIXELS
    ) -> Detected:
        """`detect` for a request that `Lanes.arrive` has counted already."""
        start = time.perf_counter()
        try:
            image = decode(data, max_pixels=max_pixels)
            decoded = time.perf_counter()
            batch, canvas = fit(image, self._preprocessing)
            feeds = self._family.feeds(canvas)
            fitted = time.perf_counter()
            with self.lanes.lane() as lane:
                begun = time.perf_counter()
                outputs = lane.infer({self._input: batch, **feeds})
                inferred = time.perf_counter()
                # Inside the lane: the arrays are the lane's own and change with its next call.
                detections = self._family.detections(outputs, canvas, options)
        finally:
            self.lanes.leave()
        done = time.perf_counter()
        times = (
            decoded - start,
            fitted - decoded,
            begun - fitted,
            inferred - begun,
            done - inferred,
        )
        stages_ms = {stage: 1e3 * t for stage, t in zip(STAGES, times, strict=True)}
        return Detected(image, detections, stages_ms, lane.threads)

    def warm_up(self) -> None:
        """Run every lane once: the first run allocates and compiles."""
        blank = np.zeros((*self._preprocessing.size_hw, 3), np.uint8)
        batch, canvas = fit(blank, self._preprocessing)
        feeds = {self._input: batch, **self._family.feeds(canvas)}
        for lane in (*self.engine.narrow, *([self.engine.wide] if self.engine.wide else [])):
            lane.infer(feeds)

    def close(self) -> None:
        """Release the engine."""
        self.engine.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
