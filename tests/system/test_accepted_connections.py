"""Connections that something else in this process has accepted, over real sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from seatrial.system import accepted_connections as module
from seatrial.system.accepted_connections import AcceptedConnections, plain_address

Connect = Callable[[], tuple[socket.socket, socket.socket]]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield one


@pytest.fixture
def port(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


@pytest.fixture
def connect(listener: socket.socket) -> Iterator[Connect]:
    """Makes connections: the client's end and ours."""
    with contextlib.ExitStack() as stack:

        def make() -> tuple[socket.socket, socket.socket]:
            client = stack.enter_context(socket.create_connection(listener.getsockname()[:2]))
            client.settimeout(30)
            ours = stack.enter_context(listener.accept()[0])
            return client, ours

        yield make


def test_those_of_the_port_are_found_as_long_as_they_are_open(port: int, connect: Connect) -> None:
    found = AcceptedConnections(port)
    assert found.look() == []
    pairs = [connect() for _ in range(3)]
    peers = {client.getsockname() for client, _ in pairs}
    assert {one.peer for one in found.look()} == peers
    before = found.look()
    pairs[0][1].close()
    left = found.look()
    assert {one.peer for one in left} == peers - {pairs[0][0].getsockname()}
    assert {id(one) for one in left} < {id(one) for one in before}  # they keep their age
    for _, ours in pairs:
        ours.close()
    assert found.look() == []


def test_other_sockets_and_files_are_none_of_them(
    port: int, connect: Connect, tmp_path: Path
) -> None:
    found = AcceptedConnections(port)
    with contextlib.ExitStack() as stack:
        stack.enter_context((tmp_path / "file").open("w"))
        for one in socket.socketpair():
            stack.enter_context(one)
        other = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        client = stack.enter_context(socket.create_connection(other.getsockname()))
        stack.enter_context(other.accept()[0])
        stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        assert found.look() == []
        connect()  # whose other end is here as well
        assert len(found.look()) == 1
        assert client.fileno() >= 0


def test_one_is_ended_for_both_sides(port: int, connect: Connect) -> None:
    client, ours = connect()
    (one,) = AcceptedConnections(port).look()
    assert one.end()
    assert (client.recv(1), ours.recv(1)) == (b"", b"")
    client.close()
    ours.close()
    assert not one.end()


def test_what_its_client_has_not_taken_is_dropped_on_demand(port: int, connect: Connect) -> None:
    for drop in (False, True):
        client, ours = connect()
        ours.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                ours.send(bytes(2**20))
        (one,) = AcceptedConnections(port).look()
        assert one.end(drop=drop)
        ours.close()
        dropped = False
        try:
            while client.recv(2**20):
                pass
        except ConnectionResetError:
            dropped = True
        assert dropped == drop
        client.close()


def copies_of(number: int) -> set[int]:
    """The descriptors of this process for the same file: other threads make others meanwhile."""
    facts, found = os.fstat(number), set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(int(name)), facts):
                found.add(int(name))
    return found


def test_a_number_that_is_another_file_now_is_left_alone(port: int, connect: Connect) -> None:
    for other in (socket.socketpair, tempfile.TemporaryFile):
        _, ours = connect()
        (one,) = AcceptedConnections(port).look()
        with contextlib.ExitStack() as stack:
            made = other()  # type: ignore[operator]
            ends = made if isinstance(made, tuple) else (made,)
            for end in ends:
                stack.enter_context(end)
            number = ours.fileno()
            os.dup2(ends[0].fileno(), number)  # which closes the connection
            assert not one.end(drop=True)
            assert copies_of(number) == {number, ends[0].fileno()}  # it leaves no copy behind
            if isinstance(made, tuple):
                ends[1].sendall(b"x")
                assert os.read(number, 1) == b"x"
        ours.close()


def test_a_connection_that_took_the_number_of_another_is_one_of_its_own(
    port: int, connect: Connect
) -> None:
    found = AcceptedConnections(port)
    _, first = connect()
    (before,) = found.look()
    client, second = connect()
    os.dup2(second.fileno(), first.fileno())
    second.close()
    (after,) = found.look()
    assert after is not before
    assert after.peer == client.getsockname()
    assert not before.end()
    assert after.end()


def test_those_of_the_last_look_stand_where_none_can_be_made(
    port: int, connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As where the process has no descriptor left to list them with."""
    found = AcceptedConnections(port)
    connect()
    before = found.look()
    monkeypatch.setattr(module, "DESCRIPTORS", str(tmp_path / "none"))
    connect()
    assert found.look() == before
    assert AcceptedConnections(port).look() == []


@pytest.mark.parametrize(
    ("host", "plain"),
    [
        ("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"), ("fe80::1%eth0", "fe80::1"), ("::ffff:0:1", "::ffff:0:1"),
    ],
)  # fmt: skip
def test_one_client_has_one_address(host: str, plain: str) -> None:
    assert plain_address(host) == plain
