"""Connections to a service, by threads and by asyncio: they carry out the steps of a call.

Both stand on httpcore, the transport of httpx. httpx bounds each read and each write by itself: a
service that sends a byte now and then holds a call without end. Here the whole call has a bound,
and so has the length of an answer.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from os import PathLike
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from seatrial.client.calls import Call, Lost, Pause, Send
from seatrial.client.credentials import Credentials
from seatrial.client.streams import AsyncBackend, TimedBackend, TooLong
from seatrial.client.wire import SHOWN, HttpAnswer
from seatrial.errors import InvalidConfig, InvalidInput
from seatrial.system.extras import require
from seatrial.system.network import network_reason

if TYPE_CHECKING:
    import httpcore

T = TypeVar("T")
IDLE_S = 30.0  # a connection that was not used for so long is closed
ERROR_BYTES = 2**20  # of an answer of another status than 200: a person reads a few lines
BODY = "its answer"
SWITCHED = 101  # to another protocol: what follows is no body


def _httpcore() -> ModuleType:
    return require("httpcore", extra="client", purpose="calling a running service")


def check_client() -> None:
    """Check that a service can be called.

    Raises:
        MissingExtra: A package is not installed.
    """
    _httpcore()


class _Pools:
    """Common part of both kinds of connections."""

    def __init__(
        self, url: str, *, connections: int, ca_file: str | PathLike[str] | None = None
    ) -> None:
        if isinstance(connections, bool) or not isinstance(connections, int) or connections < 1:
            raise InvalidConfig(f"connections {connections!r} is not a whole number from 1 on")
        self._library = _httpcore()
        origin = self._library.URL(url)
        self._origin = (origin.scheme, origin.host, origin.port)
        self._options: dict[str, Any] = {
            "max_connections": connections,
            "max_keepalive_connections": connections,
            "keepalive_expiry": IDLE_S,
        }
        if url.startswith("https:"):
            self._options["ssl_context"] = Credentials(ca_file=ca_file).tls()
        self._closed = False

    def _url(self, send: Send) -> httpcore.URL:
        scheme, host, port = self._origin
        url: httpcore.URL = self._library.URL(
            scheme=scheme, host=host, port=port, target=send.target.encode()
        )
        return url

    def _check_open(self) -> None:
        if self._closed:
            raise InvalidInput(
                "the client is closed", hint="call it before close(), or inside of its with block"
            )

    def _head(self, response: httpcore.Response, send: Send) -> HttpAnswer:
        """An answer without its body, the length of which is bounded from now on.

        Args:
            response: The answer.
            send: What was sent.

        Raises:
            TooLong: It says itself that it is too long.
        """
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in response.headers}
        head = HttpAnswer(response.status, headers, b"")
        most = send.most_bytes if head.status == 200 else ERROR_BYTES
        if int(headers.get("content-length", 0)) > most:  # h11 takes 20 digits and nothing else
            raise TooLong(BODY, most)
        if head.status != SWITCHED:
            response.extensions["network_stream"].allow(most, BODY)
        return head

    def _lost(self, error: Exception) -> Lost:
        library, reason = self._library, network_reason(error)
        if isinstance(error, (library.TimeoutException, TimeoutError)):
            return Lost("late", reason)
        if isinstance(error, library.ConnectError):
            return Lost("foreign" if _is_tls(error) else "refused", reason)
        if isinstance(error, library.NetworkError):
            return Lost("broken", reason)
        if "disconnected" in str(error) or "closed connection" in str(error):
            return Lost("broken", reason)
        return Lost("unusable", reason)


def _is_read(head: HttpAnswer) -> bool:
    """Whether the body is read: one that is encoded, unasked, cannot be used."""
    return head.status != SWITCHED and not head.encoding


def _whole(head: HttpAnswer, body: bytes) -> HttpAnswer | Lost:
    """An answer with its body, where it can be used."""
    if head.encoding and head.status == 200:
        reason = f"its answer is encoded ({head.encoding[:SHOWN]}), which was not asked for"
        return Lost("unusable", reason)
    return msgspec.structs.replace(head, body=body)


def _is_tls(error: BaseException | None) -> bool:
    """Whether encryption failed; not where the other side ended a handshake: it had no time."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    ended = isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)
    return error is not None and not ended


