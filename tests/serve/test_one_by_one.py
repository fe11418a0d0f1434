"""Requests of one connection, parsed one by one."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from typing import Any

import pytest

from raw_http import CHUNKED, GET, POST, last_error, read_response
from seatrial.serve.admission import Refusal
from seatrial.serve.arrivals import ROOM_BYTES
from seatrial.serve.http_protocol import HttpProtocol
from seatrial.serve.one_by_one import (
    CHUNK_BYTES,
    CHUNKS,
    END,
    PART_BYTES,
    PARTS,
    Ends,
    RequestsInTurn,
)
from seatrial.serve.refusing import Refusing

Running = Any
Until = Callable[[Callable[[], Any]], Any]

pytestmark = pytest.mark.usefixtures("time_limit")

PROBE = b"GET /livez HTTP/1.1\r\nHost:\r\n\r\n"
NO_TIME = Refusal("no time", "later", "queue", 1.0)
SENT = POST + b"Content-Length: %d\r\n\r\n%b"


def read_until(connection: socket.socket, what: bytes, count: int) -> bytes:
    data = b""
    while data.count(what) < count:
        data += (read := connection.recv(65536))
        assert read, "the connection was closed"
    return data


def chunks(body: bytes, size: int) -> bytes:
    parts = (body[begin : begin + size] for begin in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[HttpProtocol]:
    """The connection of each head that was parsed."""
    found: list[HttpProtocol] = []
    complete = HttpProtocol.on_headers_complete

    def noted(self: HttpProtocol) -> None:
        found.append(self)
        complete(self)

    monkeypatch.setattr(HttpProtocol, "on_headers_complete", noted)
    return found


@pytest.mark.parametrize("came", range(1, len(END)))
def test_an_end_that_is_cut_in_two_is_found(came: int) -> None:
    ends = Ends()
    assert ends.part(b"GET / HTTP/1.1\r\nHost: x" + END[:came], in_head=True) == PART_BYTES
    assert ends.part(END[came:] + PROBE, in_head=True) == len(END) - came


def test_what_comes_behind_a_request_is_not_parsed_before_its_answer(
    running: Running, photo: bytes, parsed: list[HttpProtocol], until: Until
) -> None:
    """However much of it there is, it is bytes, and of one read."""
    behind = SENT % (0, b"") + PROBE * (2 * ROOM_BYTES // len(PROBE))
    with running.connect() as connection, running.lanes_held():
        connection.setblocking(False)
        patient = b"X-Request-Timeout-Ms: 60000\r\nContent-Length: %d\r\n\r\n%b"
        sent = connection.send(POST + patient % (len(photo), photo) + behind)
        while sent < 2**30:  # as much as the kernel takes while nothing is read
            try:
                sent += connection.send(PROBE * 1000)
            except BlockingIOError:
                break
        assert sent > ROOM_BYTES
        until(lambda: parsed and parsed[0].flow.rest)
        for _ in range(10):  # rounds of the event loop
            assert running.client.get("/livez").status_code == 200
        (one,) = {one for one in parsed if one.client == connection.getsockname()}
        assert parsed.count(one) == 1
        assert not one.pipeline
        assert 0 < len(one.flow.rest) <= ROOM_BYTES
        assert one.flow.read_paused


def test_each_is_answered_in_its_turn(
    running: Running, photo: bytes, parsed: list[HttpProtocol]
) -> None:
    """One at a time: none is parsed while another one is at work."""
    at_work: list[int] = []
    start = HttpProtocol._start_asgi_task

    def noted(self: HttpProtocol, *args: Any) -> None:
        if self.client == own:
            at_work.append(len(self.pipeline))
        start(self, *args)

    with pytest.MonkeyPatch.context() as patched, running.connect() as connection:
        own = connection.getsockname()
        patched.setattr(HttpProtocol, "_start_asgi_task", noted)
        for _ in range(3):
            connection.sendall(
                SENT % (len(photo), photo) + GET + b"\r\n" + CHUNKED + chunks(photo, 4096) + PROBE
            )
        answers = read_until(connection, b"ok\n", 3)
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == answers.count(b"HTTP/1.1 ") == 12
    assert at_work == [0] * 12
    assert len([one for one in parsed if one.client == own]) == 12


def test_however_requests_are_cut_they_are_the_same(
    running: Running, photo: bytes, parsed: list[HttpProtocol]
) -> None:
    """Reads end anywhere; heads, bodies and chunks do not."""
    random.seed(0)
    many = [
        SENT % (len(photo), photo), SENT % (0, b""), PROBE, b"\r\n" + PROBE, GET + b"\r\n",
        CHUNKED + chunks(photo, 1000), CHUNKED + chunks(b"\r\n\r\n" * 50, 7),
        CHUNKED + chunks(b"\r\n\r\n" * 50, 300)[:-2] + b"X: y\r\n\r\n",
        POST + b"X: %b\r\nContent-Length: 2\r\n\r\n\r\n" % (b"a" * PART_BYTES),
    ]  # fmt: skip
    expected = [b"200", b"400", b"200", b"200", b"200", b"200", b"415", b"415", b"415"]
    order = [random.randrange(len(many)) for _ in range(40)]
    stream = b"".join(many[one] for one in order)
    received = HttpProtocol.data_received

    def cut(self: HttpProtocol, data: bytes | memoryview) -> None:
        whole = bytes(data)
        while whole:
            size = random.choice((1, 2, 3, 7, 50, 1000, PART_BYTES + 1, 10**6))
            part, whole = whole[:size], whole[size:]
            received(self, part)

    with pytest.MonkeyPatch.context() as patched, running.connect() as connection:
        own = connection.getsockname()
        patched.setattr(HttpProtocol, "data_received", cut)
        connection.sendall(stream)
        answers = read_until(connection, b"HTTP/1.1 ", len(order))
    found = [answer[:3] for answer in answers.split(b"HTTP/1.1 ")[1:]]
    assert found == [expected[one] for one in order]
    assert len([one for one in parsed if one.client == own]) == len(order)


def test_refusals_of_one_connection_let_others_come_between(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what one read brings, a turn of the event loop does a part."""
    turns: list[int] = []
    refuse, go_on = Refusing.write, RequestsInTurn._go_on

    def counted(self: Refusing, *args: Any) -> None:
        turns[-1] += 1
        refuse(self, *args)

    def next_turn(self: RequestsInTurn) -> None:
        turns.append(0)
        go_on(self)

    monkeypatch.setattr(Refusing, "write", counted)
    monkeypatch.setattr(RequestsInTurn, "_go_on", next_turn)
    received = HttpProtocol.data_received

    def at_once(self: HttpProtocol, data: bytes | memoryview) -> None:
        turns.append(0)
        received(self, bytes(data) * (10 * PARTS))

    monkeypatch.setattr(HttpProtocol, "data_received", at_once)
    late = POST + b"X-Request-Timeout-Ms: 1\r\nContent-Length: 0\r\n\r\n"
    dispatcher = running.service.dispatcher
    with running.connect() as connection:
        monkeypatch.setattr(type(dispatcher), "refusal", lambda *_: NO_TIME)
        monkeypatch.setattr(type(dispatcher), "idle", False)
        connection.sendall(late)
        read_until(connection, b"HTTP/1.1 503 ", 10 * PARTS)
    assert sum(turns) == 10 * PARTS
    assert max(turns) <= PARTS


