"""Which requests are let in, by the time, the places and the memory that there are."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from starlette.types import Message, Receive

from seatrial.deployment import Limits, Thresholds
from seatrial.detect.detector import Detected, Detector
from seatrial.errors import Overloaded, SeatrialError
from seatrial.serve.asked import NOTHING, Asked, watched
from seatrial.serve.bodies_to_come import BodiesToCome
from seatrial.serve.decode_memory import DecodeMemory, decode_memory
from seatrial.serve.forecast import Forecast, Promise, in_words
from seatrial.serve.request_threads import RequestThreads
from seatrial.serve.tickets import Admitted
from seatrial.system.memory import memory_left_bytes

T = TypeVar("T")
CLOSE_S = 1.0  # the server has waited for `Limits.drain_s` before it closes
# Deadline where the deployment names none: this, or so many times the time of one image, or of full
# runs of the engine.
DEADLINE_S, DEADLINE_IMAGES, DEADLINE_RUNS = 1.0, 10, 3
RENEWAL_WAIT_S = 2.0  # in which another lane is opened, mostly
# A live request with a longer deadline than the deployment's is let in where that one would be met;
# or, where its own work takes most of that, if it waits for no more than such a share of it.
OWN_WAIT = 0.5
# Share of the places and of the bytes that requests of a batch may take.
BATCH_SHARE = 0.5
MORE_TIME = "send less at a time, or give it more time"
AS_BATCH = "send less at a time, or as a batch with more time (X-Request-Priority)"


class Refusal(msgspec.Struct, frozen=True):
    """Why a request is not let in: what an `Overloaded` says.

    Under overload most requests are refused, and an error that is raised costs several times as
    much.
    """

    message: str
    hint: str
    reason: str
    wait_s: float

    def error(self) -> Overloaded:
        """The same as an error."""
        return Overloaded(self.message, hint=self.hint, reason=self.reason, wait_s=self.wait_s)


class Dispatcher:
    """Admits requests, and runs them on threads of its own.

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
        threads: Where requests run.
        departures: Number of requests that were let in and are here no more.
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
        self.threads = RequestThreads(threads)
        self.on_bytes: Callable[[int], object] = lambda change: None
        self.on_detected: Callable[[Any, Thresholds, Detected], object] | None = None
        self.departures = 0
        self._held_bytes = 0
        self._lock = threading.Lock()  # requests end on threads

    @property
    def running(self) -> bool:
        """Whether there are requests, or threads that still work for one that was given up."""
        return bool(self.detector.lanes.present or self.threads.working)

    @property
    def idle(self) -> bool:
        """Whether no request is here, and lanes work."""
        lanes = self.detector.lanes
        return not lanes.present and lanes.usable > 0

    def admit(self, asked: Asked = NOTHING) -> Admitted:
        """A ticket for a request of which the headers are here and nothing else.

        Only the event loop calls this.

        Returns:
            The ticket, to be held until the request is answered: ``with dispatcher.admit()``.

        Raises:
            Overloaded: See `refusal`.
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
            Overloaded: See `refusal`.
        """
        ticket = self.admit(Asked(body_bytes, before.left_s, before.batch))
        ticket.follow(before)
        return ticket

    def check(self, asked: Asked) -> tuple[Promise, int]:
        """Whether a request would be admitted now.

        Returns:
            When it would be answered, and the bytes that its body may have.

        Raises:
            Overloaded: See `refusal`.
        """
        promise = self._promise(asked)
        if refusal := self._refusal(asked, promise):
            raise refusal.error()
        return promise, self._held(asked)

    def refusal(self, asked: Asked) -> Refusal | None:
        """Why a request would not be admitted now; None where it would be.

        The decision needs no byte of the body: no lane works, the request could not be answered in
        time, `Limits.queue` requests are here, or their bodies take `Limits.bytes_in_flight`
        already.
        """
        return self._refusal(asked, self._promise(asked))

    def _promise(self, asked: Asked) -> Promise:
        return self.forecast.promise(asked.body_bytes or 0, batch=asked.batch)

    def _refusal(self, asked: Asked, promise: Promise) -> Refusal | None:
        """The decision: it is made here and nowhere else."""
        lanes = self.detector.lanes
        if not lanes.usable:
            return Refusal(
                "no lane of the engine works at this moment",
                "try again in a few seconds; the log of the service says why",
                "lanes",
                RENEWAL_WAIT_S,
            )
        deadline_s = self.deadline_s if asked.deadline_s is None else asked.deadline_s
        if late := self._late(promise, deadline_s, 0):
            return late
        if deadline_s > self.deadline_s and (crowds := self._crowds(promise)):
            return crowds
        present, bodies = lanes.present, self.bodies
        most = self._most(self.limits.queue, promise)
        if present - bodies.going >= most and not bodies.give_place():
            return Refusal(
                f"{present} requests wait or run already",
                "try again in a second",
                "queue",
                promise.finish_s,
            )
        held = self._held(asked)
        return self._too_many_bytes(held, present, promise, held)

    def _held(self, asked: Asked) -> int:
        """Bytes that the body of a request may have."""
        most = self.limits.body_bytes
        told = asked.most_bytes if asked.body_bytes is None else asked.body_bytes
        return most if told is None else min(told, most)

    def check_deadline(self, promise: Promise, deadline_s: float, here: int = 0) -> None:
        """Refuse what would be late.

        Args:
            promise: Its forecast.
            deadline_s: Seconds that it has, from where the forecast counts.
            here: Places that it has among the lanes already.

        Raises:
            Overloaded: It would be answered later, and is not the only one.
        """
        if late := self._late(promise, deadline_s, here):
            raise late.error()

    def _late(self, promise: Promise, deadline_s: float, here: int) -> Refusal | None:
        # The first is let in whatever is foretold: how else would a wrong forecast be mended?
        if self.detector.lanes.present <= here or self.forecast.late_s(promise) <= deadline_s:
            return None
        nearly_all_s = in_words(self.forecast.nearly_all_s(promise), deadline_s)
        return Refusal(
            f"19 of 20 such requests are answered within {nearly_all_s} s, and this one has "
            f"{deadline_s:g} s",
            MORE_TIME if deadline_s < self.deadline_s else AS_BATCH,
            "deadline",
            promise.finish_s,
        )

    def _crowds(self, promise: Promise) -> Refusal | None:
        """The refusal of a live request that would make the queue longer than others can wait.

        Those with the deployment's deadline would be refused for as long as such requests come.
        """
        longest_s = max(self.deadline_s, OWN_WAIT * self.deadline_s + promise.work_s)
        if promise.batch or not self.detector.lanes.present:
            return None
        if self.forecast.late_s(promise) <= longest_s:
            return None
        nearly_all_s = in_words(self.forecast.nearly_all_s(promise), self.deadline_s)
        return Refusal(
            f"19 of 20 such requests are answered within {nearly_all_s} s, and the queue of live "
            f"requests is for {self.deadline_s:g} s",
            AS_BATCH,
            "deadline",
            promise.finish_s,
        )

    def _most(self, limit: int, promise: Promise) -> int:
        """How much of a limit such requests may take."""
        return math.ceil(BATCH_SHARE * limit) if promise.batch else limit

    def hold(self, ticket: Admitted, body_bytes: int) -> None:
        """Count a body that is here in the place of the one that was expected.

        Raises:
            Overloaded: It is longer than was expected, and the bodies take more than
                `Limits.bytes_in_flight` with it.
        """
        more = body_bytes - ticket.held_bytes
        with self._lock:
            self._held_bytes += more
        ticket.held_bytes = body_bytes
        self.on_bytes(more)
        if more <= 0:  # it gives bytes back: others may have come since it was let in
            return
        others = self.detector.lanes.present - 1
        if refusal := self._too_many_bytes(0, others, ticket.promise, body_bytes):
            raise refusal.error()

    def _too_many_bytes(
        self, more: int, others: int, promise: Promise, body_bytes: int
    ) -> Refusal | None:
        held_bytes = self._held_bytes - self.bodies.going_bytes
        over = held_bytes + more - self._most(self.limits.bytes_in_flight, promise)
        if others <= 0 or over <= 0 or self.bodies.give_bytes(over, body_bytes):
            return None
        bodies = (
            "the body of 1 request takes"
            if others == 1
            else f"the bodies of {others} requests take"
        )
        return Refusal(
            f"{bodies} {self._held_bytes} bytes already",
            "try again in a second",
            "bytes",
            promise.finish_s,
        )

    def ended(self, ticket: Admitted) -> None:
        """A request is here no more."""
        self.memory.keep(ticket, 0)
        self.forecast.ended(ticket.promise, ticket.took, ticket.decoded)
        with self._lock:
            self._held_bytes -= ticket.held_bytes
            self.departures += 1  # when all else is as it will be
        self.on_bytes(-ticket.held_bytes)

    async def run(
        self,
        ticket: Admitted,
        data: bytes | bytearray,
        options: Thresholds,
        finish: Callable[[Detected], T],
        receive: Receive,
        done: Callable[[T], object] = lambda made: None,
    ) -> T:
        """Detect, then ``finish``, off the event loop.

        Args:
            ticket: From `admit`, held.
            data: The encoded image.
            options: Thresholds.
            finish: Makes the answer; runs on the same thread.
            receive: The request's ASGI channel, its body read: reports when the client goes away.
            done: Called on the event loop with what ``finish`` made, before this returns it.

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
            return await self.threads.work(ticket, work, gone, done)

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
        """See `RequestThreads.work`."""
        return await self.threads.work(ticket, work, gone)

    def failed(self, ticket: Admitted, error: SeatrialError) -> None:
        """End a request whose thread may never come back; on any thread."""
        self.threads.fail(ticket, error)

    def close(self, wait_s: float = CLOSE_S) -> None:
        """Wait for running requests, then release the detector.

        Args:
            wait_s: Longest wait, seconds. The detector is not released under requests that are
                still `running` then.
        """
        give_up = time.monotonic() + wait_s
        while self.running:
            if time.monotonic() >= give_up:
                self.threads.close(wait=False)
                return
            time.sleep(0.01)
        self.threads.close(wait=True)
        with contextlib.suppress(RuntimeError):
            self.detector.close()
