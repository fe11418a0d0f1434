"""Reading into one buffer that all connections of a process share.

An asyncio protocol gets a new object of up to 256 KB for each read; a buffered one says where the
bytes go.
"""
# ruff: noqa: D102  what asyncio calls is documented there

from __future__ import annotations

import asyncio
from typing import Protocol

# As much as uvloop reads at a time.
ROOM_BYTES = 256_000
# More than the head of a request takes, mostly.
HEAD_ROOM_BYTES = 4096


class Room:
    """The buffer of the connections of one event loop.

    Attributes:
        whole: All of it.
        for_heads: The part into which the next request of a connection is read: all of it, or
            little where its body is likely to be dropped, since what is read is copied.
    """

    def __init__(self, size: int = ROOM_BYTES) -> None:
        self.whole = self.for_heads = memoryview(bytearray(size))

    def refuses(self, likely: bool) -> None:
        """Whether the next requests are likely to be refused."""
        self.for_heads = self.whole[:HEAD_ROOM_BYTES] if likely else self.whole


class Receiver(Protocol):
    """A protocol that takes what arrives.

    Attributes:
        in_head: Whether it waits for the head of a request, and not for the rest of a body.
    """

    in_head: bool

    def data_received(self, data: memoryview) -> None:
        """Take a view of the buffer, which may not be kept."""

    def eof_received(self) -> bool | None:
        """See `asyncio.Protocol`."""

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""


class Arrivals(asyncio.BufferedProtocol):
    """Takes the place of a protocol on its transport, and calls it.

    Args:
        protocol: The protocol.
        room: The buffer: of connections of one event loop alone.
    """

    def __init__(self, protocol: Receiver, room: Room) -> None:
        self._protocol = protocol
        self._received = protocol.data_received
        self._room = room
        self._whole = room.whole

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._room.for_heads if self._protocol.in_head else self._whole

    def buffer_updated(self, nbytes: int) -> None:
        self._received(self._whole[:nbytes])

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()
