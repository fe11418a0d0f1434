"""Requests whose bodies are not here: the slowest give way where room is short.

A head takes a place in the queue, and the bytes of its body, before any of it has arrived: a few
clients that send heads and nothing more could take all there is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Protocol, TypeVar

from seatrial.errors import Overloaded

T = TypeVar("T")
# A body gives way after this long, where less of it than this has arrived. Over a line that is full
# of bodies each is slow, and none of them silent.
GIVES_WAY_S, LEAST_BYTES_PER_S = 0.25, 64 * 1024
# One of which nothing is known until all of it is here.
UNSEEN_GIVES_WAY_S = 2.0


class Holder(Protocol):
    """A request.

    Attributes:
        held_bytes: Longest body that it may have.
        arrived_bytes: Length of what has arrived of it; None where that is not known.
    """

    held_bytes: int
    arrived_bytes: int | None


class BodiesToCome:
    """Waits for bodies, in the order of their heads. Only the event loop calls this."""

    def __init__(self) -> None:
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
        """
        patience = asyncio.timeout(None)
        try:
            async with patience:
                self._waiting[holder] = time.monotonic(), patience
                return await reading
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

    def give_way(self, places: int, held_bytes: int) -> bool:
        """Have requests end that are long in coming, the first first.

        Args:
            places: How many have to end, at least.
            held_bytes: How many bytes they have to hold together, at least.

        Returns:
            Whether there are as many; none ends where there are not.
        """
        now = time.monotonic()
        going: list[tuple[Holder, asyncio.Timeout]] = []
        for holder, (since_s, patience) in self._waiting.items():
            if places <= 0 and held_bytes <= 0:
                break
            if _is_slow(holder, now - since_s):
                going.append((holder, patience))
                places, held_bytes = places - 1, held_bytes - holder.held_bytes
        if places > 0 or held_bytes > 0:
            return False
        for holder, patience in going:
            del self._waiting[holder]
            self._going.add(holder)
            patience.reschedule(asyncio.get_running_loop().time())
        return True


def _is_slow(holder: Holder, passed_s: float) -> bool:
    if holder.arrived_bytes is None:
        return passed_s > UNSEEN_GIVES_WAY_S
    return passed_s > GIVES_WAY_S and holder.arrived_bytes < LEAST_BYTES_PER_S * passed_s
