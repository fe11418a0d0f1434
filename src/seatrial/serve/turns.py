"""Whose turn it is for one of the service's threads: live requests before those of a batch."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Places on threads, handed out in the order of asking; all on the event loop.

    Requests of a batch have places of their own, so that they never hold those of live requests,
    and start only while no live one waits.

    Args:
        places: Number of places for each of the two kinds.
    """

    def __init__(self, places: int) -> None:
        self._free = {False: places, True: places}
        self._waiting: dict[bool, deque[asyncio.Future[None]]] = {False: deque(), True: deque()}

    @property
    def waiting(self) -> int:
        """Number of requests that have no place yet."""
        return sum(map(len, self._waiting.values()))

    def take(self, *, batch: bool) -> asyncio.Future[None] | None:
        """Take a place.

        Returns:
            None if the caller has it; or what is done when it has. To cancel that is to leave the
            queue.
        """
        if self._free[batch] and not self._waiting[batch] and not (batch and self._waiting[False]):
            self._free[batch] -= 1
            return None
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[batch].append(turn)
        return turn

    def give_back(self, *, batch: bool) -> None:
        """Give a place back; the next that waits has it."""
        self._free[batch] += 1
        for kind in (False, True):
            waiting = self._waiting[kind]
            while waiting and (waiting[0].done() or self._free[kind]):
                turn = waiting.popleft()
                if not turn.done():
                    self._free[kind] -= 1
                    turn.set_result(None)
            if waiting:
                return
