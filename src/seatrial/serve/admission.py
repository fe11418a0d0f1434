"""From the event loop to the detector's threads and back: admission, deadline, disconnects."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Callable
from typing import TypeVar

from starlette.types import Receive

from seatrial.deployment import Limits, Thresholds
from seatrial.detect.detector import Detected, Detector
from seatrial.errors import DeadlineExceeded, Overloaded

T = TypeVar("T")


class Disconnected(Exception):
    """The client went away; there is nobody to answer."""


class Dispatcher:
    """Runs a detector's requests on threads of its own.

    Two threads for each lane: while one infers, the other has the next picture decoded and waits
    to follow at once. With fewer the lanes stand idle between requests (1.1 ms of 47 here).

    Args:
        detector: Does the work.
        limits: What is refused.
    """

    def __init__(self, detector: Detector, limits: Limits) -> None:
        self.detector = detector
        self.limits = limits
        self._threads = concurrent.futures.ThreadPoolExecutor(
            max_workers=2 * len(detector.engine.narrow), thread_name_prefix="request"
        )

    @property
    def present(self) -> int:
        """Requests that wait or run."""
        return self.detector.lanes.present

    async def run(
        self,
        data: bytes | bytearray,
        options: Thresholds,
        finish: Callable[[Detected], T],
        receive: Receive,
    ) -> T:
        """Detect, then ``finish``, off the event loop.

        Args:
            data: The encoded picture.
            options: Thresholds.
            finish: Makes the answer; runs on the same thread.
            receive: The request's ASGI channel, its body read: says when the client goes away.

        Raises:
            Overloaded: As many requests as may be are here already; nothing was done.
            DeadlineExceeded: Not answered in time.
            Disconnected: The client went away; if the work had not begun it never will.
            InvalidInput: See `Detector.detect`.
        """
        lanes = self.detector.lanes
        if lanes.present >= self.limits.queue:
            raise Overloaded(
                f"{lanes.present} requests wait or run already", hint="try again in a second"
            )
        lanes.arrive()
        work = self._threads.submit(self._work, data, options, finish)
        # One that never began is counted out here; one that did counts itself out.
        work.add_done_callback(lambda done: lanes.leave() if done.cancelled() else None)
        answer = asyncio.wrap_future(work)
        gone = asyncio.ensure_future(receive())
        try:
            done, _ = await asyncio.wait(
                (answer, gone),
                timeout=self.limits.deadline_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            gone.cancel()
            if not answer.done():
                work.cancel()
        if answer in done:
            return answer.result()
        answer.cancel()
        if gone in done:
            raise Disconnected
        raise DeadlineExceeded(
            f"not answered within {self.limits.deadline_s:g} s",
            hint="send less at a time, or raise limits.deadline_s",
        )

    def _work(
        self, data: bytes | bytearray, options: Thresholds, finish: Callable[[Detected], T]
    ) -> T:
        result = self.detector.detect_admitted(
            memoryview(data), options, max_pixels=self.limits.image_pixels
        )
        return finish(result)

    def close(self) -> None:
        """Let running requests end, then release the detector."""
        self._threads.shutdown(wait=True)
        with contextlib.suppress(RuntimeError):
            self.detector.close()
