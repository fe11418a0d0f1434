"""The ticket of a request: its admission, its deadline and its clock, from headers to answer."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

from seatrial.deployment import Limits
from seatrial.detect.decode_cost import DecodeCost
from seatrial.detect.detector import Detector, Ticket
from seatrial.errors import DeadlineExceeded, SeatrialError
from seatrial.serve.asked import Asked
from seatrial.serve.decode_memory import DecodeMemory
from seatrial.serve.decode_time import check_beside, check_in_time, check_possible
from seatrial.serve.forecast import Forecast, Promise, Took


class Giver(Protocol):
    """The part of `seatrial.serve.admission.Dispatcher` that the tickets use which it gives."""

    detector: Detector
    limits: Limits
    deadline_s: float
    forecast: Forecast
    memory: DecodeMemory

    def check_deadline(self, promise: Promise, deadline_s: float, here: int = 0) -> None:
        """Refuse what would be late."""

    def hold(self, ticket: Admitted, body_bytes: int) -> None:
        """Count a body that is here in the place of the one that was expected."""

    def failed(self, ticket: Admitted, error: SeatrialError) -> None:
        """End a request whose thread may never come back; on any thread."""

    def ended(self, ticket: Admitted) -> None:
        """A request is here no more."""


class Admitted(Ticket):
    """The ticket of a request that was let in.

    Attributes:
        promise: When it is expected to be answered.
        took: Time that it took; None until it is answered.
        bound_s: Most seconds that decoding its image takes; 0 before the header is read.
        decoded: Time that decoding its image took; None before, and where it has no header.
        body_s: Seconds that its body may take to arrive.
        own_time: Whether its own deadline says so, and not `Limits.body_s`.
        held_bytes: Longest body that it may have.
        arrived_bytes: Length of what has arrived of it; None where that is not known.
        loop: Where it waits for a turn or its answer; None before.
        awaited: That, as long as it waits.
        has_turn: Whether it has one of the turns on threads.
        names_deadline: Whether the request named its deadline itself.
        one_of_several: Whether it is for one of several images of a request, which are let in
            together.
    """

    __slots__ = (
        "_arrived", "_default_s", "_dispatcher", "arrived_bytes", "awaited", "body_s",
        "bound_s", "decoded", "has_turn", "held_bytes", "loop", "names_deadline",
        "one_of_several", "own_time", "promise", "took",
    )  # fmt: skip

    def __init__(self, dispatcher: Giver, promise: Promise, asked: Asked, held_bytes: int) -> None:
        self._dispatcher = dispatcher
        self._arrived = time.monotonic()
        self.promise = promise
        self.took: Took | None = None
        self.bound_s = 0.0
        self.decoded: Took | None = None
        self.held_bytes = held_bytes
        self.arrived_bytes: int | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.awaited: asyncio.Future[Any] | None = None
        self.has_turn = self.one_of_several = False
        limit_s = dispatcher.limits.body_s
        self.body_s = min(limit_s, asked.deadline_s or limit_s)
        self.own_time = self.body_s < limit_s
        # The sender's line is no fault of the service: its own deadline counts without it.
        self._default_s = None if asked.deadline_s else dispatcher.deadline_s
        self.names_deadline = self._default_s is None
        first_s = asked.deadline_s or limit_s + dispatcher.deadline_s
        super().__init__(dispatcher.detector.lanes, first_s, batch=asked.batch)

    def follow(self, before: Admitted) -> None:
        """Go on where another ticket of the same request ended: with its clock and its start."""
        self.clock, self._arrived = before.clock, before._arrived
        if self._default_s is None:
            self.deadline_s = before.deadline_s

    @property
    def left_s(self) -> float | None:
        """Seconds that are left of the deadline that the request named; None where it has none."""
        return max(1e-6, self.remaining_s()) if self._default_s is None else None

    def ask(self, asked: Asked) -> None:
        """Take what only the body says: another deadline, counted from the headers, or priority.

        Raises:
            Overloaded: It would not be answered by that deadline.
            DeadlineExceeded: That deadline has passed.
        """
        if asked.batch and not self.batch:
            self.batch = True
            self._dispatcher.forecast.yields(self.promise)
        if asked.deadline_s is not None:
            self._default_s = None
            self.names_deadline = True
            self.expire_in(asked.deadline_s, time.monotonic() - self._arrived)
            self.check()
            self._dispatcher.check_deadline(self.promise, asked.deadline_s, here=1)

    def arrives(self, body_bytes: int, of_bytes: int = 0) -> None:
        """So much of the body is here; of a packed one such a part of its declared length."""
        self.arrived_bytes = self.held_bytes * body_bytes // of_bytes if of_bytes else body_bytes

    def measured(self, asked: Asked, body_bytes: int) -> None:
        """The body is here; where only its longest length was known before, count the real one."""
        if asked.body_bytes is None:
            self._dispatcher.hold(self, body_bytes)

    def arrived(self, body_bytes: int) -> None:
        """The body is here, and its length was only guessed before: count the real one.

        Raises:
            Overloaded: It would not be answered in time, or there is no room for so many bytes.
            DeadlineExceeded: The deadline has passed.
        """
        self.check()
        dispatcher = self._dispatcher
        dispatcher.hold(self, body_bytes)
        if body_bytes.bit_length() != self.promise.kind:
            dispatcher.forecast.ended(self.promise)
            self.promise = dispatcher.forecast.promise(body_bytes, batch=self.batch)
            dispatcher.forecast.accept(self.promise)
            left_s = self.remaining_s() if self._default_s is None else self._default_s
            dispatcher.check_deadline(self.promise, left_s, here=1)

    def ready(self) -> None:
        """The body is here."""
        super().ready()
        self.expire_with_body()
        self._dispatcher.forecast.arrived(self.promise)

    def expire_with_body(self) -> None:
        """Let the deployment's deadline count from now on, if the request has none."""
        if self._default_s is not None:
            self.expire_in(self._default_s)

    def too_late(self) -> DeadlineExceeded:
        """See `Place.too_late`."""
        error = super().too_late()
        error.asked = self.names_deadline
        return error

    def fail(self, error: SeatrialError) -> None:
        """See `Place.fail`; on any thread."""
        # The error first: a thread that waits for another one's run ends as abandoned.
        self._dispatcher.failed(self, error)
        super().fail(error)

    def weigh(self, cost: DecodeCost) -> None:
        """Refuse an image that would not be decoded in time, and take memory for the others.

        Raises:
            InvalidImage: It takes longer than a request may.
            Overloaded: It would not be answered in the time that is left, or see
                `DecodeMemory.take`.
        """
        dispatcher, self.bound_s = self._dispatcher, cost.cpu_s
        limit_s = max(self.deadline_s, dispatcher.deadline_s)
        check_possible(dispatcher.forecast, self.bound_s, limit_s)
        self.clock.lap("decode")
        dispatcher.memory.take(self, cost.peak_bytes, self.promise)
        self.clock.lap("queue")
        alone = dispatcher.detector.lanes.present <= 1
        check_in_time(self, self.promise, dispatcher.forecast, self.bound_s, alone=alone)
        if not self.batch:
            check_beside(
                dispatcher.forecast, self.promise, self.bound_s, dispatcher.deadline_s,
                together=self.one_of_several,
            )  # fmt: skip

    def keep(self, kept_bytes: int) -> None:
        """See `DecodeMemory.keep`."""
        if kept_bytes and self.bound_s:
            decode_s = 1e-3 * self.clock.stages_ms["decode"]
            self.decoded = Took(decode_s, decode_s, decode_s, self.bound_s)
        self._dispatcher.memory.keep(self, kept_bytes)

    def left(self) -> None:
        """The request is counted no more."""
        super().left()
        self._dispatcher.ended(self)
