"""Streams of httpcore with bounds of an answer: of its time for threads, of its length for all.

httpcore bounds neither a whole answer nor the number of informational answers before it, and gives
one duration to all reads and writes of a request. What is ready at once never waits, so a service
that always has more to say would hold a call, and fill the memory, without end.
"""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any

# Written at a time where the kernel does not take all at once: the time left is read before each.
WRITE_BYTES = 16 * 1024
# All heads of one answer, the informational ones too: httpcore reads one of 100 KiB at most.
HEAD_BYTES = 128 * 1024


HEAD = "the head of its answer"


class TooLong(Exception):
    """An answer is longer than it may be; its connection is closed.

    Args:
        what: What is.
        most: How long it may be, bytes.
    """

    def __init__(self, what: str, most: int) -> None:
        mebibytes = most >= 2**20 and most % 2**20 == 0
        bound = f"{most // 2**20} MiB" if mebibytes else f"{most // 1024} KiB"
        super().__init__(f"{what} is longer than {bound}")


def left_s(until: float | None) -> float | None:
    """Seconds until a moment by `time.monotonic`; None where there is none.

    Raises:
        TimeoutError: It has passed. What is ready takes no time to read: the system would not
            notice.
    """
    if until is None:
        return None
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


class _Bounded:
    """Counts what may be read of an answer, which begins with the end of the request."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.allow(HEAD_BYTES, HEAD)
        self.get_extra_info = stream.get_extra_info

    def allow(self, most: int, what: str) -> None:
        """Bound what is read until the next request.

        Args:
            most: Bytes.
            what: What they are, for the error.
        """
        self._left = most
        self._bound = (what, most)

    def _most(self, max_bytes: int) -> int:
        if self._left <= 0:
            raise TooLong(*self._bound)
        return min(max_bytes, self._left)


class TimedStream(_Bounded):
    """A stream for threads (`httpcore.NetworkStream`); timeouts are moments by `time.monotonic`.

    Args:
        stream: The stream of httpcore.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.close = stream.close

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """See `httpcore.NetworkStream`."""
        most = self._most(max_bytes)
        data: bytes = self._stream.read(most, left_s(timeout))
        self._left -= len(data)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """See `httpcore.NetworkStream`."""
        self.allow(HEAD_BYTES, HEAD)
        left_s(timeout)
        for start in range(self._written_at_once(buffer), len(buffer), WRITE_BYTES):
            left = left_s(timeout)
            self._stream.write(buffer[start : start + WRITE_BYTES], left)

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
    ) -> TimedStream:
        """See `httpcore.NetworkStream`."""
        left = left_s(timeout)
        return TimedStream(self._stream.start_tls(ssl_context, server_hostname, left))


class TimedBackend:
    """A backend that opens `TimedStream` (`httpcore.NetworkBackend`).

    Args:
        backend: The backend of httpcore.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, **options: Any
    ) -> TimedStream:
        """See `httpcore.NetworkBackend`."""
        left = left_s(timeout)
        return TimedStream(self._backend.connect_tcp(host, port, left, **options))


class AsyncStream(_Bounded):
    """A stream for asyncio (`httpcore.AsyncNetworkStream`); a call has its time elsewhere.

    Args:
        stream: The stream of httpcore.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.aclose = stream.aclose

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """See `httpcore.AsyncNetworkStream`."""
        data: bytes = await self._stream.read(self._most(max_bytes), timeout)
        self._left -= len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """See `httpcore.AsyncNetworkStream`."""
        self.allow(HEAD_BYTES, HEAD)
        await self._stream.write(buffer, timeout)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> AsyncStream:
        """See `httpcore.AsyncNetworkStream`."""
        return AsyncStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))


class AsyncBackend:
    """A backend that opens `AsyncStream` (`httpcore.AsyncNetworkBackend`).

    Args:
        backend: The backend of httpcore.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        **options: Any,
    ) -> AsyncStream:
        """See `httpcore.AsyncNetworkBackend`."""
        return AsyncStream(await self._backend.connect_tcp(host, port, timeout, **options))
