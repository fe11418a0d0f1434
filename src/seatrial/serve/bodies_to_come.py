"""Requests whose bodies are not here: the slowest give way where room is short.

A head takes a place in the queue, and the bytes of its body, before any of it has arrived: a few
clients that send heads and nothing more could take all there is. So a request gives way for another

- at any time, where it is behind the pace at which its body would be whole in its time, and still
  misses more than the whole body of the other: of a body that is declared long, much has to come;
- where next to nothing has come of it after a moment, or less than a slow line carries; or where,
  after a while, its pace is one at which it cannot be whole in its time.

Bytes are taken back from those first that miss most, and places in the order of the heads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from seatrial.errors import InputTooSlow, Overloaded

T = TypeVar("T")
# The first bytes of a body come with its head, or just behind it: less than a first flight of TCP.
BEGINS_S, FIRST_BYTES = 0.05, 8 * 1024
# A body gives way after this long, where less of it than this has arrived. Over a line that is full
# of bodies each is slow, and none of them silent.
GIVES_WAY_S, LEAST_BYTES_PER_S = 0.25, 64 * 1024
# Its mean pace tells when it will be whole after this long: lines begin slowly.
PACE_KNOWN_S = 2.0
# One of which nothing is known until all of it is here.
UNSEEN_GIVES_WAY_S = 2.0
OWN_TIME = (
    "the deadline of the request itself has passed: ask for more time, or send a smaller file"
)


class Holder(Protocol):
    """A request.

    Attributes:
        held_bytes: Longest body that it may have.
        arrived_bytes: Length of what has arrived of it; None where that is not known.
        body_s: Seconds that it may take to arrive.
        own_time: Whether the request itself asked for no more.
    """

    held_bytes: int
    arrived_bytes: int | None
    body_s: float
    own_time: bool


class BodiesToCome:
    """Waits for bodies, in the order of their heads. Only the event loop calls this.

    Args:
        clock: Gives the time, seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: dict[Holder, tuple[float, asyncio.Timeout]] = {}
        self._going: set[Holder] = set()  # which were told to end, and are still counted

    @property
    def going(self) -> int:
        """Number of requests that give way at this moment."""
        return len(self._going)

    @property
    def going_bytes(self) -> int:
        """Length of the bodies that they may have, together."""
        return sum(one.held_bytes for one in self._going)

    async def receive(self, holder: Holder, reading: Awaitable[T]) -> T:
        """Gives what is read for a request, unless it has to give way.

        Args:
            holder: The request.
            reading: Reads its body.

        Raises:
            Overloaded: Others came meanwhile, and there was no room for them.
            InputTooSlow: From `reading`; the hint names the limit that it was.
        """
        patience = asyncio.timeout(None)
        try:
            async with patience:
                self._waiting[holder] = self._clock(), patience
                return await reading
        except InputTooSlow as error:
            if holder.own_time:
                error.hint = OWN_TIME
            raise
        except TimeoutError as error:
            if not patience.expired():
                raise
            raise Overloaded(
                "the body was long in coming, and other requests needed its room",
                hint="send it again, at once after its headers",
                reason="slow",
            ) from error
        finally:
            self._waiting.pop(holder, None)
            self._going.discard(holder)

    def give_place(self) -> bool:
        """Have one request end that is slow, the first first.

        Returns:
            Whether there is one.
        """
        now = self._clock()
        for holder, (since_s, _) in self._waiting.items():
            if _is_slow(holder, now - since_s):
                self._end(holder)
                return True
        return False

    def give_bytes(self, held_bytes: int, body_bytes: int) -> bool:
        """Have requests end that are slow, or far larger than another; who misses most first.

        Args:
            held_bytes: How many bytes they have to hold together, at least.
            body_bytes: Longest body that the other may have.

        Returns:
            Whether there are as many; none ends where there are not.
        """
        now = self._clock()
        found = [
            (_missing(holder), holder)
            for holder, (since_s, _) in self._waiting.items()
            if _is_slow(holder, now - since_s)
            or (_missing(holder) > body_bytes and _is_behind(holder, now - since_s))
        ]
        found.sort(key=lambda one: -one[0])  # of equals the first head stays the first
        going: list[Holder] = []
        for _, holder in found:
            going.append(holder)
            held_bytes -= holder.held_bytes
            if held_bytes <= 0:
                break
        if held_bytes > 0:
            return False
        for holder in going:
            self._end(holder)
        return True

    def _end(self, holder: Holder) -> None:
        _, patience = self._waiting.pop(holder)
        self._going.add(holder)
        patience.reschedule(asyncio.get_running_loop().time())


def _missing(holder: Holder) -> int:
    """Bytes that are not here; 0 where that is not known."""
    return 0 if holder.arrived_bytes is None else holder.held_bytes - holder.arrived_bytes


def _is_behind(holder: Holder, passed_s: float) -> bool:
    """Whether a body would not be whole in its time at the pace that it has had so far."""
    arrived = holder.arrived_bytes
    if arrived is None or arrived >= holder.held_bytes:
        return False
    begun = arrived >= min(FIRST_BYTES, holder.held_bytes)
    return not begun or arrived * holder.body_s < holder.held_bytes * passed_s


def _is_slow(holder: Holder, passed_s: float) -> bool:
    arrived = holder.arrived_bytes
    if arrived is None:
        return passed_s > UNSEEN_GIVES_WAY_S
    if passed_s <= BEGINS_S:
        return False
    if arrived < min(FIRST_BYTES, holder.held_bytes):
        return True
    if passed_s <= GIVES_WAY_S:
        return False
    return arrived < LEAST_BYTES_PER_S * passed_s or (
        passed_s > PACE_KNOWN_S and _is_behind(holder, passed_s)
    )
