"""Connections to a service, by threads and by asyncio: they carry out the steps of a call.

Both stand on httpcore, the transport of httpx. httpx bounds each read and each write by itself: a
service that sends a byte now and then holds a call without end. Here the whole call has a bound.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from os import PathLike
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from seatrial.client.calls import Call, Lost, Pause, Send
from seatrial.client.credentials import Credentials
from seatrial.client.wire import HttpAnswer
from seatrial.errors import InvalidConfig, InvalidInput
from seatrial.system.extras import require
from seatrial.system.network import network_reason

if TYPE_CHECKING:
    import httpcore

T = TypeVar("T")
IDLE_S = 30.0  # a connection that was not used for so long is closed
# Written at a time where the kernel does not take all at once: the time left is read before each.
WRITE_BYTES = 16 * 1024


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

    def _answer(self, response: httpcore.Response) -> HttpAnswer:
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in response.headers}
        return HttpAnswer(response.status, headers, response.content)

    def _lost(self, error: Exception) -> Lost:
        library, reason = self._library, network_reason(error)
        if isinstance(error, (library.TimeoutException, TimeoutError)):
            return Lost("late", reason)
        if isinstance(error, library.ConnectError):
            return Lost("foreign" if _is_tls(error) else "refused", reason)
        if isinstance(error, library.NetworkError):
            return Lost("broken", reason)
        ended = "disconnected" in str(error) or "closed connection" in str(error)
        return Lost("broken" if ended else "foreign", reason)


def _is_tls(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None


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
        backend = _TimedBackend(self._library.SyncBackend())
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
        # Moments in place of durations: `_TimedStream` makes durations of them. The pool waits by
        # itself.
        timeout = {"connect": send.until, "read": send.until, "write": send.until, "pool": left_s}
        library = self._library
        try:
            response = self._pool.request(
                send.method, self._url(send), headers=list(send.headers.items()),
                content=send.body or None, extensions={"timeout": timeout},
            )  # fmt: skip
        except (library.TimeoutException, library.NetworkError, library.ProtocolError) as error:
            return self._lost(error)
        return self._answer(response)

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
            self._pool = self._library.AsyncConnectionPool(**self._options)
            self._loop = loop
        library = self._library
        try:
            async with asyncio.timeout(send.until - time.monotonic()):
                response = await self._pool.request(
                    send.method, self._url(send), headers=list(send.headers.items()),
                    content=send.body or None,
                )  # fmt: skip
        except (TimeoutError, library.TimeoutException, library.NetworkError,
                library.ProtocolError) as error:  # fmt: skip
            return self._lost(error)
        return self._answer(response)

    async def close(self) -> None:
        """Close the connections; a call after this raises InvalidInput."""
        self._closed = True
        if self._pool is not None and self._loop is asyncio.get_running_loop():
            await self._pool.aclose()


def _left_s(until: float | None) -> float | None:
    # 0 would be "do not block".
    return None if until is None else max(1e-6, until - time.monotonic())


class _TimedStream:
    """A stream of httpcore (its `NetworkStream`) whose timeouts are moments by `time.monotonic`.

    httpcore gives one duration to all reads and writes of a request; a moment stays right.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.close = stream.close
        self.get_extra_info = stream.get_extra_info

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data: bytes = self._stream.read(max_bytes, _left_s(timeout))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(self._written_at_once(buffer), len(buffer), WRITE_BYTES):
            self._stream.write(buffer[start : start + WRITE_BYTES], _left_s(timeout))

    def _written_at_once(self, buffer: bytes) -> int:
        """Number of bytes that the kernel took without a wait, mostly all of a request.

        Each write may wake the service for a part of the request.
        """
        if len(buffer) <= WRITE_BYTES or self._stream.get_extra_info("ssl_object") is not None:
            return 0
        try:
            line: socket.socket = self._stream.get_extra_info("socket")
            line.settimeout(0)
            return line.send(buffer)
        except OSError:  # it has no room; or the line is broken, which the next write tells
            return 0

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> _TimedStream:
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, _left_s(timeout)))


class _TimedBackend:
    """A backend that opens such streams (httpcore's `NetworkBackend`)."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, **options: Any
    ) -> _TimedStream:
        return _TimedStream(self._backend.connect_tcp(host, port, _left_s(timeout), **options))
