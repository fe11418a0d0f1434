"""Places of requests among the lanes of an engine."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, Protocol, Self

from numpy.typing import NDArray

from seatrial.engines.base import Arrays, Lane
from seatrial.errors import DeadlineExceeded, SeatrialError


class Abandoned(Exception):
    """The request was given up: no caller waits for its answer."""


class Share:
    """One request's part of a run of the engine, which others may share.

    Attributes:
        feeds: Input name -> array of batch size 1.
        outputs: Output name -> array of batch size 1; there when the run is over.
        error: What the run raised in their place.
        began: When the run began, and
        ended: when it was over, on the clock of `time.perf_counter`.
        threads: Number of threads of the lane.
        size: Number of requests of the run.
        ran_on: The lane; None before.
        lane: The lane where it is still held, since the outputs are its own.
    """

    __slots__ = (
        "began", "ended", "error", "feeds", "lane", "outputs", "ran_on", "size", "threads"
    )  # fmt: skip

    def __init__(self, feeds: Arrays) -> None:
        self.feeds = feeds
        self.outputs: dict[str, NDArray[Any]] = {}
        self.error: SeatrialError | None = None
        self.began = self.ended = 0.0
        self.threads, self.size = 0, 1
        self.ran_on: Lane | None = None
        self.lane: Lane | None = None


class Keeper(Protocol):
    """Keeps places: `seatrial.engines.lanes.Lanes`. Each method takes its lock."""

    def enter(self, place: Place) -> None:
        """Count a request."""

    def count_ready(self, place: Place) -> None:
        """Count a request among those that are ready for a lane."""

    def hold(self, place: Place, change: int) -> None:
        """Add to the holders of a place; where none is left, the request is counted no more.

        Raises:
            Abandoned: It is not counted.
        """

    def leave(self, place: Place) -> None:
        """Count a request no more."""

    def cancel(self, place: Place) -> None:
        """Wake a request that was given up."""

    def left(self, place: Place) -> None:
        """A request is counted no more; the lock is free."""


class Place:
    """One request's place in the service: counted once from its arrival to its end.

    Whoever works for the request holds the place (``with place:``), on any thread. When the last
    of them lets go, the request is counted no more.

    Args:
        lanes: Lanes that the request will run on.
        deadline_s: Seconds from now until when the request has to be answered.
        batch: Whether it waits for all that do not belong to a batch.

    Attributes:
        deadline_s: Seconds to the deadline, from where it was counted.
        batch: Whether live requests go before it.
        cancelled: Whether the request was given up.
        holders: Number of those that work for it.
        turn: Lock that is released when the place gets its lane, another one's run has computed
            for it, or it is cancelled.
        asked: When it asked for a lane, on the monotonic clock.
        asks: Whether a thread waits for its turn.
        lane: Lane that a wait ended with.
        sharing: Places of the run that it has a lane for, itself the first; empty where it is the
            only one.
        share: Its part of a run that others may share; None: it shares none.
    """

    __slots__ = (
        "_deadline", "_lanes", "asked", "asks", "batch", "cancelled", "deadline_s", "holders",
        "lane", "share", "sharing", "turn",
    )  # fmt: skip

    turn: threading.Lock
    lane: Lane | None
    share: Share | None

    def __init__(
        self, lanes: Keeper, deadline_s: float = float("inf"), *, batch: bool = False
    ) -> None:
        self.deadline_s = deadline_s
        self.batch = batch
        self.cancelled = self.asks = False
        self.asked = 0.0
        self.holders = 0
        self.lane = self.share = None
        self.sharing: list[Place] = []
        self._deadline = time.monotonic() + deadline_s
        self._lanes = lanes
        lanes.enter(self)

    def ready(self) -> None:
        """Count the request among those that are ready for a lane: its image has arrived.

        Only ready requests send others to narrow lanes; one that still arrives does not.
        """
        self._lanes.count_ready(self)

    def expire_in(self, deadline_s: float, passed_s: float = 0.0) -> None:
        """Let the deadline count from now on, or from so many seconds before."""
        self.deadline_s = deadline_s
        self._deadline = time.monotonic() - passed_s + deadline_s

    def remaining_s(self) -> float:
        """Seconds until the deadline; not below 0."""
        return max(0.0, self._deadline - time.monotonic())

    def patience_s(self) -> float:
        """`remaining_s` as a lock takes it: -1 where there is no deadline."""
        if self._deadline == float("inf"):
            return -1.0
        return min(self.remaining_s(), threading.TIMEOUT_MAX)

    @property
    def joins(self) -> bool:
        """Whether it may share a run."""
        return self.share is not None

    @property
    def wanted(self) -> bool:
        """Whether it was not given up, and its deadline has not passed."""
        return not self.cancelled and time.monotonic() < self._deadline

    def check(self) -> None:
        """Stop work that is not wanted any more.

        Raises:
            Abandoned: The request was cancelled.
            DeadlineExceeded: Its deadline has passed.
        """
        if self.cancelled:
            raise Abandoned
        if time.monotonic() >= self._deadline:
            raise self.too_late()

    def too_late(self) -> DeadlineExceeded:
        """The error of a request whose deadline has passed."""
        return DeadlineExceeded(
            f"not answered within {self.deadline_s:g} s",
            hint="send less at a time, or raise limits.deadline_s",
        )

    def wake(self) -> None:
        """Let its thread go on, if it waits; the lock of the lanes is held."""
        if self.asks and self.turn.locked():
            self.turn.release()

    def fail(self, error: SeatrialError) -> None:
        """Give the request up although a lane still computes for it.

        Args:
            error: What its caller gets.
        """
        self.cancel()
        self.leave()

    def cancel(self) -> None:
        """Give the request up: if it has no lane yet, it never gets one."""
        self.cancelled = True
        self._lanes.cancel(self)

    def __enter__(self) -> Self:
        """Hold the place.

        Raises:
            Abandoned: All have let go of it before.
        """
        self._lanes.hold(self, 1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lanes.hold(self, -1)

    def leave(self) -> None:
        """Count the request no more: those that hold its place may never let go."""
        self._lanes.leave(self)

    def left(self) -> None:
        """The request is counted no more."""
        self._lanes.left(self)
