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
from ipaddress import IPv6Address
from typing import Any, Protocol

from seatrial.serve.client_hello import (
    CLIENT_HELLO,
    HANDSHAKE,
    HELLO_BYTES,
    RECORD_BYTES,
    ClientHello,
)
from seatrial.system.accepted_connections import plain_address

# After which a connection that is closed does not wait for the client's word any more.
SHUTDOWN_S = 1.0
# After the limit of headers, which ends a connection within a second: it has the reason.
LATE_S = 2.0
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

    def insecure(self, *, failed: bool) -> None:
        """The connection ends without having been encrypted.

        Args:
            failed: Whether the handshake is why: its client sent what is none, or took too long.
        """


class Queue(Protocol):
    """Begins handshakes; see `seatrial.serve.handshakes.Handshakes`.

    Attributes:
        room: Buffer that all of one event loop share, `HELLO_BYTES` long.
    """

    room: memoryview

    def add(self, one: Handshake) -> None:
        """A client's message is there whose answer may take most of a handshake's time."""

    def answered(self, one: Handshake, took_s: float) -> None:
        """That answer was made."""

    def remove(self, one: Handshake) -> None:
        """A handshake is over, or the connection is lost."""


def _network(host: str) -> str:
    address = plain_address(host)
    return f"{int(IPv6Address(address)) >> 64:x}::" if ":" in address else address


