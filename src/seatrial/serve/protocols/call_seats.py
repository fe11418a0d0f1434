"""Places of calls that last: one that does nothing gives its place to another.

Streams and watchers have no end of their own, and cost their clients next to nothing: a few that
only stay would keep all others out.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

from seatrial.errors import Overloaded


class Seat:
    """A place, and the call that has it.

    Args:
        peer: Address of the client's connection.
        now: When it was taken, seconds.

    Attributes:
        peer: The same.
        since: When the call last did what it is for; when it began where it has done nothing.
        used: Whether it has done something.
        busy: Whether it does something at this moment.
        patience: Ends the call.
    """

    __slots__ = ("busy", "patience", "peer", "since", "used")

    def __init__(self, peer: str, now: float) -> None:
        self.peer = peer
        self.since = now
        self.used = False
        self.busy: Callable[[], bool] = lambda: False
        self.patience = asyncio.timeout(None)


class Seats:
    """A number of places. Only the event loop calls this.

    Args:
        most: Number of places.
        what: Name of the calls for messages, such as "streams".
        hint: What a client does that gets none.
        idle_s: Seconds without use after which a call gives its place up.
        unused_s: The same for one that has done nothing yet.
        clock: Gives the time, seconds.
    """

    def __init__(
        self,
        most: int,
        what: str,
        hint: str,
        *,
        idle_s: Callable[[], float],
        unused_s: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._what, self._hint = what, hint
        self._idle_s, self._unused_s = idle_s, unused_s
        self._clock = clock
        self._taken: dict[Seat, None] = {}

    @contextlib.asynccontextmanager
    async def take(self, peer: str, *, shared: bool = False) -> AsyncIterator[Seat]:
        """A place for as long as the block lasts.

        Args:
            peer: Address of the client's connection.
            shared: Whether a connection with far more places than this one gives one up at once.

        Raises:
            Overloaded: None is free, and none is given up; or this one had to be given up.
        """
        if len(self._taken) >= self._most and not self._give_way(peer, shared=shared):
            raise Overloaded(f"{len(self._taken)} {self._what} are open already", hint=self._hint)
        seat = Seat(peer, self._clock())
        self._taken[seat] = None
        try:
            async with seat.patience:
                yield seat
        except TimeoutError as error:
            if not seat.patience.expired():
                raise
            raise Overloaded(
                f"nothing was done here for {self._clock() - seat.since:.1f} s, and other "
                f"{self._what} needed the place",
                hint=self._hint,
                reason="slow",
            ) from error
        finally:
            self._taken.pop(seat, None)

    def use(self, seat: Seat) -> None:
        """A call has done what it is for."""
        seat.since, seat.used = self._clock(), True

    def _give_way(self, peer: str, *, shared: bool) -> bool:
        idle = [seat for seat in self._taken if not seat.busy()]
        if not idle:
            return False
        each = Counter(seat.peer for seat in self._taken) if shared else Counter[str]()
        last = min(idle, key=lambda seat: (-each[seat.peer], seat.since))
        longest_s = self._idle_s() if last.used else self._unused_s()
        if self._clock() - last.since < longest_s and each[last.peer] <= each[peer] + 1:
            return False
        del self._taken[last]
        last.patience.reschedule(asyncio.get_running_loop().time())
        return True
