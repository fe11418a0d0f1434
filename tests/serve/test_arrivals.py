"""What arrives is read into one buffer, on both event loops."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from seatrial.serve.arrivals import HEAD_ROOM_BYTES, Arrivals, Room


class Noted(asyncio.Protocol):
    """Writes down what it is told."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.in_head = True
        self.told: list[Any] = []
        self.done = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        transport.set_protocol(Arrivals(self, self.room))

    def data_received(self, data: bytes) -> None:
        assert isinstance(data, memoryview)
        assert data.obj is self.room.whole.obj
        self.told.append(bytes(data))

    def eof_received(self) -> bool | None:
        self.told.append("eof")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost")
        self.done.set()


@pytest.mark.parametrize("new_loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop])
def test_a_view_of_the_buffer_is_received(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def receive() -> list[Any]:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        protocol = Noted(Room(4))
        with theirs:
            await loop.connect_accepted_socket(lambda: protocol, ours)
            theirs.sendall(b"abcdefghij")
        async with asyncio.timeout(60):
            await protocol.done.wait()
        return protocol.told

    with asyncio.Runner(loop_factory=new_loop) as runner:
        told = runner.run(receive())
    assert told[-2:] == ["eof", "lost"]
    assert b"".join(told[:-2]) == b"abcdefghij"
    assert max(map(len, told[:-2])) == 4


def test_little_is_read_where_the_rest_is_likely_to_be_dropped() -> None:
    """Of the request after it; of a body that is wanted, as much as there is."""
    room = Room()
    protocol = Noted(room)
    arrivals = Arrivals(protocol, room)

    def most() -> int:
        return len(arrivals.get_buffer(-1))

    assert most() == len(room.whole)
    room.refuses(True)
    assert most() == HEAD_ROOM_BYTES
    protocol.in_head = False
    assert most() == len(room.whole)
    protocol.in_head = True
    room.refuses(False)
    assert most() == len(room.whole)
