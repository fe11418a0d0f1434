"""Connections to services over HTTP/1.1, at the least cost for the machine.

Client and service share it. A general client takes more CPU time for a request than a service takes
to refuse it: it joins head and body into a copy, builds objects of its own for head, body, cookies
and redirects, and hands them from task to task. Here a request is two buffers, and an answer is one
future.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import re
import ssl
from collections import defaultdict, deque
from collections.abc import Mapping
from time import perf_counter_ns
from typing import Any

import httptools
import msgspec
from yarl import URL

from seatrial import __version__
from seatrial.client.credentials import NONE, Credentials
from seatrial.errors import GeneratorFailed
from seatrial.load.samples import ENCODED, TOO_LONG
from seatrial.load.target import Body
from seatrial.system.file_limit import raise_file_limit

HEAD_BYTES = 64 * 1024  # of an answer's head
# Sizes of chunks and trailers, which frame a body: so much, and for each of its bytes so much.
FRAMING_BYTES, FRAMING_OF_BYTE = 64 * 1024, 16
# After an answer that came early the rest of its request is sent for so long; see `_Connection`.
SENT_S = 1.0
ZONE = re.compile(r"%[^\]]*")  # of an IPv6 address
# A connection is not used again after so long: many servers close those which are idle, and a
# request that crosses the closing fails.
IDLE_S = 15.0
REDIRECTS = 5  # of a question
# Errors of a connection that are this machine's: descriptors, ports or memory are used up.
OWN_ERRORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)
NO_LIMIT = contextlib.nullcontext()
MOVED = (301, 302, 303, 307, 308)
Origin = tuple[str, str, int]  # scheme, host, port


def used_up(error: OSError) -> GeneratorFailed:
    """The failure of a client that has no descriptor, port or memory left for a connection."""
    return GeneratorFailed(
        f"the client cannot open one more connection or file: {error.strerror}",
        hint="a lower rate, a shorter --timeout-s, more open files (ulimit -n), or several clients "
        "(--client-processes)",
    )


class Unreachable(Exception):
    """No connection; its cause is an OSError."""


class Broken(Exception):
    """The connection ended before the answer did."""


class NotHttp(Exception):
    """An answer that is not in HTTP/1.1."""


class UnreadAnswer(Exception):
    """An answer that is not read, with the kind of failure: `TOO_LONG`, `ENCODED`."""


class Fields(dict[str, str]):
    """Fields of a head; names in any case. One that comes several times is one list (RFC 9110)."""

    def add(self, name: str, value: str) -> None:
        """Add a field as it came."""
        name = name.lower()
        self[name] = f"{self[name]}, {value}" if name in self else value

    def get(self, name: str, default: Any = None) -> Any:
        """A field; the default where there is none."""
        return super().get(name.lower(), default)


class Received(msgspec.Struct, frozen=True, gc=False):
    """An answer.

    Attributes:
        status: HTTP status.
        headers: Its fields.
        payload: Its body.
        end_ns: `perf_counter_ns` after its last byte.
        retried: Whether the request was sent again, as its connection had been closed.
    """

    status: int
    headers: Fields
    payload: bytes
    end_ns: int
    retried: bool = False


class HttpSession:
    """Connections that stay open, of one event loop.

    Args:
        connections: Most requests at a time; 0: no limit.
        timeout_s: Longest time of one request, with its connection.
        credentials: What the services want to see.
    """

    def __init__(self, connections: int, timeout_s: float, credentials: Credentials = NONE) -> None:
        raise_file_limit()
        self._timeout_s = timeout_s
        self._credentials = credentials
        self._tls: ssl.SSLContext | None = None
        self._places = asyncio.Semaphore(connections) if connections else None
        self._idle: defaultdict[Origin, deque[_Connection]] = defaultdict(deque)
        self._open: set[_Connection] = set()
        self._addresses: dict[Origin, str] = {}  # those that names stood for
        self._starts: dict[tuple[str, URL], bytes] = {}  # of heads
        self._timer: asyncio.TimerHandle | None = None
        # Compressed answers would measure zlib on both sides, and unpack to any length.
        fields = {
            "User-Agent": f"seatrial/{__version__}", "Accept": "*/*",
            "Accept-Encoding": "identity", **credentials.headers,
        }  # fmt: skip
        self._fields = _lines(fields)

    async def __aenter__(self) -> HttpSession:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for one in tuple(self._open):
            one.abort()
        await asyncio.sleep(0)  # transports close their descriptors in the next turn of the loop

    async def get(self, url: URL, most_bytes: int) -> Received:
        """Ask with GET, and follow redirects within the origin; see `send` for the errors."""
        for _ in range(REDIRECTS):
            found = await self.send("GET", url, None, most_bytes)
            if found.status not in MOVED:
                break
            try:
                moved = url.join(URL(found.headers.get("location", "")))
                within = _origin(moved) == _origin(url)
            except ValueError:  # no address
                break
            if not within or moved == url:
                break  # a token is for the service that was named
            url = moved
        return found

    def hidden(self, text: str) -> str:
        """A text of the service without the token, which some tell."""
        token = self._credentials.token
        return text if token is None else text.replace(token, "...")

    async def send(self, method: str, url: URL, body: Body | None, most_bytes: int) -> Received:
        """Send a request and wait for its answer.

        A connection that has been used before may be closed by the service at any time. Where it
        ends before a byte of the answer, the request is sent once more, at once and on a new
        connection: a detection changes nothing (decision 0024).

        Args:
            method: Method.
            url: Address, with its query.
            body: Body with its headers; None: there is none.
            most_bytes: Longest body of an answer that is read.

        Raises:
            TimeoutError: The answer was not there in time.
            Unreachable: There is no connection.
            Broken: The connection ended before the answer did.
            NotHttp: The answer is not HTTP/1.1.
            UnreadAnswer: The answer is not read.
        """
        origin, head = _origin(url), self._head(method, url, body)
        deadline_s = asyncio.get_running_loop().time() + self._timeout_s
        connection: _Connection | None = None
        if self._places is not None:
            async with asyncio.timeout_at(deadline_s) if self._places.locked() else NO_LIMIT:
                await self._places.acquire()
        try:
            connection = self._idle_one(origin)
            if connection is None:
                async with asyncio.timeout_at(deadline_s):
                    connection = await self._connect(origin)
            self._watch(deadline_s)
            data = b"" if body is None else body.data
            try:
                return await connection.ask(head, data, most_bytes, deadline_s)
            except Broken:
                if not connection.was_idle or connection.came_bytes:
                    raise
            async with asyncio.timeout_at(deadline_s):
                connection = await self._connect(origin)
            self._watch(deadline_s)
            found = await connection.ask(head, data, most_bytes, deadline_s)
            return msgspec.structs.replace(found, retried=True)
        except BaseException:  # cancelled, too: its answer would be taken for that of the next
            if connection is not None:
                connection.abort()
            raise
        finally:
            if self._places is not None:
                self._places.release()

    def _head(self, method: str, url: URL, body: Body | None) -> bytes:
        start = self._starts.get((method, url))
        if start is None:
            host = ZONE.sub("", url.host_port_subcomponent or "")  # it means something here alone
            line = f"{method} {url.raw_path_qs} HTTP/1.1\r\nHost: {host}\r\n{self._fields}"
            start = self._starts[method, url] = line.encode("latin-1")
        more = ""
        if body is not None:
            more = f"{_lines(body.headers)}Content-Length: {len(body.data)}\r\n"
        return start + f"{more}\r\n".encode("latin-1")

    def _watch(self, deadline_s: float) -> None:
        """Have a request end at its deadline.

        One timer does it for all: requests have the same time, so it is seldom set anew.
        """
        if self._timer is not None and self._timer.when() > deadline_s:
            self._timer.cancel()  # it began before the others, and took longer to connect
            self._timer = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(deadline_s, self._expire)

    def _expire(self) -> None:
        now_s, self._timer = asyncio.get_running_loop().time(), None
        for one in tuple(self._open):
            one.expire(now_s)
        next_s = min((one.deadline_s for one in self._open), default=math.inf)
        if next_s < math.inf:
            self._watch(next_s)

    def _idle_one(self, origin: Origin) -> _Connection | None:
        """A connection that waits; the one that was used last."""
        idle, oldest = self._idle[origin], perf_counter_ns() - round(1e9 * IDLE_S)
        while idle:
            one = idle.pop()
            if one.usable and one.idle_since_ns >= oldest:
                return one
            one.abort()
        return None

    async def _connect(self, origin: Origin) -> _Connection:
        scheme, host, port = origin
        encrypted: dict[str, Any] = {}
        if scheme == "https":
            self._tls = self._tls or self._credentials.tls()
            encrypted = {"ssl": self._tls, "server_hostname": host}
        loop = asyncio.get_running_loop()
        place = self._addresses.get(origin, host)
        try:
            transport, one = await loop.create_connection(
                lambda: _Connection(self, origin), place, port, **encrypted
            )
        except (OSError, ValueError) as error:  # ValueError: what is no name of a host
            self._addresses.pop(origin, None)
            if isinstance(error, OSError) and error.errno in OWN_ERRORS:
                raise used_up(error) from error
            raise Unreachable(f"no connection to {host}:{port}") from error
        self._addresses[origin] = transport.get_extra_info("peername")[0]
        return one

    def opened(self, one: _Connection) -> None:
        """A connection is there."""
        self._open.add(one)

    def waits(self, one: _Connection, origin: Origin) -> None:
        """A connection can be used again."""
        self._idle[origin].append(one)

    def closed(self, one: _Connection) -> None:
        """A connection is gone."""
        self._open.discard(one)


class _Connection(asyncio.Protocol):
    """One connection, with one request at a time.

    An answer may be there before its request is sent: the connection is used again when that is
    sent to its end, and is closed if that takes long.

    Attributes:
        idle_since_ns: `perf_counter_ns` at the end of its last answer; 0 before the first.
        came_bytes: Number of bytes of the answer that is under way.
        deadline_s: Time of the event loop at which the request that is under way has failed;
            infinite where there is none.
    """

    _fields: Fields
    _payload: bytes | bytearray

    def __init__(self, session: HttpSession, origin: Origin) -> None:
        self.idle_since_ns, self.deadline_s = 0, math.inf
        self._session, self._origin = session, origin
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Received] | None = None
        self._sending = False
        self._parser = httptools.HttpResponseParser(self)
        # As servers write answers, and other clients take them.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_chunked_length=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        self._begin()

    @property
    def was_idle(self) -> bool:
        """Whether it has been used before."""
        return bool(self.idle_since_ns)

    @property
    def usable(self) -> bool:
        """Whether a request can be sent on it."""
        return not self._transport.is_closing()

    def ask(
        self, head: bytes, body: bytes, most_bytes: int, deadline_s: float
    ) -> asyncio.Future[Received]:
        """Send a request; its answer, or what `HttpSession.send` raises."""
        self._most_bytes, self.deadline_s = most_bytes, deadline_s
        self._answer = answer = self._loop.create_future()
        self._transport.writelines([head, body] if body else [head])
        return answer

    def expire(self, now_s: float) -> None:
        """Fail a request whose time is over."""
        if self.deadline_s <= now_s:
            self._fail(TimeoutError())

    def abort(self) -> None:
        """Close it at once, whatever is still to be sent; a request that is under way fails."""
        self._transport.abort()

    # What the event loop calls.
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        # `resume_writing` says when a request is sent to its last byte.
        self._transport.set_write_buffer_limits(high=0)
        self._session.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._answer is None:  # nobody asked: a service that ends the connection says why
            self._transport.close()
            return
        self.came_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(NotHttp("another protocol"))
        except httptools.HttpParserError as error:
            self._fail(NotHttp(f"no HTTP: {error}"))
        most = HEAD_BYTES
        if self._in_body:
            most += FRAMING_BYTES + (1 + FRAMING_OF_BYTE) * len(self._payload)
        if self.came_bytes > most:
            self._fail(NotHttp("Receive buffer too long"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._session.closed(self)
        if self._answer is None:
            return
        if exc is None and self._in_body and self._ends_with_connection():
            self.on_message_complete()
        else:
            self._fail(Broken("Server disconnected"), exc)

    def pause_writing(self) -> None:
        self._sending = True

    def resume_writing(self) -> None:
        self._sending = False
        if self._answer is None and self._waits_to_be_sent:
            self._wait()

    # What the parser calls.
    def on_message_begin(self) -> None:
        if self._answer is None:  # behind the answer, in what came with it
            self._transport.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body and self._answer is not None:  # or else it is a trailer
            self._fields.add(name.decode("latin-1"), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        if self._interim() or self._answer is None:
            return
        self._in_body = True
        if self._parser.get_status_code() < 100:
            self._fail(NotHttp("no status"))
            return
        if self._fields.get("content-encoding", "identity").strip().lower() != "identity":
            self._fail(UnreadAnswer(ENCODED))
            return
        length = self._fields.get("content-length", "0")
        if length.isdecimal() and int(length) > self._most_bytes:  # the parser takes no huge one
            self._fail(UnreadAnswer(TOO_LONG))

    def on_body(self, body: bytes) -> None:
        if self._answer is None:
            return
        if not self._payload:  # often this is all of it
            self._payload = body
        else:
            if isinstance(self._payload, bytes):
                self._payload = bytearray(self._payload)
            self._payload += body
        if len(self._payload) > self._most_bytes:
            self._fail(UnreadAnswer(TOO_LONG))

    def on_message_complete(self) -> None:
        end_ns = perf_counter_ns()
        answer, fields, payload = self._answer, self._fields, self._payload
        if answer is None:  # it failed meanwhile, or this is another one that nobody asked for
            return
        if self._interim():
            self._fields = Fields()
            return
        status, stays = self._parser.get_status_code(), self._parser.should_keep_alive()
        self._answer, self.deadline_s = None, math.inf
        self._begin()
        if not answer.done():
            answer.set_result(Received(status, fields, bytes(payload), end_ns))
        if not stays:
            self.abort() if self._sending else self._transport.close()
        elif self._sending:  # an early answer; the next request would wait behind this one
            self._waits_to_be_sent = True
            self._loop.call_later(SENT_S, self._give_up)
        else:
            self._wait()

    def _begin(self) -> None:
        self._fields = Fields()
        self._payload = b""
        self.came_bytes = self._most_bytes = 0
        self._in_body = self._waits_to_be_sent = False

    def _wait(self) -> None:
        self._waits_to_be_sent = False
        self.idle_since_ns = perf_counter_ns()
        self._session.waits(self, self._origin)

    def _give_up(self) -> None:
        if self._waits_to_be_sent:
            self._transport.abort()

    def _interim(self) -> bool:
        """Whether what came is no answer yet (RFC 9110, 15.2)."""
        return 100 <= self._parser.get_status_code() < 200

    def _ends_with_connection(self) -> bool:
        """Whether the end of the connection is that of the answer (RFC 9112, 6.3)."""
        return not ("content-length" in self._fields or "transfer-encoding" in self._fields)

    def _fail(self, failure: Exception, cause: BaseException | None = None) -> None:
        answer, self._answer, self.deadline_s = self._answer, None, math.inf
        if answer is not None and not answer.done():
            failure.__cause__ = cause
            answer.set_exception(failure)
            # Read here: a task that is cancelled in the same turn of the loop never does, and
            # asyncio would print a complaint at Ctrl-C.
            answer.exception()
        self._transport.abort()


def _lines(fields: Mapping[str, str]) -> str:
    return "".join([f"{name}: {value}\r\n" for name, value in fields.items()])


def _origin(url: URL) -> Origin:
    return url.scheme, url.raw_host or "", url.port or 0
