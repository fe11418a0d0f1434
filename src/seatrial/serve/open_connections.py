"""The open connections of a process: which wait for their clients, and since when.

A connection costs a file descriptor. A process that has none left answers no probe, so silent
connections are closed after a time, and sooner where others need their place.
"""

from __future__ import annotations

import asyncio
import enum
import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from seatrial.deployment import Limits
from seatrial.errors import Unauthorized
from seatrial.serve import connections
from seatrial.serve.arrivals import Room
from seatrial.serve.connection_limit import PROBE_PLACES
from seatrial.serve.handshakes import Handshakes
from seatrial.serve.metrics import RequestMetrics
from seatrial.serve.peers import Peers
from seatrial.serve.protocols.plain_head import PlainHead
from seatrial.serve.protocols.request_head import RefusedHead
from seatrial.serve.request_log import log_refusal
from seatrial.serve.tls import Tls
from seatrial.serve.trace_context import Trace

CONNECTIONS = "connections"  # name in the state of the application's life, which uvicorn passes on
LONGEST_TICK_S = 1.0
REFUSES_S = 1.0  # after a refusal: others are likely

Headers = Sequence[tuple[bytes, bytes]]


class Refuse(Protocol):
    """Refuses requests; see `seatrial.serve.refusals.Refusals`."""

    def __call__(self, path: bytes, headers: Headers) -> tuple[int, bytes] | None:
        """Status, and header fields and body of the refusal of a POST; None: it is not refused."""

    def again(self, head: PlainHead) -> tuple[int, bytes] | None:
        """The same of one for which a decision stands; None: there is no such decision."""

    def give_place(self) -> bool:
        """End a request whose body is long in coming, for another; whether there is one."""


class RefuseNone:
    """Refuses no request."""

    def __call__(self, path: bytes, headers: Headers) -> None:
        """See `Refuse`."""

    def again(self, head: PlainHead) -> None:
        """See `Refuse`."""

    def give_place(self) -> bool:
        """See `Refuse`."""
        return False


class Wait(enum.StrEnum):  # of other enumerations, the hash is a function in Python
    """The event that a connection waits for."""

    HEAD = "head"  # the rest of a request's headers, or of a body that is not read
    IDLE = "idle"  # the next request
    ANSWER = "answer"  # the client has to take what was sent
    END = "end"  # the client has to see its last answer, or that it was refused


HEAD, IDLE, ANSWER, END = Wait  # to look one up by its name is a function in Python 3.11


class Connection(Protocol):
    """The part of a connection that `Connections` uses.

    Attributes:
        waiting: The event that it waits for; `Connections` sets it.
        active: Whether that event has come, and it waits for the next one: see `Connections.waits`.
    """

    waiting: Wait | None
    active: bool

    @property
    def unread_bytes(self) -> int:
        """Length of what its client has not taken."""

    def expire(self, wait: Wait) -> None:
        """It has waited too long."""

    def end(self) -> None:
        """Its place is needed."""


