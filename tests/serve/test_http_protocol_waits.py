"""How long a connection waits: for a head, for a body, for a client that does not read."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from raw_http import GET, POST, last_error, read_response
from seatrial.deployment import Limits

Running = Any
Metric = Callable[..., float]
Until = Callable[[Callable[[], Any]], Any]
LARGE_BYTES = 32 * 2**20  # far more than the operating system keeps for a reader

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture(scope="module")
def short(run_app: Callable[..., Any]) -> Iterator[Running]:
    """An application that waits only a moment for its clients."""
    with run_app(Limits(header_s=0.2, idle_s=0.2)) as running:
        yield running


def test_who_says_nothing_is_hung_up_on(short: Running, metric: Metric) -> None:
    before = metric("seatrial_connections_closed_total", reason="head")
    with short.connect() as connection:
        assert connection.recv(1) == b""
    assert metric("seatrial_connections_closed_total", reason="head") == before + 1


@pytest.mark.parametrize("part", [b"G", GET, b"\r\n" + GET + b"X: a"])
def test_headers_that_do_not_end_in_time(short: Running, part: bytes) -> None:
    with short.connect() as connection:
        status, error = last_error(connection, part)
    assert (status, error["code"]) == (408, "Http408")


def test_slow_headers_are_not_given_more_time(short: Running) -> None:
    began = time.monotonic()
    with short.connect() as connection, pytest.raises((BrokenPipeError, ConnectionResetError)):
        connection.sendall(GET)
        while time.monotonic() < began + 30:
            connection.sendall(b"X")
            time.sleep(0.02)


def test_a_kept_connection_is_closed_after_a_while(short: Running) -> None:
    with short.connect() as connection:
        for end in (b"", b"\r\n", GET):
            connection.sendall(GET + b"\r\n")
            assert read_response(connection)[0] == 200
            connection.sendall(end)
            if end != b"\r\n":  # which may be sent between requests, and means nothing
                break
        assert connection.recv(1) == b""
    with short.connect() as connection:
        connection.sendall(GET + b"\r\n" + GET)
        assert read_response(connection)[0] == 200
        assert read_response(connection)[0] == 408


def test_a_body_that_nobody_waits_for_is_not_waited_for(short: Running) -> None:
    """It trickles in after the answer: uvicorn would be kept by a byte a minute."""
    with short.connect() as connection, pytest.raises((BrokenPipeError, ConnectionResetError)):
        connection.sendall(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n")
        assert read_response(connection)[0] == 404
        while True:
            connection.sendall(b"X")
            time.sleep(0.02)


def test_who_does_not_read_is_hung_up_on(
    short: Running, metric: Metric, until: Until, encode: Callable[..., bytes]
) -> None:
    """The answers fill what the operating system keeps, and then the memory of the service."""
    closed = metric("seatrial_connections_closed_total", reason="answer")
    large = encode(Image.effect_noise((800, 800), 200).convert("RGB"))
    request = b"POST /detect.jpg HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(large)
    with short.connect() as connection, pytest.raises((BrokenPipeError, ConnectionResetError)):
        while True:
            connection.sendall(request + large)
    until(lambda: metric("seatrial_connections_closed_total", reason="answer") == closed + 1)


def test_who_reads_neither_answers_nor_the_refusal_behind_them_is_hung_up_on(
    short: Running, metric: Metric, until: Until
) -> None:
    """What is no HTTP is refused after the answers to what came before."""
    closed = metric("seatrial_connections_closed_total", reason="answer")
    asks = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 700
    with short.connect() as connection:
        connection.sendall(asks + b"no HTTP\r\n")
        until(lambda: metric("seatrial_connections_closed_total", reason="answer") == closed + 1)


def test_a_refused_request_is_the_end_of_the_wait_for_its_head(
    run_app: Callable[..., Any],
) -> None:
    """A connection on which all requests are refused has not waited since its beginning."""
    one = POST + b"X:\r\nContent-Length: 1\r\n\r\nx"  # the parser reads it
    with (
        run_app(Limits(queue=1, header_s=0.2)) as running,
        running.lanes_held(),
        running.connect() as connection,
    ):
        began = time.monotonic()
        while time.monotonic() < began + 1:
            connection.sendall(one)
            assert read_response(connection)[0] == 503
            time.sleep(0.02)


async def large(request: Request) -> Response:
    return Response(bytes(LARGE_BYTES))


def test_answers_that_nobody_reads_do_not_fill_the_memory(
    run_app: Callable[..., Any], metric: Metric, until: Until
) -> None:
    """A request of a few bytes can have an answer of megabytes, and there are many connections."""
    closed = metric("seatrial_connections_closed_total", reason="answer")
    limits = Limits(body_bytes=2**16, bytes_in_flight=LARGE_BYTES + 2**20)
    with (
        run_app(limits, probes=[Route("/large", large)]) as running,
        running.connect() as first,
        running.connect() as second,
    ):
        for one in (first, second):
            one.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        until(lambda: metric("seatrial_connections_closed_total", reason="answer") == closed + 1)
        lost, whole = sorted(len(read_all(one)) for one in (first, second))
        assert lost < LARGE_BYTES < whole


def read_all(connection: socket.socket) -> bytes:
    found = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(2**20):
            found += part
    return bytes(found)
