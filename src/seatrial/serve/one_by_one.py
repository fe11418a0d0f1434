"""The requests of a connection one by one: each is parsed when the one before it has its answer.

The parser takes all that it is given. Of 256 KB, which is one read, it makes 9,000 requests, and
each is objects and a task: before a token is looked at, and as fast as the client can send. So it
is given one head or one body at a time, and what came behind it waits as bytes; nothing more is
read meanwhile.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import httptools
from uvicorn.protocols.http.flow_control import FlowControl

from seatrial.serve.connections import declared_bytes
from seatrial.serve.open_connections import Headers
from seatrial.serve.protocols.request_head import (
    BEGIN_BYTES,
    HEAD_BYTES,
    RefusedHead,
    refusal_of,
    too_large,
)

END = b"\r\n\r\n"  # of each head, and of each chunked body
# Most bytes that are parsed at a time where no length is known: a chunked body takes a step of
# Python for each of its chunks, of six bytes at least.
PART_BYTES = 8192
# What one turn of the event loop does for a connection: so many parts, and with them so many
# chunks at most. Others come between.
PARTS = 64
CHUNKS_OF_A_PART = 16
# A body may have so many chunks of any size, and more where they are no shorter on average, with
# what frames them.
CHUNKS = 1000
CHUNK_BYTES = 64


class Ends:
    """Where the requests of one connection end.

    Attributes:
        left_bytes: Bytes of the present body that are to come; None where its length is not known,
            and before a body.
        chunks: Number of its chunks that came.
    """

    __slots__ = ("_begun", "_chunked_bytes", "_found", "chunks", "left_bytes")

    def __init__(self) -> None:
        self.left_bytes: int | None = None
        self.chunks = 0
        self._chunked_bytes = 0
        self._begun = b""  # what came last, where an end may have begun in it
        self._found = False

    def part(self, data: bytes | memoryview, in_head: bool) -> int:
        """Number of bytes that may be parsed: no request ends in front of the last of them.

        Args:
            data: What came, behind all parts before.
            in_head: Whether it belongs to a head, or else to a body.
        """
        if self.left_bytes and not in_head:
            return self.left_bytes
        begun = self._begun
        seen = begun + bytes(data[:PART_BYTES])
        end = seen.find(END)
        self._found = end >= 0
        if end >= 0:
            self._begun = b""
            return end + len(END) - len(begun)
        self._begun = seen[1 - len(END) :]
        return PART_BYTES

    def head(self, headers: Headers) -> None:
        """Note the length of the body that follows a head."""
        self.left_bytes = declared_bytes(headers) if self._found else None
        self.chunks = self._chunked_bytes = 0

    def body(self, size: int) -> None:
        """Note that so many bytes of a body were parsed.

        Raises:
            RefusedHead: Its chunks are too small.
        """
        if self.left_bytes is not None:
            self.left_bytes -= size
            return
        self._chunked_bytes += size
        if self.chunks > CHUNKS and self._chunked_bytes < CHUNK_BYTES * self.chunks:
            raise RefusedHead(
                400,
                f"the body has more than {CHUNKS} chunks, and they take fewer than {CHUNK_BYTES} "
                "bytes each on average",
                "send larger chunks, or a Content-Length",
            )


class Flow(FlowControl):
    """Reading and writing of one connection; nothing is read while something waits.

    Args:
        transport: The connection.

    Attributes:
        rest: Bytes that came and wait until it is their turn.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self.rest: bytes | memoryview = b""

    def hold(self, data: bytes | memoryview) -> None:
        """Keep what came; a view of a buffer that others use is copied."""
        if isinstance(data, memoryview) and not isinstance(data.obj, bytes):
            data = bytes(data)
        self.rest = memoryview(data)  # of which a part is no copy
        self.pause_reading()

    def take(self) -> bytes | memoryview:
        """Give what is kept, and keep it no longer."""
        rest, self.rest = self.rest, b""
        return rest

    def resume_reading(self) -> None:
        """Read on; not before all is parsed that came."""
        if self.read_paused and not self.rest:
            self.read_paused = False
            self._transport.resume_reading()