class Handshake(asyncio.BufferedProtocol):
    """Stands for the protocol of a connection until its handshake is done.

    Args:
        transport: The connection, in its ``connection_made``.
        queue: Calls `begin`.
        owner: Is told of the end.

    Attributes:
        address: Address of the client without its port; of IPv6 the first 64 bits, since one client
            has as many of the others as it likes.
    """

    def __init__(self, transport: asyncio.Transport, queue: Queue, owner: Owner) -> None:
        self._transport = transport
        self._queue = queue
        self._owner = owner
        name = transport.get_extra_info("peername")
        self.address = _network(name[0]) if name else ""
        self._hello = ClientHello()
        self._refused = self._over = self._failed = self._paused = False
        self._task: asyncio.Task[None] | None = None
        self._encrypting: Any = None  # the event loop's protocol, once it has the first message
        self._by_turns = False  # whether all that comes waits for a turn
        self._held = b""  # of what came behind the first message
        self._skipped_bytes = 0  # to the end of a record that is not looked at
        transport.set_protocol(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._refused or self._encrypting is not None:
            return self._queue.room
        return self._queue.room[: HELLO_BYTES - len(self._hello.data)]

    def buffer_updated(self, nbytes: int) -> None:
        if self._refused or self._transport.is_closing():
            return
        piece = bytes(self._queue.room[:nbytes])
        if self._encrypting is None:
            self._take_first(piece)
        else:
            self._take_more(piece)

    def eof_received(self) -> bool | None:
        stays: bool | None = self._encrypting and self._encrypting.eof_received()
        return stays

    def pause_writing(self) -> None:
        if self._encrypting is not None:
            self._encrypting.pause_writing()

    def resume_writing(self) -> None:
        if self._encrypting is not None:
            self._encrypting.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._encrypting is None:
            self._end()
            return
        # It ends `_shake`, by an error or by its being cancelled.
        self._failed |= isinstance(exc, ssl.SSLError) and not isinstance(exc, ssl.SSLEOFError)
        encrypting = self._encrypting
        self._encrypting = None  # or else both stay: a buffer of 256 KiB
        encrypting.connection_lost(exc)

    def begin(self, context: ssl.SSLContext, within_s: float) -> None:
        """Begin the handshake, or go on with it.

        Args:
            context: The service's certificate.
            within_s: Longest time.
        """
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._shake(context, within_s))
            return
        held, self._held = self._held, b""
        begun = time.perf_counter()
        self._resume()
        self._pass_on(held)
        self._queue.answered(self, time.perf_counter() - begun)

    def _take_first(self, piece: bytes) -> None:
        """Take a part of the first message; the handshake begins when that is whole."""
        hello = self._hello
        hello.add(piece)
        if hello.whole:
            self._wait_for_turn()
        elif not hello.other:
            return
        elif PLAIN.match(hello.data):
            self._refused = True
            self._transport.write(TELLS)
            if self._transport.can_write_eof():
                self._transport.write_eof()
            self._owner.refused()
        elif not METHOD.fullmatch(hello.data):
            self._failed = True
            self._transport.abort()
        else:
            hello.other = False  # until there is more of it

    def _take_more(self, piece: bytes) -> None:
        """Pass on what comes behind the first message, but for what may cost as much as that.

        A client whose first message the server asks for again (HelloRetryRequest) gets its costly
        answer then. From there on all waits for a turn, since nothing tells where that begins: what
        is encrypted in TLS 1.2 may look the same.

        Source: RFC 8446, 4.1.4 and 5.1.
        """
        data, at = self._held + piece, 0
        while not self._by_turns and at < len(data):
            if self._skipped_bytes:
                count = min(self._skipped_bytes, len(data) - at)
                self._skipped_bytes, at = self._skipped_bytes - count, at + count
                continue
            length = int.from_bytes(data[at + 3 : at + RECORD_BYTES])
            is_handshake = data[at] == HANDSHAKE and length > 0
            if len(data) < at + RECORD_BYTES + is_handshake:
                break
            if not is_handshake:
                at, self._skipped_bytes = at + RECORD_BYTES, length
            elif data[at + RECORD_BYTES] == CLIENT_HELLO:
                self._by_turns = True
            else:  # TLS 1.2, in which the first answer was the costly one
                self._transport.set_protocol(self._encrypting)
                at = len(data)
        self._held = data[at:]
        self._pass_on(data[:at])
        if self._by_turns and not self._transport.is_closing():
            self._wait_for_turn()
        elif self._transport.get_protocol() is not self:
            self._encrypting = None

    def _pass_on(self, data: bytes) -> None:
        """Give what was read to the protocol that has the connection now, as if it came now."""
        if data and not self._transport.is_closing():
            self._encrypting.get_buffer(len(data))[: len(data)] = data
            self._encrypting.buffer_updated(len(data))

    def _wait_for_turn(self) -> None:
        self._transport.pause_reading()
        self._paused = True
        self._queue.add(self)

    def _resume(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """End the connection: its place is needed."""
        self._failed = True
        self._transport.abort()

    async def _shake(self, context: ssl.SSLContext, within_s: float) -> None:
        after = _After(asyncio.current_task())
        try:
            async with asyncio.timeout(within_s + 2 * LATE_S):
                secured = await self._secured(context, within_s, after)
        except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError, asyncio.CancelledError):
            secured = None  # the client left, or the connection was ended for another reason
        except OSError:  # ssl.SSLError, the time
            self._failed, secured = True, None
        except Exception:  # whatever it is, the connection has to be counted no more
            logging.getLogger(__name__).exception("a TLS handshake failed")
            self._failed, secured = True, None
        # asyncio tells of a connection that was ended here as of one that is encrypted.
        if secured is None or self._transport.is_closing():
            self._transport.abort()
            self._end()
            return
        self._over = True
        self._queue.remove(self)
        if self._encrypting is not None:
            self._transport.set_protocol(self._encrypting)
            self._pass_on(self._held)
            self._resume()
            self._encrypting = None
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
                self._transport, after, context, server_side=True,
                ssl_handshake_timeout=within_s + LATE_S, ssl_shutdown_timeout=SHUTDOWN_S,
            )
        )  # fmt: skip
        # It has its first step before this goes on. That puts another protocol on the transport,
        # which is told of its connection, and begins to read, in the next turn of the loop.
        await asyncio.sleep(0)
        loop.call_soon(self._repeat)
        return await begun

    def _repeat(self) -> None:
        """Give the first message to the event loop's protocol; what follows comes here first."""
        encrypting: Any = self._transport.get_protocol()
        if self._transport.is_closing() or encrypting is self:
            return
        self._encrypting, self._paused = encrypting, False
        self._transport.set_protocol(self)
        hello, self._hello = bytes(self._hello.data), ClientHello()
        begun = time.perf_counter()
        self._pass_on(hello)
        self._queue.answered(self, time.perf_counter() - begun)

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._queue.remove(self)
            self._owner.insecure(failed=self._failed)


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
