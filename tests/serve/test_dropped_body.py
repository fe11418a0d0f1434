"""Bodies that nobody reads: few wake-ups, and not a byte too many."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

from seatrial.serve.arrivals import Arrivals, Room
from seatrial.serve.dropped_body import LEAST_BYTES, MOST_BYTES, DroppedBody

pytestmark = pytest.mark.usefixtures("time_limit")

LOOPS = [asyncio.SelectorEventLoop, uvloop.new_event_loop]
PIECE = 1000
NewLoop = Callable[[], asyncio.AbstractEventLoop]


class Dropping(asyncio.Protocol):
    """Drops so many bytes behind the first one, and keeps what follows."""

    def __init__(self, body_bytes: int) -> None:
        self.in_head = False
        self.room = Room()
        self.body_bytes = body_bytes
        self.dropped: DroppedBody | None = None
        self.reads = 0
        self.kept = b""
        self.changed = asyncio.Event()
        self.begun = threading.Event()
        self.lost = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.set_protocol(Arrivals(self, self.room))

    def data_received(self, data: bytes) -> None:
        self.reads += 1
        if self.dropped is None:
            self.dropped = DroppedBody(self.transport, self.room.whole)
            here = min(len(data) - 1, self.body_bytes)
            self.kept += bytes(data[1 + here :])
            if here < self.body_bytes:
                self.dropped.begin(self.body_bytes - here)
            self.begun.set()
        else:
            self.kept += bytes(data[self.dropped.take(len(data)) :])
        self.changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self.dropped is not None:
            self.dropped.close()
        self.changed.set()


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with ours:
        yield ours, theirs


def run(
    new_loop: NewLoop,
    body_bytes: int,
    send: Callable[[socket.socket, Dropping], object],
    until: Callable[[Dropping], bool],
) -> Dropping:
    """What a protocol saw of a client that sends on a thread of its own."""

    async def receive(client: socket.socket, ours: socket.socket) -> Dropping:
        protocol = Dropping(body_bytes)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, ours)
        sending = loop.run_in_executor(None, send, client, protocol)
        async with asyncio.timeout(60):
            while not until(protocol):
                protocol.changed.clear()
                await protocol.changed.wait()
            await sending
            transport.close()
            while not protocol.lost:
                protocol.changed.clear()
                await protocol.changed.wait()
        return protocol

    with pair() as (client, ours), asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(receive(client, ours))


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize("pieces", [100, 1000])
def test_a_body_in_pieces_seldom_wakes_the_process(new_loop: NewLoop, pieces: int) -> None:
    """Once for each `MOST_BYTES`; what follows the body is read from its first byte on."""
    body_bytes = pieces * PIECE

    def send(client: socket.socket, protocol: Dropping) -> None:
        client.sendall(b"h")
        assert protocol.begun.wait(60)
        for _ in range(pieces):
            client.sendall(bytes(PIECE))
        client.sendall(b"next")

    seen = run(new_loop, body_bytes, send, lambda protocol: protocol.kept == b"next")
    assert seen.dropped is not None
    assert seen.dropped.left_bytes == 0
    # The kernel wakes it sooner where it has no room for so much; each piece would be so many.
    assert seen.reads <= pieces // 10


@pytest.mark.parametrize("new_loop", LOOPS)
def test_what_is_there_already_is_dropped_without_a_wake_up(new_loop: NewLoop) -> None:
    sent = threading.Event()

    def send(client: socket.socket, protocol: Dropping) -> None:
        client.sendall(b"h")
        assert sent.wait(60)
        client.sendall(b"next")

    class Late(Dropping):
        def data_received(self, data: bytes) -> None:
            if self.dropped is None:  # the body comes while its head is looked at
                clients[0].sendall(bytes(body_bytes))
                super().data_received(data)
                left.append(self.dropped.left_bytes)  # type: ignore[union-attr]
                sent.set()
            else:
                super().data_received(data)

    left: list[int] = []
    clients: list[socket.socket] = []
    body_bytes = 20_000

    async def receive(client: socket.socket, ours: socket.socket) -> Dropping:
        protocol = Late(body_bytes)
        clients.append(client)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, ours)
        sending = loop.run_in_executor(None, send, client, protocol)
        async with asyncio.timeout(60):
            while protocol.kept != b"next":
                protocol.changed.clear()
                await protocol.changed.wait()
            await sending
            transport.close()
            await protocol.changed.wait()
        return protocol

    with pair() as (client, ours), asyncio.Runner(loop_factory=new_loop) as runner:
        seen = runner.run(receive(client, ours))
    assert left == [0]
    assert seen.reads == 2


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_goes_in_the_middle_is_noticed(new_loop: NewLoop, reset: bool) -> None:
    def send(client: socket.socket, protocol: Dropping) -> None:
        client.sendall(b"h")
        assert protocol.begun.wait(60)
        client.sendall(bytes(PIECE))
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()

    seen = run(new_loop, 100 * PIECE, send, lambda protocol: protocol.lost)
    assert seen.kept == b""


@pytest.mark.parametrize("left_bytes", [LEAST_BYTES - 1, LEAST_BYTES, 10 * MOST_BYTES])
def test_the_kernel_is_asked_to_wait_only_where_that_pays(left_bytes: int) -> None:
    with pair() as (client, ours), ours:
        dropped = DroppedBody(_transport(ours), memoryview(bytearray(1000)))

        def wakes_at() -> int:
            return ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)

        dropped.begin(left_bytes)
        pays = left_bytes >= LEAST_BYTES
        assert wakes_at() == (min(left_bytes, MOST_BYTES) if pays else 1)
        assert dropped.take(left_bytes + 7) == left_bytes
        assert (dropped.left_bytes, wakes_at()) == (0, 1)
        client.sendall(b"a")
        assert dropped.take(5) == 0
        assert ours.recv(2) == b"a"
        dropped.close()


def test_of_an_encrypted_connection_nothing_is_dropped_unread() -> None:
    with pair() as (client, ours), ours:
        client.sendall(b"abc")
        dropped = DroppedBody(_transport(ours, ssl_object=object()), memoryview(bytearray(1000)))
        dropped.begin(100_000)
        assert ours.recv(4) == b"abc"
        assert dropped.take(99_999) == 99_999
        assert dropped.left_bytes == 1
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1
        dropped.close()


def test_a_descriptor_is_closed_by_its_transport_alone() -> None:
    """Another file may have its number by the time that this object goes."""
    with pair() as (_, ours):
        dropped = DroppedBody(_transport(ours), memoryview(bytearray(1000)))
        number = ours.fileno()
        ours.close()
        other = os.open(os.devnull, os.O_RDONLY)
        os.dup2(other, number)
        dropped.close()
        del dropped
        gc.collect()
        os.fstat(number)
        for one in {number, other}:
            os.close(one)


def _transport(connection: socket.socket, **more: Any) -> Any:
    class Transport(asyncio.BaseTransport):
        pass

    return Transport({"socket": connection, **more})
