"""Connections after an answer: a client that goes on sending is hung up on, others are kept."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from raw_http import read_response
from seatrial.deployment import Limits
from seatrial.serve import connections
from seatrial.serve.connections import SKIPPED_BYTES

Running = Any
HUGE = 10**12

pytestmark = pytest.mark.usefixtures("time_limit")


def head(line: str, length: int | None) -> bytes:
    body = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"{line} HTTP/1.1\r\nHost: x\r\n{body}\r\n\r\n".encode()


def hung_up(connection: socket.socket) -> bool:
    """Send until the other side closes the connection; the time limit of the test ends it else."""
    block = bytes(2**16)
    try:
        while True:
            connection.sendall(block)
    except (BrokenPipeError, ConnectionResetError):
        return True


@pytest.fixture(autouse=True)
def short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LINGER_S", 0.05)


@pytest.mark.parametrize("length", [HUGE, None])
@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("POST /detect", 503),
        ("POST /nothing", 404),
        ("POST /model", 405),
        ("GET /model", 200),
    ],
)
def test_a_long_body_that_nobody_reads_is_not_taken(
    run_app: Callable[..., Any], line: str, status: int, length: int | None
) -> None:
    with run_app(Limits(queue=1)) as running, running.lanes_held():
        with running.connect() as connection:
            connection.sendall(head(line, length) + (b"ffffffff\r\n" if length is None else b""))
            found, headers, _ = read_response(connection)
            assert (found, headers["connection"]) == (status, "close")
            assert hung_up(connection)
        assert running.client.get("/model").status_code == 200


@pytest.mark.parametrize("query", ["", "?unknown=1"])
def test_a_body_over_the_limit_is_not_taken(running: Running, query: str) -> None:
    with running.connect() as connection:
        connection.sendall(head(f"POST /detect{query}", HUGE))
        status, headers, _ = read_response(connection)
        assert (status, headers["connection"]) == (400 if query else 413, "close")
        assert hung_up(connection)


@pytest.mark.parametrize("length", [2 * SKIPPED_BYTES, 12 * 2**20])
def test_who_sends_all_before_it_reads_gets_the_answer(
    run_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    monkeypatch.setattr(connections, "LINGER_S", 60.0)  # a busy machine may take a while
    body = bytes(length)
    with run_app(Limits(body_bytes=2**18)) as running:
        for _ in range(5):
            with running.connect() as connection:
                connection.sendall(head("POST /detect", len(body)))
                connection.sendall(body)
                assert read_response(connection)[0] == 413
                assert connection.recv(1) == b""  # an end, not a reset


def test_who_sends_no_more_is_hung_up_on_after_a_while(running: Running) -> None:
    with running.connect() as connection:
        connection.sendall(head("POST /detect", HUGE))
        assert read_response(connection)[0] == 413
        assert connection.recv(1) == b""


def test_a_body_that_does_not_come_ends_the_connection(run_app: Callable[..., Any]) -> None:
    with run_app(Limits(body_s=0.05)) as running, running.connect() as connection:
        connection.sendall(head("POST /detect", 9) + b"123")
        status, headers, _ = read_response(connection)
        assert (status, headers["connection"]) == (408, "close")
        assert connection.recv(1) == b""


def test_who_sends_little_keeps_the_connection(run_app: Callable[..., Any], photo: bytes) -> None:
    """A short body is skipped; a long one that was read is no reason to hang up."""
    long = photo + bytes(SKIPPED_BYTES + 1 - len(photo))
    with run_app() as running, running.connect() as connection:
        for line, body, status in (
            ("POST /nothing", bytes(SKIPPED_BYTES), 404),
            ("POST /detect", long, 200),
            ("POST /detect", bytes(len(long)), 415),
            ("POST /detect?unknown=1", photo, 400),
        ):
            connection.sendall(head(line, len(body)) + body)
            found, headers, _ = read_response(connection)
            assert found == status
            assert "connection" not in headers


def test_who_asks_before_it_sends_is_hung_up_on_with_a_refusal(
    running: Running, photo: bytes
) -> None:
    """Some clients send no body then, and their next request would be taken for it."""
    for line, status in (("POST /nothing", 404), ("POST /detect?unknown=1", 400)):
        with running.connect() as connection:
            asked = head(line, len(photo)).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
            connection.sendall(asked)
            found, headers, _ = read_response(connection)
            assert (found, headers["connection"]) == (status, "close")
            assert connection.recv(1) == b""
