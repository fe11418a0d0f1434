"""Bodies that came with their heads, and answers that are written in one piece."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from raw_http import POST, read_response
from seatrial.deployment import Limits
from seatrial.serve.exchange import Exchange
from seatrial.serve.http_protocol import PAUSE_BYTES
from seatrial.serve.one_write import OneWrite
from seatrial.serve.open_connections import Wait
from seatrial.serve.trace_context import Trace

Running = Any
Metric = Callable[..., float]

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def served(request: pytest.FixtureRequest, run_app: Callable[..., Any]) -> Iterator[Running]:
    limits = Limits(body_bytes=2**20, image_pixels=4_000_000)
    with run_app(limits, loop=request.param) as running:
        yield running


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each request, whether its body was there in one piece."""
    pieces: list[bool] = []
    take = Exchange.take_body

    def noted(self: Exchange) -> bytes | bytearray | None:
        body = take(self)
        pieces.append(body is not None)
        return body

    monkeypatch.setattr(Exchange, "take_body", noted)
    return pieces


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Writes of the interface between server and application."""
    written: list[int] = []
    write = OneWrite.write

    def noted(self: OneWrite, data: bytes) -> None:
        written.append(len(data))
        write(self, data)

    monkeypatch.setattr(OneWrite, "write", noted)
    return written


def request(body: bytes, path: bytes = b"/detect", fields: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    return POST.replace(b"/detect", path) + fields + length + b"\r\n" + body


@pytest.mark.parametrize("more_bytes", [0, PAUSE_BYTES])
def test_requests_of_one_connection_follow_each_other(
    served: Running, photo: bytes, taken: list[bool], in_parts: list[int], more_bytes: int
) -> None:
    """Also those of which reading was stopped, since nobody had asked for their bodies."""
    sent = request(photo + bytes(more_bytes))  # data behind the end of a JPEG are ignored
    with served.connect() as connection:
        for _ in range(4):
            connection.sendall(sent)
            status, _, body = read_response(connection)
            assert (status, len(json.loads(body)["detections"])) == (200, 1)
    assert taken[-1:] == [True] or more_bytes  # a long one may come in several reads
    assert len(taken) == 4
    assert in_parts == []


def test_requests_that_are_sent_at_once_are_answered_in_their_order(
    served: Running, photo: bytes, taken: list[bool]
) -> None:
    ids = [f"number-{number}" for number in range(6)]
    sent = b"".join(request(photo, fields=b"X-Request-Id: %b\r\n" % one.encode()) for one in ids)
    with served.connect() as connection:
        connection.sendall(sent)
        answers = list(itertools.islice(_answers(connection), len(ids)))
    assert [headers["x-request-id"] for headers, _ in answers] == ids
    assert {len(json.loads(body)["detections"]) for _, body in answers} == {1}
    assert all(taken)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_request_has_left_when_the_next_one_of_its_connection_is_looked_at(
    run_app: Callable[..., Any], photo: bytes, loop: str
) -> None:
    """Its answer is written before that; its place is free all the same."""
    with run_app(Limits(queue=1), loop=loop) as running, running.connect() as connection:
        connection.sendall(request(photo) * 8)
        assert len(list(itertools.islice(_answers(connection), 8))) == 8


def test_a_body_that_comes_later_is_waited_for(
    served: Running, photo: bytes, taken: list[bool], until: Callable[[Callable[[], Any]], Any]
) -> None:
    sent = request(photo)
    with served.connect() as connection:
        connection.sendall(sent[:-100])
        until(lambda: taken)
        connection.sendall(sent[-100:])
        assert read_response(connection)[0] == 200
    assert taken == [False]


@pytest.mark.parametrize("sent", [request(b""), request(bytes(2**20 + 1))])
def test_a_body_is_refused_as_it_is_in_pieces(served: Running, sent: bytes) -> None:
    with served.connect() as connection:
        connection.sendall(sent)
        status, _, body = read_response(connection)
        assert (status, json.loads(body)["error"]["code"]) in (
            (400, "InvalidInput"), (413, "InputTooLarge"),
        )  # fmt: skip


def test_who_reads_slowly_gets_all_answers(
    served: Running,
    encode: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
    until: Callable[[Callable[[], Any]], Any],
) -> None:
    """An answer waits until the one before it has left, and is written in parts then."""
    late: list[Exchange] = []
    answer = Exchange.answer

    def noted(self: Exchange, response: Any) -> None:
        answer(self, response)
        if not self.answered:
            late.append(self)

    monkeypatch.setattr(Exchange, "answer", noted)
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
    image = encode(Image.fromarray(noise), "JPEG")
    sent: list[int] = []

    def send() -> None:
        while not late and len(sent) < 100:
            connection.sendall(request(image, b"/detect.jpg"))
            sent.append(1)
        connection.sendall(request(image, b"/detect.jpg", b"X-Request-Id: last\r\n"))

    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(60)
        connection.connect(("127.0.0.1", served.port))
        sending = threading.Thread(target=send)
        sending.start()
        until(lambda: late)
        answers = []
        for headers, body in _answers(connection):
            answers.append(body)
            if headers["x-request-id"] == "last":
                break
        sending.join(60)
    assert len(answers) == len(sent) + 1
    assert {body[:3] for body in answers} == {b"\xff\xd8\xff"}
    assert len(set(answers)) == 1


def test_who_has_an_answer_finds_it_counted(served: Running, photo: bytes, metric: Metric) -> None:
    """By whatever they ask the process next: it comes to the event loop behind that."""

    async def counts() -> tuple[float, float, int]:
        return (
            metric("seatrial_stage_seconds_count", stage="total"),
            metric("seatrial_requests_total", route="/detect", code="200"),
            served.detector.lanes.present,
        )

    def now() -> tuple[float, float, int]:
        return asyncio.run_coroutine_threadsafe(counts(), served.loop).result(30)

    with served.connect() as connection:
        for _ in range(20):
            before = now()
            connection.sendall(request(photo))
            assert read_response(connection)[0] == 200
            assert now() == (before[0] + 1, before[1] + 1, 0)


def _answers(connection: socket.socket) -> Iterator[tuple[dict[str, str], bytes]]:
    """Headers and body of the answers of a connection, which follow each other."""
    data = b""
    while True:
        head, separator, rest = data.partition(b"\r\n\r\n")
        lines = [line.partition(": ") for line in head.decode("latin-1").split("\r\n")[1:]]
        headers = {name.lower(): value for name, _, value in lines}
        length = int(headers.get("content-length", 0))
        if separator and len(rest) >= length:
            assert head.startswith(b"HTTP/1.1 200 "), head
            yield headers, rest[:length]
            data = rest[length:]
            continue
        piece = connection.recv(2**20)
        assert piece, "the connection was closed"
        data += piece


@pytest.mark.parametrize("left", [False, True])
def test_a_client_that_has_left_is_waited_for_no_more(left: bool) -> None:
    waits: list[Wait] = []
    connections: Any = SimpleNamespace(waits=lambda connection, wait: waits.append(wait))
    cycle, connection = SimpleNamespace(disconnected=left), cast(Any, None)
    Exchange(cycle, Trace(()), connection, connections, None).lingers()
    assert waits == ([] if left else [Wait.END])