class Parser(Protocol):
    """The connection whose requests are parsed; the parser calls it back.

    Attributes:
        headers: Fields of the head that was parsed last.
        in_head: Whether the next bytes belong to a head, or else to a body.
        head_begun: Whether some of that head was parsed.
        over: Whether nothing is read any more.
    """

    headers: list[tuple[bytes, bytes]]
    in_head: bool
    head_begun: bool
    over: bool

    def is_idle(self) -> bool:
        """Whether all requests that came are answered."""

    def refuse_plain(self, data: bytes | memoryview) -> int:
        """Answer a request round the parser, if it is refused; how many bytes that took."""

    def feed(self, data: bytes | memoryview) -> None:
        """Have data parsed.

        Raises:
            RefusedHead: It is no request that is served.
            httptools.HttpParserError: It is none.
        """

    def refuse(self, refusal: RefusedHead) -> None:
        """Answer what is no request, and read nothing more."""

    def may_read(self) -> bool:
        """Whether there is room for more of a body."""

    def note_wait(self) -> None:
        """Say what the connection waits for, when all that came is parsed."""


class RequestsInTurn:
    """Has the requests of one connection parsed, each when the one before it has its answer.

    Args:
        parser: The connection.
        transport: The same.
        loop: Its event loop.

    Attributes:
        flow: Has what waits for its turn.
        ends: Where its requests end.
        advanced: Whether a head ended in what was parsed last, or a part of a body or its end came.
        unbounded_bytes: Bytes of a head, or of a body's framing, that the parser collects.
    """

    __slots__ = ("_loop", "_parser", "_transport", "advanced", "ends", "flow", "unbounded_bytes")

    def __init__(
        self, parser: Parser, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._parser, self._transport, self._loop = parser, transport, loop
        self.flow = Flow(transport)
        self.ends = Ends()
        self.advanced = False
        self.unbounded_bytes = 0

    def take(self, data: bytes | memoryview) -> None:
        """Parse what came, request by request; the rest is kept until it is its turn."""
        if self.flow.rest:  # the transport had read it before it was told to pause
            self.flow.hold(bytes(self.flow.rest) + bytes(data))
            return
        parser, ends, left, parsed = self._parser, self.ends, PARTS, False
        while data:
            if left <= 0 or (parser.in_head and not parser.is_idle()):
                self.flow.hold(data)
                if left <= 0:
                    self._loop.call_soon(self._go_on)
                break
            left -= 1
            if taken := parser.refuse_plain(data):
                data, parsed = data[taken:], False  # what it waits for is noted
                continue
            size, chunks = ends.part(data, parser.in_head), ends.chunks
            if size < len(data):
                part, data = data[:size], data[size:]
            else:
                part, data = data, b""
            parsed = self._parse(part)
            if not parsed:
                return
            left -= (ends.chunks - chunks) // CHUNKS_OF_A_PART
        if parsed:
            parser.note_wait()

    def answered(self) -> None:
        """Parse what waits for its turn, soon: a request has its answer."""
        if self.flow.rest:
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        rest = self.flow.take()
        if self._parser.over or self._transport.is_closing():
            return
        self.take(rest)
        if self._parser.may_read():
            self.flow.resume_reading()

    def _parse(self, data: bytes | memoryview) -> bool:
        """Parse a part of what came; whether it could be."""
        parser = self._parser
        self.advanced = False
        was_in_head, begins = parser.in_head, parser.in_head and not parser.head_begun
        try:
            parser.feed(data)
            if not parser.in_head:
                if was_in_head:
                    self.ends.head(parser.headers)
                else:
                    self.ends.body(len(data))
        except httptools.HttpParserError as error:
            parser.refuse(refusal_of(error, bytes(data[:BEGIN_BYTES]) if begins else b""))
        except RefusedHead as refused:
            parser.refuse(refused)
        else:
            if self.advanced:
                return True
            self.unbounded_bytes += len(data)
            if self.unbounded_bytes <= HEAD_BYTES:
                return True
            parser.refuse(too_large())
        return False
