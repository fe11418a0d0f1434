"""The TLS handshakes of one event loop: how many at a time, and whose turn it is.

A signature with an RSA key of 4096 bits takes the loop several milliseconds, which other
connections wait for; and a connection that is encrypted takes a quarter of a megabyte.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from seatrial.serve.client_hello import HELLO_BYTES
from seatrial.serve.handshake import Handshake, Owner
from seatrial.serve.tls import Tls

AT_ONCE = 64  # that have begun, and wait for their clients
# The one that began first goes after so long where another waits for its place; of the address with
# most places sooner, where one with fewer waits. Most clients take less for their next message.
GIVES_WAY_S, OF_MOST_S = 0.5, 0.1
# Of the clients of one address so many, the newest, are taken in their order. Those before them
# have one turn of each four, or all where there are none such, the newest first: where more ask
# than the process can do, all would wait for longer than their clients do.
FRESH, LATE_EACH = 16, 4


class _Line:
    """The clients of one address, each group in the order of arrival."""

    def __init__(self) -> None:
        self.fresh: dict[Handshake, None] = {}
        self.late: dict[Handshake, None] = {}
        self._turns = 0

    def add(self, one: Handshake) -> None:
        self.fresh[one] = None
        if len(self.fresh) > FRESH:
            oldest = next(iter(self.fresh))
            del self.fresh[oldest]
            self.late[oldest] = None

    def next(self) -> Handshake:
        self._turns += 1
        if self.late and (not self.fresh or self._turns % LATE_EACH == 0):
            return next(reversed(self.late))
        return next(iter(self.fresh))

    def remove(self, one: Handshake) -> None:
        self.fresh.pop(one, None)
        self.late.pop(one, None)


class Handshakes:
    """Begins the handshakes of connections one by one, in half of the event loop's time.

    uvloop takes one new connection in each of its turns: were there a handshake in each of them,
    new connections would wait where nobody sees them, in the order of their arrival.

    Args:
        tls: The certificate.
        within_s: Longest time of a handshake.

    Attributes:
        room: Buffer into which the first message of a client is read.
    """

    def __init__(self, tls: Tls, within_s: float) -> None:
        self._tls = tls
        self._within_s = within_s
        self.room = memoryview(bytearray(HELLO_BYTES))
        self._lines: dict[str, _Line] = {}  # by the address; the first has the next turn
        self._begun: dict[Handshake, float] = {}  # since when, the oldest first
        self._loop = asyncio.get_running_loop()
        self._next: asyncio.Handle | None = None
        self._present: Handshake | None = None  # whose answer is being made
        self._waits_for_a_place = False

    def meet(self, transport: asyncio.Transport, owner: Owner) -> Handshake:
        """Encrypt a connection once its client asks for that.

        Args:
            transport: The connection, in its ``connection_made``.
            owner: Its protocol.
        """
        return Handshake(transport, self, owner)

    def add(self, one: Handshake) -> None:
        """See `seatrial.serve.handshake.Queue`."""
        # One that goes on gives its place back; and the first of its address may have fewer places
        # than those that wait.
        is_news = self._begun.pop(one, None) is not None or one.address not in self._lines
        self._lines.setdefault(one.address, _Line()).add(one)
        if self._next is None and self._present is None:
            self._next = self._loop.call_soon(self._turn)
        elif is_news and self._waits_for_a_place and self._next is not None:
            self._next.cancel()
            self._next = self._loop.call_soon(self._turn)

    def answered(self, one: Handshake, took_s: float) -> None:
        """See `seatrial.serve.handshake.Queue`."""
        if one is self._present:
            self._present = None
            self._next = self._loop.call_at(self._loop.time() + took_s, self._turn)

    def remove(self, one: Handshake) -> None:
        """See `seatrial.serve.handshake.Queue`."""
        if (line := self._lines.get(one.address)) is not None:
            line.remove(one)
            if not line.fresh and not line.late:
                del self._lines[one.address]
        freed = self._begun.pop(one, None) is not None
        if one is self._present:
            self._present, self._next = None, self._loop.call_soon(self._turn)
        elif freed and self._waits_for_a_place and self._next is not None:
            self._next.cancel()
            self._next = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Begin one handshake; the next one comes when this is answered."""
        now, self._next, self._waits_for_a_place = self._loop.time(), None, False
        if not self._lines:
            return
        address = next(iter(self._lines))
        if len(self._begun) >= AT_ONCE:
            address, oldest, due_s = self._gives_way()
            if now < due_s:
                self._waits_for_a_place = True
                self._next = self._loop.call_at(due_s, self._turn)
                return
            del self._begun[oldest]
            oldest.abort()
        line = self._lines[address]
        del self._lines[address]
        self._lines[address] = line  # behind those of the other addresses
        one = line.next()
        self.remove(one)
        self._begun[one], self._present = now, one
        one.begin(self._tls.context, self._within_s)

    def _gives_way(self) -> tuple[str, Handshake, float]:
        """Which address has the next turn where all places are taken, and who ends for it when."""
        oldest, since = next(iter(self._begun.items()))
        first, due_s = next(iter(self._lines)), since + GIVES_WAY_S
        held = Counter(one.address for one in self._begun)
        ((crowd, most),) = held.most_common(1)
        # At most as many addresses are passed over here as there are places.
        fewer = next((one for one in self._lines if held[one] + 1 < most), None)
        if fewer is None:
            return first, oldest, due_s
        of_crowd, since = next(each for each in self._begun.items() if each[0].address == crowd)
        return min(
            (fewer, of_crowd, since + OF_MOST_S), (fewer, oldest, due_s), key=lambda way: way[2]
        )
