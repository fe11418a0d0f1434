"""The connections of a gRPC server, its calls on them, and the answers that clients do not take.

`grpc.aio` tells a server of its calls, and of no connection: neither which are open, nor which wait
for their clients. It offers no way to give up an answer that a client does not take: HTTP/2 lets a
client that is there, and answers pings, take no byte for as long as it likes. So the connections
are found among the sockets of the process, and those that wait too long are ended there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sized
from typing import Any
from urllib.parse import unquote

from seatrial.errors import Overloaded
from seatrial.serve.log import GoesOn
from seatrial.serve.serving import Serving
from seatrial.system.accepted_connections import (
    Accepted,
    AcceptedConnections,
    Peer,
    plain_address,
)

Context = Any  # grpc.aio.ServicerContext
# Newer ones may be on the point of making a call, as those of probes are.
GIVES_WAY_S = 0.2
KEPT_FREE = 4  # one place of so many
# Between two looks at the connections; and where there may soon be too many.
LOOK_S, SOON_S = 0.5, 0.1
LOOKING = 0.05  # largest share of the time that looks take


class GrpcConnections:
    """The connections of the server of one process. Only its event loop calls this.

    Connections without a call give way when nearly all places are taken, so that a new client,
    which may be a probe, finds one.

    Args:
        serving: Is told of their number, and so are its metrics.
        most: Most connections, which gRPC itself holds to.
        taken_s: Longest time in which a client has to take an answer, or a message of a stream.
        unread_bytes: Length of such answers, of all clients together.
    """

    def __init__(self, serving: Serving, most: int, taken_s: float, unread_bytes: int) -> None:
        self._serving = serving
        self._wanted = max(1, most - max(1, most // KEPT_FREE))
        self._taken_s = taken_s
        self._most_unread_bytes = unread_bytes
        self._sockets: AcceptedConnections | None = None
        # gRPC names the client of a call alone, and one port of a client may have a connection to
        # each of our addresses.
        self._open: dict[Peer, list[Accepted]] = {}
        self._count = 0  # of all of them
        self._ended: set[Accepted] = set()  # which gRPC has still to close
        self._calls: dict[Peer, int] = {}
        self._peers: dict[Context, Peer] = {}
        self._idle_since: dict[Peer, float] = {}  # of those that have had calls, and have none
        # Since when, and how long; the oldest first.
        self._unread: dict[Context, tuple[float, int]] = {}
        # Bytes of the answers that wait in streams for those before them.
        self._kept: dict[Context, int] = {}
        self._unread_bytes = 0  # of both
        self._goes_on = GoesOn("a look at the connections of gRPC failed")

    @property
    def many(self) -> bool:
        """Whether so many are open that there may soon be too many."""
        return 2 * self._count > self._wanted

    def listens(self, port: int) -> None:
        """The server listens on a port."""
        self._sockets = AcceptedConnections(port)

    def begin(self, context: Context) -> None:
        """A call begins. Its context reports its end."""
        peer = self._peers[context] = _peer(context)
        self._calls[peer] = self._calls.get(peer, 0) + 1
        self._idle_since.pop(peer, None)
        context.add_done_callback(self._call_ended)

    def _call_ended(self, context: Context) -> None:
        self._forget(context)
        peer = self._peers.pop(context)
        self._calls[peer] -= 1
        if not self._calls[peer]:
            del self._calls[peer]
            self._idle_since[peer] = time.monotonic()

    def gives(self, context: Context, message: object = b"") -> None:
        """A call has its answer, and ends when its client has taken that.

        Args:
            context: The call.
            message: The answer; bytes count for those that may be unread.
        """
        self._taken(context)
        size = len(message) if isinstance(message, Sized) else 0
        self._unread[context] = time.monotonic(), size
        self._unread_bytes += size

    def keep(self, context: Context, size: int) -> None:
        """A stream has an answer that waits for those before it.

        Args:
            context: The call.
            size: Bytes of the answer, which count for those that may be unread.
        """
        if context in self._peers:  # or else it has just ended
            self._kept[context] = self._kept.get(context, 0) + size
            self._unread_bytes += size

    def release(self, context: Context, size: int) -> None:
        """An answer that `keep` counted is about to be written."""
        size = min(size, self._kept.get(context, 0))  # 0 where its connection was ended
        if size:
            self._kept[context] -= size
            self._unread_bytes -= size

    def _forget(self, context: Context) -> None:
        self._taken(context)
        self._unread_bytes -= self._kept.pop(context, 0)

    async def write(self, context: Context, message: object) -> None:
        """Write one message of a stream.

        Raises:
            Exception: What gRPC raises where the call has ended, as it has when the client did not
                take the message for `taken_s`.
        """
        self.gives(context, message)
        try:
            await context.write(message)
        finally:
            self._taken(context)

    def _taken(self, context: Context) -> None:
        _, size = self._unread.pop(context, (0.0, 0))
        self._unread_bytes -= size

    def make_room(self) -> None:
        """Make sure that there is memory for another answer.

        Where there is none, this closes the connection that has waited longest for its client.

        Raises:
            Overloaded: There is none, and no connection has waited for long enough.
        """
        if not self._makes_room():
            raise Overloaded(
                "the memory for answers that their clients do not read is taken",
                hint="try again in a second",
                reason="bytes",
            )

    def _makes_room(self) -> bool:
        found = False
        while self._unread_bytes >= self._most_unread_bytes:
            context, since = next(
                (
                    (one, since)
                    for one, (since, size) in self._unread.items()
                    if size or self._kept.get(one)
                ),
                (None, 0.0),
            )
            # Answers of streams may all wait for one that is not there yet.
            if context is None or time.monotonic() - since < GIVES_WAY_S:
                return False
            if not found:  # it may have come since the last look
                self._find()
                found = True
            if not self._end(self._peers[context]):
                return False
        return True

    def look(self) -> None:
        """Count the connections that are open now, and end those that wait for too long."""
        now = time.monotonic()
        self._find()
        for context in [
            one for one, (since, _) in self._unread.items() if now - since > self._taken_s
        ]:
            if context in self._unread:  # or else it went with another call of its connection
                self._end(self._peers[context])
        more = self._count - len(self._ended) - self._wanted
        if more > 0:
            self._give_way(more, now)
        self._tell(self._count)

    async def keep_looking(self) -> None:
        """Look at the connections again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(self.timed_look())

    def timed_look(self) -> float:
        """Look at the connections; an error is logged.

        Returns:
            Seconds until the next look, by what this one cost.
        """
        # Time of this thread: where others have the core, the next look is not put off.
        began = time.thread_time()
        with self._goes_on:
            self.look()
        return max(SOON_S if self.many else LOOK_S, (time.thread_time() - began) / LOOKING)

    def end(self) -> None:
        """The server is gone, and its connections with it."""
        self._tell(0)

    def _find(self) -> None:
        found = self._sockets.look() if self._sockets is not None else []
        self._open, self._count = {}, len(found)
        for one in found:
            self._open.setdefault(one.peer, []).append(one)
        self._ended.intersection_update(found)
        for gone in self._idle_since.keys() - self._open.keys():
            del self._idle_since[gone]

    def _give_way(self, count: int, now: float) -> None:
        """End connections without a call: the oldest first, of the larger kind first.

        So neither clients that say nothing nor those that make one call and stay take the places of
        the others.
        """
        waiting = [
            one
            for peer, of_peer in self._open.items()
            for one in of_peer
            if peer not in self._calls and one not in self._ended
        ]
        silent = [one for one in waiting if one.peer not in self._idle_since]
        idle = [one for one in waiting if one.peer in self._idle_since]
        silent.sort(key=lambda one: one.since, reverse=True)
        idle.sort(key=lambda one: self._idle_since[one.peer], reverse=True)
        while count and (silent or idle):
            one = max(silent, idle, key=len).pop()
            if now - one.since < GIVES_WAY_S:  # the smaller kind does not go for those
                return
            if one.end():
                self._ended.add(one)
                self._serving.metrics.close_connection("limit")
            count -= 1

    def _end(self, peer: Peer) -> bool:
        """End the connection of a client that does not read, with all of its calls.

        Where one port of it has several, nothing tells which is meant, and all end.
        """
        ended = [
            one for one in self._open.get(peer, ()) if one not in self._ended and one.end(drop=True)
        ]
        if not ended:
            # It has just gone, and gRPC is about to notice; or there is no way to end it.
            for context in self._unread_of(peer):
                self._unread[context] = time.monotonic(), self._unread.pop(context)[1]
            return False
        self._ended.update(ended)
        for context in {*self._unread_of(peer), *self._kept_of(peer)}:
            self._forget(context)
        for _ in ended:
            self._serving.metrics.close_connection("answer")
        return True

    def _unread_of(self, peer: Peer) -> list[Context]:
        return [context for context in self._unread if self._peers[context] == peer]

    def _kept_of(self, peer: Peer) -> list[Context]:
        return [context for context in self._kept if self._peers[context] == peer]

    def _tell(self, connections: int) -> None:
        serving = self._serving
        serving.metrics.connections.inc(connections - serving.connections_beside)
        serving.connections_beside = connections


def _peer(context: Context) -> Peer:
    """The client of a call, which gRPC writes as ``ipv4:192.0.2.1:80`` or ``ipv6:%5B::1%5D:80``."""
    host, _, port = unquote(context.peer()).partition(":")[2].rpartition(":")
    return plain_address(host.strip("[]")), int(port) if port.isdigit() else 0
