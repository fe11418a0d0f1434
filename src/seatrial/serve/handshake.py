"""The TLS handshake of one connection that is open already.

uvicorn would hand the connection over after its handshake: until then neither the limit of
connections nor that of time would hold for it. A handshake takes memory and time of the processor,
so it begins when the client's first message is there: see `seatrial.serve.handshakes`.
"""
# ruff: noqa: D102  what asyncio calls is documented there

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import time
from typing import Any, Protocol

# After which a connection that is closed does not wait for the client's word any more.
SHUTDOWN_S = 1.0
# Of a client's first message (RFC 8446, 4.1.2) before its handshake begins. Most have 0.5 to 2 KB.
HELLO_BYTES = 4096
HANDSHAKE, RECORD_BYTES = 22, 5  # type of its record, and the length of a record's head (5.1)
PLAIN = re.compile(rb"(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|TRACE|CONNECT|PRI) ")
METHOD = re.compile(rb"[A-Z]{1,7}")  # a part of one, perhaps
TOLD = b"this port speaks TLS: begin the address with https://\n"
TELLS = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(TOLD), TOLD)
)


class Owner(Protocol):
    """The protocol of a connection that is to be encrypted."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Have the encrypted connection."""

    def data_received(self, data: bytes) -> None:
        """Take what came with the end of the handshake."""

    def refused(self) -> None:
        """Its client was told that the port speaks TLS: the connection ends soon."""

    def insecure(self) -> None:
        """The connection ends without having been encrypted."""


class Queue(Protocol):
    """Begins handshakes; see `seatrial.serve.handshakes.Handshakes`.

    Attributes:
        room: Buffer that all of one event loop share, `HELLO_BYTES` long.
    """

    room: memoryview

    def add(self, one: Handshake) -> None:
        """A client's first message is there."""

    def answered(self, one: Handshake, took_s: float) -> None:
        """The answer to a first message was made, which takes most of a handshake's time."""

    def remove(self, one: Handshake) -> None:
        """A handshake is over, or the connection is lost."""


class Handshake(asyncio.BufferedProtocol):
    """Stands for the protocol of a connection until its handshake is done.

    Args:
        transport: The connection, in its ``connection_made``.
        queue: Calls `begin`.
        owner: Is told of the end.

    Attributes:
        address: Address of the client, without its port.
    """

    def __init__(self, transport: asyncio.Transport, queue: Queue, owner: Owner) -> None:
        self._transport = transport
        self._queue = queue
        self._owner = owner
        name = transport.get_extra_info("peername")
        self.address: str = name[0] if name else ""
        self._hello = b""
        self._refused = self._over = False
        self._task: asyncio.Task[None] | None = None
        transport.set_protocol(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._queue.room if self._refused else self._queue.room[: self._wanted_bytes]

    @property
    def _wanted_bytes(self) -> int:
        return HELLO_BYTES - len(self._hello)

    def buffer_updated(self, nbytes: int) -> None:
        if self._refused or self._transport.is_closing():
            return
        hello = self._hello = self._hello + bytes(self._queue.room[:nbytes])
        if hello[0] == HANDSHAKE:
            whole = int.from_bytes(hello[3:RECORD_BYTES]) + RECORD_BYTES
            if len(hello) >= min(
                whole if len(hello) >= RECORD_BYTES else RECORD_BYTES, HELLO_BYTES
            ):
                self._transport.pause_reading()
                self._queue.add(self)
        elif PLAIN.match(hello):
            self._refused = True
            self._transport.write(TELLS)
            if self._transport.can_write_eof():
                self._transport.write_eof()
            self._owner.refused()
        elif not METHOD.fullmatch(hello):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def begin(self, context: ssl.SSLContext, within_s: float) -> None:
        """Begin the handshake.

        Args:
            context: The service's certificate.
            within_s: Longest time.
        """
        self._task = asyncio.get_running_loop().create_task(self._shake(context, within_s))

    def abort(self) -> None:
        """End the connection: its place is needed."""
        self._transport.abort()

    async def _shake(self, context: ssl.SSLContext, within_s: float) -> None:
        after = _After(asyncio.current_task())
        try:
            async with asyncio.timeout(within_s + SHUTDOWN_S):
                secured = await self._secured(context, within_s, after)
        except (OSError, asyncio.CancelledError):  # ssl.SSLError, a client that left, the time
            secured = None
        except Exception:  # whatever it is, the connection has to be counted no more
            logging.getLogger(__name__).exception("a TLS handshake failed")
            secured = None
        # asyncio tells of a connection that was ended here as of one that is encrypted.
        if secured is None or self._transport.is_closing():
            self._transport.abort()
            self._end()
            return
        self._over = True
        self._queue.remove(self)
        secured.set_protocol(self._owner)  # type: ignore[arg-type]
        self._owner.connection_made(secured)
        if after.early:
            self._owner.data_received(bytes(after.early))

    async def _secured(
        self, context: ssl.SSLContext, within_s: float, after: _After
    ) -> asyncio.Transport | None:
        loop = asyncio.get_running_loop()
        begun = loop.create_task(
            loop.start_tls(
                self._transport, after, context, server_side=True, ssl_handshake_timeout=within_s,
                ssl_shutdown_timeout=SHUTDOWN_S,
            )
        )  # fmt: skip
        # It has its first step before this goes on. That puts another protocol on the transport,
        # which is told of its connection, and begins to read, in the next turn of the loop.
        await asyncio.sleep(0)
        loop.call_soon(self._repeat)
        return await begun

    def _repeat(self) -> None:
        """Give what was read to the protocol that has the connection now, as if it came now."""
        encrypting: Any = self._transport.get_protocol()
        if self._transport.is_closing() or encrypting is self:
            return

        hello, self._hello = self._hello, b""
        encrypting.get_buffer(len(hello))[: len(hello)] = hello
        begun = time.perf_counter()
        encrypting.buffer_updated(len(hello))
        self._queue.answered(self, time.perf_counter() - begun)

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._queue.remove(self)
            self._owner.insecure()


class _After(asyncio.Protocol):
    """Keeps what a client sends together with the end of its handshake.

    asyncio hands that on before whoever waits for the end is called.

    Attributes:
        early: It.
    """

    def __init__(self, waiting: asyncio.Task[None] | None) -> None:
        self.early = bytearray()
        self._waiting = waiting

    def data_received(self, data: bytes) -> None:
        self.early += data

    def connection_lost(self, exc: Exception | None) -> None:
        # asyncio says this, and no more, of a connection that is lost before its first step.
        if self._waiting is not None:
            self._waiting.cancel()
