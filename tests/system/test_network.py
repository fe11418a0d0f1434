"""Why nothing answers: the same words from two HTTP libraries and the hubs' clients."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import httpcore
import pytest
from yarl import URL

from seatrial.load.http_session import Broken, HttpSession, NotHttp, Unreachable
from seatrial.system.network import network_reason, no_answer


def by_session(url: str) -> BaseException:
    async def ask() -> None:
        async with HttpSession(1, 0.5) as http:
            await http.get(URL(url), 1000)

    with pytest.raises((Unreachable, Broken, NotHttp, TimeoutError)) as failure:
        asyncio.run(ask())
    return failure.value


def by_httpcore(url: str) -> BaseException:
    timeout = {"connect": 0.5, "read": 0.5}
    kinds = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)
    with pytest.raises(kinds) as failure, httpcore.ConnectionPool() as pool:
        pool.request("GET", url, extensions={"timeout": timeout})
    return failure.value


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def answer(listener: socket.socket, data: bytes) -> None:
    """Read the begin of each request, send `data`, close; until the listener is closed."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                with listener.accept()[0] as connection:
                    connection.recv(65536)
                    connection.sendall(data)

    threading.Thread(target=serve, daemon=True).start()


@pytest.mark.parametrize("ask", [by_session, by_httpcore])
def test_a_closed_port_and_a_name_that_is_none(ask: Callable[[str], BaseException]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            assert network_reason(ask(f"http://{host}:{port}")) == "Connection refused"
    assert network_reason(ask("http://no-such-host.invalid")) == "its name is not known here"


@pytest.mark.parametrize("ask", [by_session, by_httpcore])
@pytest.mark.parametrize(
    ("data", "scheme", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "http", "what answers there is not HTTP"),
        (b"", "http", "the connection is closed without an answer"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "https", "no encrypted connection"),
    ],
)
def test_what_listens_is_no_service(
    listener: socket.socket,
    ask: Callable[[str], BaseException],
    data: bytes,
    scheme: str,
    reason: str,
) -> None:
    answer(listener, data)
    assert network_reason(ask(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}")) == reason


@pytest.mark.parametrize("ask", [by_session, by_httpcore])
def test_a_service_that_hangs(listener: socket.socket, ask: Callable[[str], BaseException]) -> None:
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    assert network_reason(ask(url)) == "no answer in time"


@pytest.mark.parametrize(
    ("url", "reason", "hint"),
    [
        ("http://a:1", "Connection refused", "start a service"),
        ("https://a:1", "its certificate is not trusted (self-signed certificate)", "--ca-file"),
        ("http://a:1", "the connection is closed without an answer", "https://a:1"),
        ("grpc://a:1", "UNAVAILABLE: ipv4:1.2.3.4:1: Socket closed", "grpcs://a:1"),
        ("https://a:1", "the connection is closed without an answer", "start a service"),
        ("https://a:1", "no encrypted connection", "http://a:1"),
        ("http://a:1", "the connection is closed without an answer", "grpc://"),
        ("http://a:1", "this port speaks TLS: begin the address with https://", "https://a:1"),
    ],
)
def test_the_hint_fits_the_reason(url: str, reason: str, hint: str) -> None:
    error = no_answer(url, reason)
    assert error.message == f"nothing answers at {url}: {reason}"
    assert hint in error.hint


def test_what_has_no_cause_is_said_as_it_is() -> None:
    assert network_reason(ValueError("one\ntwo")) == "one"
    assert network_reason(OSError(113, "x")) == "No route to host"


def test_what_a_server_sent_is_looked_at_in_no_time() -> None:
    begun = time.thread_time()
    quoted = Exception("illegal status line: " + "CERTIFICATE_VERIFY_FAILED" * 8_000)
    assert network_reason(quoted) == "what answers there is not HTTP"
    assert time.thread_time() - begun < 1  # it was 7 s


def test_a_port_of_the_other_kind() -> None:
    error = no_answer("http://a:1", "what answers there is not HTTP")
    assert error.message == "no HTTP service is at http://a:1: what answers there is not HTTP"
    assert "grpc://" in error.hint
    error = no_answer(
        "grpc://a:1", "UNAVAILABLE: Trying to connect an http1.x server (HTTP status)"
    )
    assert error.message == "no gRPC service is at grpc://a:1: what answers there is HTTP/1.1"
    assert "http://a:1" in error.hint
    error = no_answer("grpcs://a:1", "UNKNOWN: Cannot check peer: missing selected ALPN property.")
    assert error.message == "no gRPC service is at grpcs://a:1: what answers there is HTTP/1.1"
    assert "https://a:1" in error.hint
    for said in ("illegal request line", "illegal status line: SETTINGS"):  # of frames of HTTP/2
        assert network_reason(ValueError(said)) == "what answers there is not HTTP"
    broken = "Cannot write to closing transport"
    assert network_reason(ValueError(broken)) == "the connection is closed without an answer"
