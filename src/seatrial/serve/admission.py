"""From the event loop to the detector's threads and back: admission, deadline, disconnects."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import msgspec
from starlette.types import Message, Receive

from seatrial.deployment import Limits, Thresholds
from seatrial.detect.decode import lacks_memory, out_of_memory
from seatrial.detect.detector import Detected, Detector
from seatrial.engines.places import Abandoned
from seatrial.errors import Overloaded, SeatrialError
from seatrial.serve.asked import NOTHING, Asked, watched
from seatrial.serve.bodies_to_come import BodiesToCome
from seatrial.serve.decode_memory import DecodeMemory, decode_memory
from seatrial.serve.forecast import Forecast, Promise, took_by
from seatrial.serve.tickets import Admitted
from seatrial.serve.turns import Turns
from seatrial.serve.watchdog import MOST_STUCK
from seatrial.system.memory import memory_left_bytes

T = TypeVar("T")
CLOSE_S = 1.0  # the server has waited for `Limits.drain_s` before it closes
# Deadline where the deployment names none: this, or so many times the time of one image,
# or of full runs of the engine.
DEADLINE_S, DEADLINE_IMAGES, DEADLINE_RUNS = 1.0, 10, 3
RENEWAL_WAIT_S = 2.0  # in which another lane is opened, mostly


class Dispatcher:
    """Admits requests, and runs them on threads of its own.

    Two threads for each image that the lanes take: while one infers, the other decodes the next
    image and waits to follow at once. With fewer the lanes stand idle between requests (1.1 ms of
    47 here). As many again for requests of a batch, so that these never hold the threads of live
    ones.

    Args:
        detector: Does the work.
        limits: What is refused.
        memory: Memory for decoding; None takes what this process may use.

    Attributes:
        limits: Those given, with the deadline that is in force.
        deadline_s: Seconds from the end of a request's body to its answer, where it asks for none.
        forecast: When requests will be answered.
        on_bytes: Called with the bytes that the body of a request may have, and with as many less
            when it ends.
        memory: Memory for decoding.
        bodies: Requests whose bodies are not here.
        on_detected: Called on a request's thread with its image, its thresholds and what was found.
    """

    def __init__(
        self, detector: Detector, limits: Limits, memory: DecodeMemory | None = None
    ) -> None:
        self.detector = detector
        lanes = len(detector.engine.narrow)
        lane_s = detector.lane_s
        # To a tenth: it is shown, and an edge of the buckets of metrics.
        run_s = detector.lanes.max_batch * lane_s
        own_s = max(DEADLINE_S, DEADLINE_IMAGES * lane_s, DEADLINE_RUNS * run_s)
        own_s = math.ceil(10 * own_s) / 10
        self.deadline_s = limits.deadline_s or own_s
        self.limits = msgspec.structs.replace(limits, deadline_s=self.deadline_s)
        threads = 2 * detector.at_a_time
        self.forecast = Forecast(lanes, lane_s, threads=threads)
        self.memory = memory or decode_memory(memory_left_bytes(), limits)
        self.bodies = BodiesToCome()
        self._turns = Turns(threads)
        self.on_bytes: Callable[[int], object] = lambda change: None
        self.on_detected: Callable[[Any, Thresholds, Detected], object] | None = None
        self._held_bytes = 0
        self._lock = threading.Lock()  # requests end on threads
        self._working = 0  # threads that are in `_work`
        self._threads = concurrent.futures.ThreadPoolExecutor(
            max_workers=2 * threads + MOST_STUCK, thread_name_prefix="request"
        )

    @property
    def running(self) -> bool:
        """Whether there are requests, or threads that still work for one that was given up."""
        return bool(self.detector.lanes.present or self._working)

    def admit(self, asked: Asked = NOTHING) -> Admitted:
        """A ticket for a request of which the headers are here and nothing else.

        Only the event loop calls this.

        Returns:
            The ticket, to be held until the request is answered: ``with dispatcher.admit()``.

        Raises:
            Overloaded: See `check`.
        """
        promise, held_bytes = self.check(asked)
        with self._lock:
            self._held_bytes += held_bytes
        self.on_bytes(held_bytes)
        self.forecast.accept(promise)
        return Admitted(self, promise, asked, held_bytes)

    def admit_from(self, before: Admitted, body_bytes: int) -> Admitted:
        """A ticket for a request that another service has let in, and whose body is here.

        Args:
            before: The ticket there.
            body_bytes: Length of its body.

        Raises:
            Overloaded: See `check`.
        """
        ticket = self.admit(Asked(body_bytes, before.left_s, before.batch))
        ticket.follow(before)
        return ticket

    def check(self, asked: Asked) -> tuple[Promise, int]:
        """Whether a request would be admitted now.

        The decision needs no byte of the body. It is made here and nowhere else.

        Returns:
            When it would be answered, and the bytes that its body may have.

        Raises:
            Overloaded: No lane works, it could not be answered in time, `Limits.queue` requests
                are here, or their bodies take `Limits.bytes_in_flight` already.
        """
        present = self.detector.lanes.present
        if not self.detector.lanes.usable:
            raise Overloaded(
                "no lane of the engine works at this moment",
                hint="try again in a few seconds; the log of the service says why",
                reason="lanes",
                wait_s=RENEWAL_WAIT_S,
            )
        deadline_s = self.deadline_s if asked.deadline_s is None else asked.deadline_s
        promise = self.forecast.promise(asked.body_bytes or 0)
        self.check_deadline(promise, deadline_s)
        bodies = self.bodies
        if present - bodies.going >= self.limits.queue and not bodies.give_way(1, 0):
            raise Overloaded(
                f"{present} requests wait or run already",
                hint="try again in a second",
                reason="queue",
                wait_s=promise.finish_s,
            )
        held_bytes = min(
            self.limits.body_bytes if asked.body_bytes is None else asked.body_bytes,
            self.limits.body_bytes,
        )
        self._check_bytes(held_bytes, present, promise)
        return promise, held_bytes

    def check_deadline(self, promise: Promise, deadline_s: float, here: int = 0) -> None:
        """Refuse what would be late.

        Args:
            promise: Its forecast.
            deadline_s: Seconds that it has, from where the forecast counts.
            here: Places that it has among the lanes already.

        Raises:
            Overloaded: It would be answered later, and is not the only one.
        """
        # The first is let in whatever is foretold: how else would a wrong forecast be mended?
        alone = self.detector.lanes.present <= here
        if not alone and self.forecast.late_s(promise) > deadline_s:
            raise Overloaded(
                f"it would be answered after {promise.finish_s:.2g} s, and has {deadline_s:g} s",
                hint="send less at a time, or give it more time",
                reason="deadline",
                wait_s=promise.finish_s,
            )

    def hold(self, ticket: Admitted, body_bytes: int) -> None:
        """Count a body that is here in the place of the one that was expected.

        Raises:
            Overloaded: The bodies take more than `Limits.bytes_in_flight` with it.
        """
        more = body_bytes - ticket.held_bytes
        with self._lock:
            self._held_bytes += more
        ticket.held_bytes = body_bytes
        self.on_bytes(more)
        self._check_bytes(0, self.detector.lanes.present - 1, ticket.promise)

    def _check_bytes(self, more: int, others: int, promise: Promise) -> None:
        held_bytes = self._held_bytes - self.bodies.going_bytes
        over = held_bytes + more - self.limits.bytes_in_flight
        if others > 0 and over > 0 and not self.bodies.give_way(0, over):
            raise Overloaded(
                f"the bodies of {others} requests take {self._held_bytes} bytes already",
                hint="try again in a second",
                reason="bytes",
                wait_s=promise.finish_s,
            )

    def ended(self, ticket: Admitted) -> None:
        """A request is here no more."""
        self.memory.keep(ticket, 0)
        with self._lock:
            self._held_bytes -= ticket.held_bytes
        self.on_bytes(-ticket.held_bytes)
        self.forecast.ended(ticket.promise, ticket.took)

    async def run(
        self,
        ticket: Admitted,
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
            Overloaded: Other requests had the memory that it needs, or there was not enough.
            Abandoned: The client went away.
            EngineFailed: The engine raised, or does not end.
            InvalidInput: See `Detector.detect`.

        When this ends without an answer, work that has no lane yet never gets one.
        """

        def work() -> T:
            return finish(self.detect(ticket, data, options))

        with watched(receive) as gone:
            return await self.work(ticket, work, gone)

    def detect(
        self, ticket: Admitted, data: bytes | bytearray | memoryview, options: Thresholds
    ) -> Detected:
        """`Detector.detect` within the limits; for a thread of the service."""
        found = self.detector.detect(
            memoryview(data), options, max_pixels=self.limits.image_pixels, ticket=ticket
        )
        if self.on_detected is not None:
            self.on_detected(data, options, found)
        return found

    async def work(
        self, ticket: Admitted, work: Callable[[], T], gone: asyncio.Future[Message]
    ) -> T:
        """Do some work on a thread of the service when it is the ticket's turn.

        Args:
            ticket: Held; its clock has all that the work did when this returns.
            work: Runs the engine once.
            gone: Done when the client goes away; see `watched`.

        Raises:
            DeadlineExceeded: The answer was not there in time.
            Abandoned: The client went away.
        """
        ticket.ready()
        loop = asyncio.get_running_loop()
        ticket.failure = loop.create_future()
        turn = self._turns.take(batch=ticket.batch)
        if turn is not None:
            try:
                await self._first(turn, gone, ticket)
            except BaseException:
                if turn.done() and not turn.cancelled():  # it came too late
                    self._turns.give_back(batch=ticket.batch)
                raise
        ticket.has_turn = True
        done = self._threads.submit(self._work, ticket, work)
        done.add_done_callback(lambda _: _on_loop(loop, self._end_turn, ticket))
        return await self._first(asyncio.wrap_future(done), gone, ticket)

    async def _first(
        self, wanted: asyncio.Future[T], gone: asyncio.Future[Message], ticket: Admitted
    ) -> T:
        """The result of ``wanted``, unless the client goes, the engine hangs, or it is too late."""
        failure = ticket.failure
        assert failure is not None  # noqa: S101 - `run` made it
        try:
            done, _ = await asyncio.wait(
                (wanted, gone, failure),
                timeout=ticket.remaining_s(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if failure in done:  # first: its thread may have ended because of it
                raise failure.result()
            if wanted in done:
                return wanted.result()
            raise Abandoned if gone in done else ticket.too_late()
        finally:
            if not wanted.done():
                ticket.cancel()
                wanted.cancel()  # and with it what waits for a thread

    def failed(self, ticket: Admitted, error: SeatrialError) -> None:
        """End a request whose thread may never come back; on any thread."""
        failure = ticket.failure
        if failure is None:
            return

        def end() -> None:
            if not failure.done():
                failure.set_result(error)
            self._end_turn(ticket)

        _on_loop(failure.get_loop(), end)

    def _end_turn(self, ticket: Admitted) -> None:
        if ticket.has_turn:
            ticket.has_turn = False
            self._turns.give_back(batch=ticket.batch)

    def _work(self, ticket: Admitted, work: Callable[[], T]) -> T:
        with ticket, self._counted_work(ticket):
            ticket.check()
            ticket.clock.lap("queue")  # the wait for this thread
            try:
                answer = work()
            except Exception as error:
                if lacks_memory(error):
                    raise out_of_memory() from error
                raise
            size = 1 if ticket.share is None else ticket.share.size
            ticket.took = took_by(ticket.clock.stages_ms, size, ticket.bound_s)
            return answer

    @contextlib.contextmanager
    def _counted_work(self, ticket: Admitted) -> Iterator[None]:
        with self._lock:
            self._working += 1
        try:
            yield
        finally:
            ticket.keep(0)  # it may have been given up before it took memory
            with self._lock:
                self._working -= 1

    def close(self, wait_s: float = CLOSE_S) -> None:
        """Wait for running requests, then release the detector.

        Args:
            wait_s: Longest wait, seconds. The detector is not released under requests that are
                still `running` then.
        """
        give_up = time.monotonic() + wait_s
        while self.running:
            if time.monotonic() >= give_up:
                self._threads.shutdown(wait=False, cancel_futures=True)
                return
            time.sleep(0.01)
        self._threads.shutdown(wait=True)
        with contextlib.suppress(RuntimeError):
            self.detector.close()


def _on_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *args: object) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(call, *args)
