"""The hot path of one request: bytes -> decode -> preprocess -> engine -> postprocess."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seatrial.artifact import Artifact
from seatrial.deployment import Thresholds
from seatrial.detect.clock import Clock
from seatrial.detect.decode import decode
from seatrial.detect.detections import Detections
from seatrial.detect.families.registry import family_of
from seatrial.detect.preprocess import Letterbox, fit
from seatrial.engines.base import Arrays, Engine, Lane
from seatrial.engines.lanes import Lanes, Place
from seatrial.errors import EngineFailed, InvalidArtifact, SeatrialError, first_line

MAX_PIXELS = 50_000_000


class Ticket(Place):
    """One request on its way through a detector: its place among the lanes, and its clock.

    Args:
        lanes: The detector's lanes.
        deadline_s: Seconds from now until when the request has to be answered.
        batch: Whether live requests go before it.

    Attributes:
        clock: The time of each stage so far.
    """

    __slots__ = ("clock",)

    def __init__(self, lanes: Lanes, deadline_s: float = math.inf, *, batch: bool = False) -> None:
        self.clock = Clock()
        super().__init__(lanes, deadline_s, batch=batch)

    def reserve(self, peak_bytes: int) -> None:
        """Take memory before an image is decoded; here there is no budget of it.

        Args:
            peak_bytes: Memory that decoding takes at most.
        """

    def keep(self, kept_bytes: int) -> None:
        """Give back what an image no longer takes.

        Args:
            kept_bytes: Memory that the decoded image takes until the answer.
        """


@dataclass(frozen=True, slots=True)
class Detected:
    """Result of one request.

    Attributes:
        image: (H, W, 3) uint8 RGB, the source image, upright.
        detections: Boxes in its pixels.
        stages_ms: Stage name -> milliseconds, in the order in which the stages ended; ``queue``
            is the wait for a lane.
        lane_threads: Threads that computed the inference.
        warnings: What is odd about the image, which is whole all the same.
    """

    image: NDArray[np.uint8]
    detections: Detections
    stages_ms: dict[str, float]
    lane_threads: int
    warnings: tuple[str, ...] = ()


class Detector:
    """An artifact, an engine, and the family's pre- and postprocessing. Thread-safe.

    Args:
        artifact: Describes how images go in and boxes come out.
        engine: Compiled from the artifact; the detector owns it from here on.

    Attributes:
        lane_s: Seconds that a narrow lane takes for an image, as `warm_up` measured it; 0 before.
    """

    def __init__(self, artifact: Artifact, engine: Engine) -> None:
        self.artifact = artifact
        self.engine = engine
        self.lanes = Lanes(engine)
        self.lane_s = 0.0
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
            EngineFailed: The engine raised.
            Abandoned: The ticket was cancelled before a lane was free.
        """
        if ticket is None:
            with Ticket(self.lanes) as own:
                own.ready()
                return self.detect(data, options, max_pixels=max_pixels, ticket=own)
        clock = ticket.clock
        odd: list[str] = []
        image = (
            data
            if isinstance(data, np.ndarray)
            else decode(
                data,
                max_pixels=max_pixels,
                on_warning=odd.append,
                on_cost=lambda cost: ticket.reserve(cost.peak_bytes),
            )
        )
        clock.lap("decode")
        ticket.check()
        ticket.keep(image.nbytes)
        batch, letterbox = fit(image, self._preprocessing)
        feeds = self._family.feeds(letterbox)
        clock.lap("preprocess")
        lane = self.lanes.acquire(ticket)
        failed = True
        try:
            clock.lap("queue")
            outputs = self._infer(lane, {self._input: batch, **feeds})
            clock.lap("infer")
            # Before the lane is released: the arrays are its own and change with its next call.
            detections = self._family.detections(outputs, letterbox, options)
            failed = False
        finally:
            self.lanes.release(lane, failed=failed)
        clock.lap("postprocess")
        return Detected(image, detections, dict(clock.stages_ms), lane.threads, tuple(odd))

    def _infer(self, lane: Lane, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """The outputs of a lane, or `EngineFailed` whatever the runtime raises."""
        try:
            return lane.infer(feeds)
        except (SeatrialError, KeyboardInterrupt):
            raise
        except BaseException as error:  # SystemExit would end the event loop of a service
            raise EngineFailed(
                f"the {self.engine.name} engine failed",
                cause=f"{type(error).__name__}: {first_line(error)}",
                hint="try another image; where each fails, try another --engine",
            ) from error

    def check(self, lane: Lane) -> None:
        """Run a lane on a black image.

        Args:
            lane: A lane that no request has.

        Raises:
            EngineFailed: It raises, or its outputs are not those of the family.
        """
        feeds, letterbox = self._blank()
        outputs = self._infer(lane, feeds)
        try:
            self._family.detections(outputs, letterbox, Thresholds())
        except Exception as error:
            raise EngineFailed(
                f"the outputs of the {self.engine.name} engine give no detections: "
                f"{first_line(error)}"
            ) from error

    def _blank(self) -> tuple[dict[str, NDArray[Any]], Letterbox]:
        blank = np.zeros((*self._preprocessing.size_hw, 3), np.uint8)
        batch, letterbox = fit(blank, self._preprocessing)
        return {self._input: batch, **self._family.feeds(letterbox)}, letterbox

    def infer(self, feeds: Arrays, ticket: Ticket) -> tuple[dict[str, NDArray[Any]], int]:
        """Run the graph alone, without what is before and behind it.

        Args:
            feeds: See `seatrial.engines.base.Lane.infer`; all inputs.
            ticket: The request's ticket, held by the caller and ready.

        Returns:
            Output name -> array, the caller's own; and the threads that computed them.

        Raises:
            DeadlineExceeded: The ticket's deadline passed before a lane was free.
            EngineFailed: The engine raised.
            Abandoned: The ticket was cancelled before a lane was free.
        """
        lane = self.lanes.acquire(ticket)
        failed = True
        try:
            ticket.clock.lap("queue")
            outputs = self._infer(lane, feeds)
            ticket.clock.lap("infer")
            own = {name: np.array(array) for name, array in outputs.items()}
            failed = False
        finally:
            self.lanes.release(lane, failed=failed)
        ticket.clock.lap("postprocess")
        return own, lane.threads

    def warm_up(self) -> None:
        """Run every lane once: the first run allocates and compiles. Then time a narrow one.

        Raises:
            InvalidArtifact: The graph does not run on an image.
        """
        feeds, _ = self._blank()
        try:
            for lane in (*self.engine.narrow, *([self.engine.wide] if self.engine.wide else [])):
                lane.infer(feeds)
            # The shorter of two: processes that start side by side share the cores.
            taken: list[float] = []
            for _ in range(2):
                start = time.perf_counter()
                self.engine.narrow[0].infer(feeds)
                taken.append(time.perf_counter() - start)
            self.lane_s = min(taken)
        except SeatrialError:
            raise
        except Exception as error:  # runtimes' errors share no base
            raise InvalidArtifact(
                f"{self.artifact.manifest.name} does not run on {self.engine.name}: "
                f"{first_line(error)}",
                hint="try another --engine, or import its model file again",
            ) from error

    def close(self) -> None:
        """Release the engine and its lanes: no request may be here."""
        self.lanes.close()
        self.engine.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
