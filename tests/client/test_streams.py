"""Reads and writes of one connection: their moment, their length, and the order of what is sent.

A request is one write where the kernel takes it, and whole and in order where it does not.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from pathlib import Path

import httpcore
import pytest
from httpcore._backends.sync import SyncStream

from certificates import make_certificate
from seatrial.client.streams import HEAD_BYTES, WRITE_BYTES, TimedStream, TooLong

pytestmark = pytest.mark.usefixtures("time_limit")
BODY = bytes(range(256)) * 4096  # 1 MiB


class Noted(SyncStream):
    """A stream of httpcore that notes how long its writes are."""

    def __init__(self, line: socket.socket) -> None:
        super().__init__(line)
        self.lengths: list[int] = []
        self.begun = threading.Event()

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.lengths.append(len(buffer))
        self.begun.set()
        super().write(buffer, timeout)


def test_what_the_kernel_takes_at_once_is_one_write() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * len(BODY))
        stream = Noted(ours)
        part = BODY[: 2 * WRITE_BYTES]
        TimedStream(stream).write(part, time.monotonic() + 60)
        assert stream.lengths == []
        assert theirs.recv(len(part), socket.MSG_WAITALL) == part
        TimedStream(stream).write(b"short", time.monotonic() + 60)
        assert stream.lengths == [5]


def test_what_it_does_not_take_follows_in_pieces_and_in_order() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stream, read = Noted(ours), bytearray()

        def drain() -> None:
            stream.begun.wait()  # by then the kernel has refused the rest
            while len(read) < len(BODY):
                read.extend(theirs.recv(65536))

        reader = threading.Thread(target=drain)
        reader.start()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        TimedStream(stream).write(BODY, time.monotonic() + 60)
        reader.join()
        assert read == BODY
        assert max(stream.lengths) <= WRITE_BYTES


@pytest.mark.parametrize("room", [4096, 65536])
def test_what_is_encrypted_is_written_by_the_encryption_alone(tmp_path: Path, room: int) -> None:
    """OpenSSL wants to be given again what the kernel had no room for; a part is an error."""
    made = make_certificate(tmp_path, "one")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(made.certificate, made.key)
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
    read, begun = bytearray(), threading.Event()

    def take() -> None:
        with server.wrap_socket(theirs, server_side=True) as line:
            begun.wait()
            while data := line.recv(65536):
                read.extend(data)

    with ours, theirs:
        reader = threading.Thread(target=take)
        reader.start()
        trusted = ssl.create_default_context(cafile=made.certificate)
        with trusted.wrap_socket(ours, server_hostname="127.0.0.1") as line:
            stream = Noted(line)
            stream.begun = begun
            TimedStream(stream).write(BODY, time.monotonic() + 60)
        reader.join()
        assert read == BODY
        assert stream.lengths == [WRITE_BYTES] * (len(BODY) // WRITE_BYTES)


def test_who_does_not_read_holds_a_write_until_its_moment() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises((httpcore.WriteTimeout, TimeoutError)):
        TimedStream(SyncStream(ours)).write(BODY * 8, time.monotonic() + 0.2)


def test_what_is_ready_is_not_read_after_the_moment() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"x" * 100)
        stream, past = TimedStream(SyncStream(ours)), time.monotonic()
        assert stream.read(10, time.monotonic() + 60) == b"x" * 10
        with pytest.raises(TimeoutError):
            stream.read(10, past)
        with pytest.raises(TimeoutError):
            stream.write(b"y", past)
        with pytest.raises(TimeoutError):
            stream.write(b"y" * (2 * WRITE_BYTES), past)
        assert stream.read(1000) == b"x" * 90
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)


def test_an_answer_begins_with_a_request_and_has_a_bound() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stream = TimedStream(SyncStream(ours))
        for _ in range(2):
            stream.write(b"request")
            theirs.sendall(b"h" * 1000)
            assert len(stream.read(1000)) == 1000
            stream.allow(1500, "the body")
            theirs.sendall(b"b" * 2000)
            assert len(stream.read(1000)) == 1000
            assert len(stream.read(1000)) == 500
            with pytest.raises(TooLong, match="the body is longer than 1 KiB"):
                stream.read(1000)
            stream.allow(500, "the rest")
            assert len(stream.read(1000)) == 500
        stream.write(b"request")
        stream.allow(0, "nothing")
        stream.write(b"request")
        theirs.sendall(b"h")
        assert stream.read(2 * HEAD_BYTES) == b"h"
