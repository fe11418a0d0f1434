"""From the event loop to the detector's threads and back: admission, deadline, disconnects."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

from starlette.types import Receive

from seatrial.deployment import Limits, Thresholds
from seatrial.detect.detector import Detected, Detector, Ticket
from seatrial.engines.lanes import Abandoned
from seatrial.errors import Overloaded

T = TypeVar("T")
CLOSE_S = 1.0  # the server has waited for `Limits.drain_s` before it closes


class Dispatcher:
    """Admits requests, and runs them on threads of its own.

    Two threads for each lane: while one infers, the other decodes the next image and waits to
    follow at once. With fewer the lanes stand idle between requests (1.1 ms of 47 here).

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

    def admit(self) -> Ticket:
        """A ticket for a request of which the headers are here and nothing else.

        The decision needs no byte of the body. It is made here and nowhere else; only the event
        loop calls this.

        Returns:
            The ticket, to be held until the request is answered: ``with dispatcher.admit()``.

        Raises:
            Overloaded: `Limits.queue` requests are here already.
        """
        present = self.detector.lanes.present
        if present >= self.limits.queue:
            raise Overloaded(
                f"{present} requests wait or run already", hint="try again in a second"
            )
        return Ticket(self.detector.lanes, self.limits.deadline_s)

    async def run(
        self,
        ticket: Ticket,
        data: bytes | bytearray,
        options: Thresholds,
        finish: Callable[[Detected], T],
        receive: Receive,
    ) -> T:
        """Detect, then ``finish``, off the event loop.

        Args:
            ticket: From `admit`, held.
            data: The encoded image.
            options: Thresholds.
            finish: Makes the answer; runs on the same thread.
            receive: The request's ASGI channel, its body read: reports when the client goes away.

        Raises:
            DeadlineExceeded: The answer was not there in time.
            Abandoned: The client went away.
            InvalidInput: See `Detector.detect`.

        When this ends without an answer, work that has no lane yet never gets one.
        """
        ticket.ready()
        answer = asyncio.wrap_future(
            self._threads.submit(self._work, ticket, data, options, finish)
        )
        gone = asyncio.ensure_future(receive())
        try:
            done, _ = await asyncio.wait(
                (answer, gone),
                timeout=ticket.remaining_s(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if answer in done:
                return answer.result()
            raise Abandoned if gone in done else ticket.too_late()
        finally:
            gone.cancel()
            if not answer.done():
                ticket.cancel()
                answer.cancel()  # and with it what waits for a thread

    def _work(
        self,
        ticket: Ticket,
        data: bytes | bytearray,
        options: Thresholds,
        finish: Callable[[Detected], T],
    ) -> T:
        with ticket:
            ticket.check()
            ticket.clock.lap("queue")  # the wait for this thread
            result = self.detector.detect(
                memoryview(data), options, max_pixels=self.limits.image_pixels, ticket=ticket
            )
            return finish(result)

    def close(self, wait_s: float = CLOSE_S) -> None:
        """Wait for running requests, then release the detector.

        Args:
            wait_s: Longest wait, seconds. The detector is not released under requests that still
                run then; `Lanes.present` counts them.
        """
        give_up = time.monotonic() + wait_s
        while self.detector.lanes.present:
            if time.monotonic() >= give_up:
                self._threads.shutdown(wait=False, cancel_futures=True)
                return
            time.sleep(0.01)
        self._threads.shutdown(wait=True)
        with contextlib.suppress(RuntimeError):
            self.detector.close()