class ThreadTransport(_Pools):
    """Connections of threads, kept open and shared. Thread-safe, and safe across a fork.

    Args:
        url: Address of the service.
        connections: Most connections at a time.
        ca_file: Authorities of certificates, PEM; None: the machine's.

    Raises:
        InvalidConfig: A value cannot be used.
        MissingExtra: httpcore is not installed.
    """

    def __init__(
        self, url: str, *, connections: int, ca_file: str | PathLike[str] | None = None
    ) -> None:
        super().__init__(url, connections=connections, ca_file=ca_file)
        self._open()

    def _open(self) -> None:
        backend = TimedBackend(self._library.SyncBackend())
        self._pool: httpcore.ConnectionPool = self._library.ConnectionPool(
            network_backend=backend, **self._options
        )
        self._process = os.getpid()

    def run(self, call: Call[T]) -> T:
        """Carry out a call."""
        if os.getpid() != self._process:  # connections belong to the process before the fork
            self._open()
        got: HttpAnswer | Lost | None = None
        while True:
            try:
                step = call.send(got)
            except StopIteration as done:
                result: T = done.value
                return result
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                got = None
            else:
                got = self._exchange(step)

    def _exchange(self, send: Send) -> HttpAnswer | Lost:
        self._check_open()
        left_s = send.until - time.monotonic()
        if left_s <= 0:
            return Lost("late", "no time is left")
        # Moments in place of durations: `TimedStream` makes durations of them. The pool waits by
        # itself.
        timeout = {"connect": send.until, "read": send.until, "write": send.until, "pool": left_s}
        library = self._library
        try:
            with self._pool.stream(
                send.method, self._url(send), headers=list(send.headers.items()),
                content=send.body or None, extensions={"timeout": timeout},
            ) as response:  # fmt: skip
                head = self._head(response, send)
                return _whole(head, response.read() if _is_read(head) else b"")
        except (TimeoutError, library.TimeoutException, library.NetworkError,
                library.ProtocolError) as error:  # fmt: skip
            return self._lost(error)
        except TooLong as error:
            return Lost("unusable", str(error))

    def close(self) -> None:
        """Close the connections; a call after this raises InvalidInput."""
        self._closed = True
        if os.getpid() == self._process:
            self._pool.close()

    def __del__(self) -> None:
        if hasattr(self, "_process"):  # it was opened
            self.close()


class AsyncTransport(_Pools):
    """Connections of asyncio, kept open; each event loop has its own.

    Args:
        url: See `ThreadTransport`.
        connections: The same.
        ca_file: The same.

    Raises:
        InvalidConfig: A value cannot be used.
        MissingExtra: httpcore is not installed.
    """

    _pool: httpcore.AsyncConnectionPool | None = None
    _loop: asyncio.AbstractEventLoop | None = None

    async def run(self, call: Call[T]) -> T:
        """Carry out a call. To cancel it ends the request: the service does no more work on it."""
        got: HttpAnswer | Lost | None = None
        while True:
            try:
                step = call.send(got)
            except StopIteration as done:
                result: T = done.value
                return result
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                got = None
            else:
                got = await self._exchange(step)

    async def _exchange(self, send: Send) -> HttpAnswer | Lost:
        self._check_open()
        loop = asyncio.get_running_loop()
        if self._pool is None or self._loop is not loop:
            self._pool = self._library.AsyncConnectionPool(
                network_backend=AsyncBackend(self._library.AnyIOBackend()), **self._options
            )
            self._loop = loop
        library = self._library
        try:
            async with asyncio.timeout(send.until - time.monotonic()), self._pool.stream(
                send.method, self._url(send), headers=list(send.headers.items()),
                content=send.body or None,
            ) as response:  # fmt: skip
                head = self._head(response, send)
                return _whole(head, await response.aread() if _is_read(head) else b"")
        except (TimeoutError, library.TimeoutException, library.NetworkError,
                library.ProtocolError) as error:  # fmt: skip
            return self._lost(error)
        except TooLong as error:
            return Lost("unusable", str(error))

    async def close(self) -> None:
        """Close the connections; a call after this raises InvalidInput."""
        self._closed = True
        if self._pool is not None and self._loop is asyncio.get_running_loop():
            await self._pool.aclose()
