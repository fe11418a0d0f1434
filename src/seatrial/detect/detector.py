"""The hot path of one request: bytes -> decode -> preprocess -> engine -> postprocess."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seatrial.artifact import Artifact
from seatrial.deployment import Thresholds
from seatrial.detect.canvas import CanvasRoom
from seatrial.detect.clock import Clock
from seatrial.detect.decode import decode
from seatrial.detect.decode_cost import DecodeCost
from seatrial.detect.detections import Detections
from seatrial.detect.early_release import EarlyRelease, copied
from seatrial.detect.families.base import OneByOne
from seatrial.detect.families.registry import family_of
from seatrial.detect.preprocess import Letterbox, fit
from seatrial.engines.base import Arrays, Engine, Lane
from seatrial.engines.batches import Batches
from seatrial.engines.lanes import Lanes
from seatrial.engines.places import Place, Share
from seatrial.engines.sized_lane import batch_sizes
from seatrial.errors import (
    EngineFailed,
    InvalidArtifact,
    InvalidConfig,
    InvalidInput,
    SeatrialError,
    first_line,
)

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

    def weigh(self, cost: DecodeCost) -> None:
        """Take what an image costs before it is decoded; here there is no budget of it.

        Args:
            cost: What decoding takes at most.
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
        batch_size: Images that the inference took at once.
        warnings: What is odd about the image, which can be used all the same.
    """

    image: NDArray[np.uint8]
    detections: Detections
    stages_ms: dict[str, float]
    lane_threads: int
    batch_size: int = 1
    warnings: tuple[str, ...] = ()


class Detector:
    """An artifact, an engine, and the family's pre- and postprocessing. Thread-safe.

    Args:
        artifact: Describes how images go in and boxes come out.
        engine: Compiled from the artifact; the detector owns it from here on.
        max_batch: Most images of a run, as the engine was opened for.
        delay_s: Longest time that an image waits for others although a lane is free.

    Attributes:
        lane_s: Seconds that a narrow lane takes for an image, as `warm_up` measured it; 0 before.
    """

    def __init__(
        self, artifact: Artifact, engine: Engine, max_batch: int = 1, delay_s: float = 0.0
    ) -> None:
        self.artifact = artifact
        self.engine = engine
        self.lanes = Lanes(engine, max_batch, delay_s)
        self.lane_s = 0.0
        # A bound method would keep the detector alive in a cycle.
        self._infer = partial(_infer, engine.name)
        self._runs = Batches(self.lanes, self._infer)
        self._early = EarlyRelease()
        self._family = family_of(artifact.manifest)
        self._preprocessing = artifact.manifest.preprocessing
        self._input = artifact.manifest.inputs[0].name

    @property
    def at_a_time(self) -> int:
        """Number of images that the narrow lanes compute at a time, at most."""
        return len(self.engine.narrow) * self.lanes.max_batch

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
        canvas = CanvasRoom(self._preprocessing)
        image = (
            data
            if isinstance(data, np.ndarray)
            else decode(
                data,
                max_pixels=max_pixels,
                on_warning=odd.append,
                on_cost=ticket.weigh,
                room=canvas.room,
            )
        )
        clock.lap("decode")
        ticket.keep(image.nbytes)
        ticket.check()
        batch, letterbox = canvas.fitted(image) or fit(image, self._preprocessing)
        feeds = self._family.feeds(letterbox)
        clock.lap("preprocess")
        share = self._runs.run(ticket, {self._input: batch, **feeds})
        clock.lap("queue", share.began)
        clock.lap("infer", share.ended)
        detections = self._read(share, letterbox, options)
        clock.lap("postprocess")
        return Detected(
            image, detections, dict(clock.stages_ms), share.threads, share.size, tuple(odd)
        )

    def _read(self, share: Share, letterbox: Letterbox, options: Thresholds) -> Detections:
        """The detections of an image; its lane is released as soon as the outputs allow it."""
        lane, outputs = share.lane, share.outputs
        begin = time.perf_counter()
        failed = True
        try:
            if lane is not None and self.lanes.waiting and self._early.pays(options):
                outputs = copied(outputs)
                self.lanes.release(lane, ran=True)
                lane, now = None, time.perf_counter()
                self._early.copied(now - begin)
                begin = now
            detections = self._family.detections(outputs, letterbox, options)
            failed = False
        finally:
            if share.ran_on is not None:
                self.lanes.judge(share.ran_on, failed=failed)
            if lane is not None:
                self.lanes.release(lane, ran=not failed)
        self._early.read(options, time.perf_counter() - begin)
        share.feeds, share.outputs = {}, {}  # the ticket lives until the answer is sent
        return detections

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
            InvalidInput: The engine raised, and runs on an image of ours: the tensors are at fault.
            EngineFailed: The engine raised on both.
            Abandoned: The ticket was cancelled before a lane was free.
        """
        lane = self.lanes.acquire(ticket)
        assert lane is not None  # noqa: S101 - it shares no run
        ran = failed = False
        try:
            ticket.clock.lap("queue")
            try:
                outputs = self._infer(lane, feeds)
            except EngineFailed as error:
                failed = True
                self.check(lane)
                failed = False
                raise InvalidInput(
                    "the graph does not run on these tensors, and does on an image of ours",
                    hint="see what values its inputs may have",
                ) from error
            ticket.clock.lap("infer")
            own = copied(outputs) if lane.lends else outputs
            ran = True
        finally:
            self.lanes.judge(lane, failed=failed)
            self.lanes.release(lane, ran=ran)
        ticket.clock.lap("postprocess")
        return own, lane.threads

    def warm_up(self) -> None:
        """Run every lane once: the first run allocates and compiles. Then time a narrow one.

        Raises:
            InvalidArtifact: The graph does not run on an image.
            InvalidConfig: It does not keep the images of a batch apart.
        """
        feeds, _ = self._blank()
        try:
            for lane in (*self.engine.narrow, *([self.engine.wide] if self.engine.wide else [])):
                outputs = lane.infer(feeds)
            for size in batch_sizes(self.lanes.max_batch)[1:]:
                self._warm_up_batch(feeds, size)
            self.lane_s = self.image_s(1)
            for _ in range(2):
                start = time.perf_counter()
                copied(outputs)
                self._early.copied(time.perf_counter() - start)
        except SeatrialError:
            raise
        except Exception as error:  # runtimes' errors share no base
            raise InvalidArtifact(
                f"{self.artifact.manifest.name} does not run on {self.engine.name}: "
                f"{first_line(error)}",
                hint="try another --engine, or import its model file again",
            ) from error

    def _warm_up_batch(self, feeds: Arrays, size: int) -> None:
        several = {name: np.concatenate([array] * size) for name, array in feeds.items()}
        for lane in self.engine.narrow:
            outputs = lane.infer(several)
        family = self._family
        mixed = [name for name, array in outputs.items() if array.shape[:1] != (size,)]
        if isinstance(family, OneByOne) and family.one_by_one():
            mixed = [*outputs]
        if mixed:
            raise InvalidConfig(
                f"{self.artifact.manifest.name} does not keep the images of a batch apart: its "
                f"output {mixed[0]} is {list(outputs[mixed[0]].shape)} for {size} images",
                hint="leave out batching.max_batch",
            )

    def image_s(self, size: int) -> float:
        """Seconds that a narrow lane, which no request has, takes for each image of a batch."""
        feeds, _ = self._blank()
        several = {name: np.concatenate([array] * size) for name, array in feeds.items()}
        # The shorter of two: processes that start side by side share the cores.
        taken: list[float] = []
        for _ in range(2):
            start = time.perf_counter()
            self.engine.narrow[0].infer(several)
            taken.append(time.perf_counter() - start)
        return min(taken) / size

    def close(self) -> None:
        """Release the engine and its lanes: no request may be here."""
        self.lanes.close()
        self.engine.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _infer(engine: str, lane: Lane, feeds: Arrays) -> dict[str, NDArray[Any]]:
    """The outputs of a lane, or `EngineFailed` whatever the runtime raises."""
    try:
        return lane.infer(feeds)
    except (SeatrialError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit would end the event loop of a service
        raise EngineFailed(
            f"the {engine} engine failed",
            cause=f"{type(error).__name__}: {first_line(error)}",
            hint="try another image; where each fails, try another --engine",
        ) from error
