"""The requests of a connection one by one: each is parsed when the one before it has its answer.

The parser takes all that it is given. Of 256 KB, which is one read, it makes 9,000 requests, and
each is objects and a task: before a token is looked at, and as fast as the client can send. So it
is given one head or one body at a time, and what came behind it waits as bytes; nothing more is
read meanwhile.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.flow_control import FlowControl

from seatrial.serve.connections import declared_bytes
from seatrial.serve.open_connections import Headers
from seatrial.serve.protocols.request_head import RefusedHead

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
