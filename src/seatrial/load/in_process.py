"""A detector in this process as the target of a load: no HTTP, no second process.

What is measured is the work itself. The generator shares the interpreter with it: each request
waits for the other's Python, which the clock of the generator shows as lateness.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from time import perf_counter_ns
from typing import Any

import msgspec

from seatrial.errors import SeatrialError
from seatrial.load.run import Send
from seatrial.load.samples import TIMEOUT, Sample
from seatrial.load.target import Body

GOOD, NO_ANSWER = 200, 0


class Found(msgspec.Struct, frozen=True):
    """Answer of a detector in this process.

    Attributes:
        detections: Number of detections; None where it does not say.
        timing_ms: Stage times; None where there are none.
    """

    detections: int | None = None
    timing_ms: Mapping[str, float] | None = None


# Called in a thread of the pool with the bytes of an image.
Detect = Callable[[bytes], Found]


class InProcessTarget(msgspec.Struct, frozen=True):
    """A detector in this process, in the place of a service.

    Attributes:
        detect: Works on one image; see `in_process`.
        threads: Number of threads that call it.
        model: Its description, as a service gives it.
    """

    detect: Detect
    threads: int
    model: dict[str, Any]


@asynccontextmanager
async def in_process(detect: Detect, threads: int, timeout_s: float) -> AsyncIterator[Send]:
    """Threads that call a detector, as a function that sends it one image and gives the record.

    They live as long as the block. A request waits for a free thread as it would in the queue of a
    service, and that counts. Leaving the block waits for calls under way: a thread cannot be
    stopped.

    Args:
        detect: The detector. An error of the tree `seatrial.errors` is a failed request, with the
            HTTP status that a service gives it; any other is a mistake, and ends the load.
        threads: Number of threads that call it.
        timeout_s: Time after which a request has failed; its thread works on, as a service does
            whose client has gone.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="in-process") as pool:
        yield _Caller(detect, pool, timeout_s).send


class _Caller:
    def __init__(self, detect: Detect, pool: ThreadPoolExecutor, timeout_s: float) -> None:
        self._detect, self._pool, self._timeout_s = detect, pool, timeout_s

    async def send(self, body: Body, due_ns: int | None) -> Sample:
        """Have an image worked on, and time it from the hand-over to the detector's return."""
        start_ns = perf_counter_ns()
        asked = asyncio.get_running_loop().run_in_executor(self._pool, self._call, body.data)
        try:
            async with asyncio.timeout(self._timeout_s):
                found, end_ns = await asked
        except TimeoutError:
            return Sample(start_ns, perf_counter_ns(), NO_ANSWER, TIMEOUT, due_ns=due_ns)
        if isinstance(found, SeatrialError):
            error = f"in-process-{found.code}"
            return Sample(start_ns, end_ns, found.http_status, error, due_ns=due_ns)
        return Sample(
            start_ns=start_ns,
            end_ns=end_ns,
            status=GOOD,
            detections=found.detections,
            timing_ms=None if found.timing_ms is None else dict(found.timing_ms),
            due_ns=due_ns,
        )

    def _call(self, image: bytes) -> tuple[Found | SeatrialError, int]:
        try:
            found: Found | SeatrialError = self._detect(image)
        except SeatrialError as error:
            found = error
        # Here, in its thread: the way back to the event loop is the generator's.
        return found, perf_counter_ns()