class Connections:
    """The connections of one process. Only its event loop calls this.

    Args:
        limits: How long a connection may wait.
        most: Largest number of connections; see `seatrial.serve.connection_limit.room`.
        metrics: Where they are counted.
        probes: Paths that are answered beyond that number, too.
        check: Checks the token of a path and its headers; see `Tokens.check`.
        tls: Certificate; None where connections are not encrypted.
        refuse: Refuses requests before the application sees them: under overload a refusal has to
            be cheap.
        beside: Number of connections that servers beside this one have; they count for `most`.
            None: there are no such servers.

    Attributes:
        probes: The same paths, as they are sent.
        peers: The other processes of the service; None where it is alone.
        refuses: Whether a request was refused in the last second.
        refuse_again: See `Refuse.again`.
        room: Buffer for what arrives.
        handshakes: Encrypts connections; None where they are not encrypted.
        dated_until_s: When the headers of all answers are to be made anew, which have the date in
            them, on the clock `now_s`.
        now_s: Gives the time of the event loop, seconds.
        date: Makes them; a server without a clock of its own sets both.
    """

    def __init__(
        self,
        limits: Limits,
        most: int,
        metrics: RequestMetrics,
        probes: frozenset[str] = frozenset(),
        check: Callable[[str, Headers], object] = lambda path, headers: None,
        tls: Tls | None = None,
        refuse: Refuse = RefuseNone(),  # noqa: B008  it has no state
        beside: Callable[[], int] | None = None,
    ) -> None:
        self._check = check
        self.peers: Peers | None = None
        self.refuses = False
        self.room = Room()
        self._refuse = refuse
        self.refuse_again = refuse.again
        self._beside = beside or (lambda: 0)
        self._polls = beside is not None
        self._refused_s = -math.inf
        self.handshakes = None if tls is None else Handshakes(tls, limits.header_s)
        self._most = most
        self._metrics = metrics
        self.probes = frozenset(path.encode() for path in probes)
        self._open = 0
        self._most_unread_bytes = limits.bytes_in_flight
        self._unread: dict[Connection, int] = {}
        self._unread_bytes = 0  # their sum
        self._longest_s = {
            HEAD: limits.header_s,
            IDLE: limits.idle_s,
            ANSWER: limits.idle_s,
            END: connections.LINGER_S,
        }
        # In the order in which they began to wait: the first of each expires first.
        self._waiting: dict[Wait, dict[Connection, float]] = {wait: {} for wait in Wait}
        self._tick_s = min(LONGEST_TICK_S, *(limit / 4 for limit in self._longest_s.values()))
        self._headers: Headers = ()
        self._begins: dict[int, bytes] = {}  # by the status
        self._loop = asyncio.get_running_loop()
        self._look: asyncio.TimerHandle | None = None
        self._look_s = math.inf  # when that is
        self.now_s = self._loop.time
        self.dated_until_s = math.inf
        self.date: Callable[[], object] = lambda: None

    @property
    def full(self) -> bool:
        """Whether there are more connections than there should be."""
        return self._open + self._beside() > self._most

    def opened(self, connection: Connection) -> bool:
        """A connection is there; another one may have to go for it.

        Returns:
            Whether it is for a probe, unless another is gone by the time of its request: see
            `check_probe`.
        """
        self._open += 1
        self._tell()
        self._metrics.connections.inc()
        self.waits(connection, HEAD)
        beyond_all = self._open + self._beside() > self._most + PROBE_PLACES
        given = False
        if self.full and not self._make_room(connection):
            # The connection of a request that gives way ends as well, soon.
            given = self._refuse.give_place() and not beyond_all
            if beyond_all:
                self._drop(connection)
        if self.full or self._polls:
            self._look_by(self.now_s() + LONGEST_TICK_S)
        return self.full and not given

    def closed(self, connection: Connection) -> None:
        """A connection is gone."""
        self._open -= 1
        self._tell()
        self._metrics.connections.inc(-1)
        self.works(connection)

    def give(self, transport: asyncio.BaseTransport) -> bool:
        """Give a new connection to another process that has fewer; see `Peers.give`."""
        return self.peers is not None and self.peers.give(transport, self._open)

    def _tell(self) -> None:
        if self.peers is not None:
            self.peers.has(self._open)

    def waits(self, connection: Connection, wait: Wait, *, anew: bool = False) -> None:
        """A connection waits: from now on, where it has not waited for the same thing before.

        Args:
            connection: The connection.
            wait: The event that it waits for.
            anew: Whether it has waited for something else meanwhile, which was soon there.
        """
        if connection.waiting is not wait:
            self.works(connection)
            connection.waiting, connection.active = wait, False
            now_s = self._waiting[wait][connection] = self.now_s()
            if now_s + self._longest_s[wait] < self._look_s:
                self._look_by(now_s + self._longest_s[wait])
        elif anew:  # its time begins when it would be over: to note it here costs more
            connection.active = True
        if wait is ANSWER:
            self._note_unread(connection)

    def works(self, connection: Connection) -> None:
        """A connection waits no more: a request of it is with the application."""
        if connection.waiting is not None:
            del self._waiting[connection.waiting][connection]
            connection.waiting = None
            self._unread_bytes -= self._unread.pop(connection, 0)

    def _note_unread(self, connection: Connection) -> None:
        """Count what a client has not taken; there may be as much of it as of bodies."""
        now = connection.unread_bytes
        self._unread_bytes += now - self._unread.get(connection, 0)
        self._unread[connection] = now
        if self._unread_bytes <= self._most_unread_bytes:
            return
        # Some of it was taken since it was counted.
        self._unread = {one: one.unread_bytes for one in self._unread}
        self._unread_bytes = sum(self._unread.values())
        while self._unread_bytes > self._most_unread_bytes and len(self._unread) > 1:
            self._drop(next(iter(self._unread)), ANSWER.value)

    def refuse(self, path: bytes, headers: Headers) -> tuple[int, bytes] | None:
        """Refuse a request that the service has no time for; see `Refuse`."""
        refused = self._refuse(path, headers)
        if refused is not None:
            self._refused_s = self.now_s()
            self._expect_refusals(True)
            self._look_by(self._refused_s + REFUSES_S)
        return refused

    def check_probe(self, target: bytes, headers: Headers) -> None:
        """Refuse what is no probe while there are too many connections.

        Args:
            target: Path and query of the request, as they were sent.
            headers: Its headers.

        Raises:
            RefusedHead: It is refused.
        """
        path = target.partition(b"?")[0]
        if not self.full or path in self.probes:
            return
        try:
            # Who has no token is not told that there is much to do.
            self._check(path.decode("latin-1"), headers)
        except Unauthorized as error:
            raise RefusedHead(401, error.message, error.hint, error.code) from error
        raise RefusedHead(503, "the service has too many connections", "try again in a second")

    def _expect_refusals(self, likely: bool) -> None:
        if likely is not self.refuses:
            self.refuses = likely
            if self.handshakes is None:  # of what is encrypted, the kernel drops nothing
                self.room.refuses(likely)

    def begin_of_answer(self, status: int, headers: Headers) -> bytes:
        """The first lines of an answer; the headers that all have are another object each second.

        Args:
            status: Its status.
            headers: Those headers.
        """
        if headers is not self._headers:
            self._headers, self._begins = headers, {}
        begin = self._begins.get(status)
        if begin is None:
            lines = (b"%s: %s\r\n" % field for field in headers)
            begin = self._begins[status] = STATUS_LINE[status] + b"".join(lines)
        return begin

    def insecure(self) -> None:
        """A connection was given up since it could not be encrypted."""
        self._metrics.close_connection("tls")

    def refused(self, trace: Trace, status: int, code: str, message: str) -> None:
        """A request was answered that the application has not seen."""
        self._metrics.count("other", status)
        log_refusal(trace, status, code, message)

    def answered(self, trace: Trace) -> None:
        """All of an answer was written, to the kernel or to a buffer for a slow reader."""
        if trace.clock is not None and not trace.code:
            self._metrics.sent(time.perf_counter() - trace.clock.end)

    def _make_room(self, newest: Connection | None = None) -> bool:
        """End the connection that has waited longest; false where all others work.

        It is one of the larger group, so that neither clients that say nothing nor those that
        send one request and stay can take the places of the others.
        """
        groups = self._waiting
        most = max((HEAD, IDLE, ANSWER), key=lambda wait: len(groups[wait]))
        for wait in (END, most):
            for oldest in (*groups[wait], *groups[wait]):
                if oldest is not newest and not self._was_active(oldest):
                    self._drop(oldest)
                    return True
        return False

    def _was_active(self, connection: Connection) -> bool:
        """Whether the event came that a connection waits for; then its time begins now."""
        if not connection.active:
            return False
        connection.active = False
        assert connection.waiting is not None  # noqa: S101
        waiting = self._waiting[connection.waiting]
        del waiting[connection]  # it comes behind the others
        waiting[connection] = self.now_s()
        return True

    def _look_by(self, due_s: float) -> None:
        """Look at the connections at this time, if not before: an idle service is not woken."""
        if due_s < self._look_s:
            if self._look is not None:
                self._look.cancel()
            self._look, self._look_s = self._loop.call_at(due_s, self._expire), due_s

    def _next_look_s(self, now: float) -> float:
        """When the first connection will have waited too long, or something else is due."""
        firsts = ((wait, next(iter(group.values()), None)) for wait, group in self._waiting.items())
        due_s = [since + self._longest_s[wait] for wait, since in firsts if since is not None]
        if self.refuses:
            due_s.append(self._refused_s + REFUSES_S)
        if self.full or (self._polls and self._open):
            due_s.append(now + LONGEST_TICK_S)
        return max(now + self._tick_s, min(due_s, default=math.inf))

    def _expire(self) -> None:
        now = self.now_s()
        self._look, self._look_s = None, math.inf
        try:
            self._end_overdue(now)
        finally:  # also where the end of one failed, which asyncio logs
            self._look_by(self._next_look_s(now))

    def _end_overdue(self, now: float) -> None:
        self._expect_refusals(now - self._refused_s < REFUSES_S)
        for wait, waiting in self._waiting.items():
            while waiting:
                oldest, since = next(iter(waiting.items()))
                if now - since < self._longest_s[wait]:
                    break
                if self._was_active(oldest):
                    continue
                self.works(oldest)
                oldest.expire(wait)
                # One that was refused has been counted, and a slow reader goes on.
                if wait is not END and oldest.waiting is not wait:
                    self._metrics.close_connection(wait.value)
        while self.full and self._make_room():  # for connections to a server beside this one
            pass

    def _drop(self, connection: Connection, reason: str = "limit") -> None:
        refused = connection.waiting is END  # its end is nothing new
        self.works(connection)
        if not refused:
            self._metrics.close_connection(reason)
        connection.end()