def test_a_body_of_tiny_chunks_is_refused(running: Running) -> None:
    """Each chunk is a step of Python."""
    body = b"1\r\nx\r\n" * (CHUNKS + PART_BYTES)
    with running.connect() as connection:
        status, error = last_error(connection, CHUNKED + body)
    assert (status, error["code"]) == (400, "Http400")
    assert "chunks" in error["message"]


def test_the_chunks_of_a_body_before_say_nothing_of_those_of_the_next(running: Running) -> None:
    """A long body in long chunks would pay for one of tiny chunks."""
    long = chunks(bytes(CHUNK_BYTES * 4 * CHUNKS), CHUNK_BYTES * CHUNKS)
    with running.connect() as connection:
        connection.sendall(CHUNKED + long)
        assert read_response(connection)[0] == 415
        status, error = last_error(connection, CHUNKED + chunks(bytes(4 * CHUNKS), 1))
    assert (status, error["code"]) == (400, "Http400")
    assert "chunks" in error["message"]


@pytest.mark.parametrize(
    ("size", "count"), [(1, CHUNKS - 1), (CHUNK_BYTES, 4 * CHUNKS), (10_000, 20)]
)
def test_other_chunks_are_taken(running: Running, size: int, count: int) -> None:
    """A few tiny ones, and many that are not."""
    with running.connect() as connection:
        connection.sendall(CHUNKED + chunks(b"x" * size * count, size))
        assert read_response(connection)[0] == 415  # it is no image


def test_chunks_let_others_come_between(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn of the event loop takes few of them."""
    turns: list[int] = []
    take, count = RequestsInTurn.take, HttpProtocol.on_chunk_complete

    def turn(self: RequestsInTurn, data: bytes | memoryview) -> None:
        turns.append(0)
        take(self, data)

    def counted(self: HttpProtocol) -> None:
        turns[-1] += 1
        count(self)

    monkeypatch.setattr(RequestsInTurn, "take", turn)
    monkeypatch.setattr(HttpProtocol, "on_chunk_complete", counted)
    with running.connect() as connection:
        connection.sendall(CHUNKED + chunks(bytes(CHUNK_BYTES * 4000), CHUNK_BYTES))
        assert read_response(connection)[0] == 415
    assert sum(turns) == 4001
    assert max(turns) <= 1024 + PART_BYTES // CHUNK_BYTES
