"""Reading into one buffer that all connections of a process share.

An asyncio protocol gets a new object of up to 256 KB for each read; a buffered one says where the
bytes go.
"""
# ruff: noqa: D102  what asyncio calls is documented there

from __future__ import annotations

import asyncio

# As much as uvloop reads at a time.
ROOM_BYTES = 256_000


class Arrivals(asyncio.BufferedProtocol):
    """Takes the place of a protocol on its transport, and calls it.

    Args:
        protocol: Its ``data_received`` gets a view of the buffer, which it may not keep.
        room: The buffer: of connections of one event loop alone.
    """

    def __init__(self, protocol: asyncio.Protocol, room: memoryview) -> None:
        self._protocol = protocol
        self._received = protocol.data_received
        self._room = room

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        self._received(self._room[:nbytes])  # type: ignore[arg-type]

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()
