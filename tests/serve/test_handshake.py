"""HTTP over TLS on a real server: the same limits, from the first moment of a connection."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import seatrial
from certificates import Made
from raw_http import read_response
from seatrial.client.credentials import Credentials
from seatrial.deployment import Limits, Server
from seatrial.errors import ServiceFailed
from seatrial.serve.address import is_ready, url
from seatrial.serve.connection_limit import PROBE_PLACES
from seatrial.serve.handshake import PLAIN
from seatrial.serve.open_connections import Connections
from seatrial.system.network import SPEAKS_TLS
from secure_service import GET, asked, connected, first_message

Running = Any
Metric = Callable[..., float]
Until = Callable[[Callable[[], Any]], Any]

pytestmark = pytest.mark.usefixtures("time_limit")


def test_requests_are_answered(secure: tuple[Running, Made], photo: bytes) -> None:
    running, files = secure
    address = f"https://127.0.0.1:{running.port}"
    with seatrial.Client(address, ca_file=files.certificate) as client:
        assert client.is_ready()
        client.detect(photo)
    with connected(running, files.certificate) as connection:
        assert connection.version() == "TLSv1.3"
        assert [asked(connection) for _ in range(3)] == [200, 200, 200]
    with connected(running, files.certificate, maximum_version=ssl.TLSVersion.TLSv1_2) as one:
        assert asked(one) == 200


def test_a_client_trusts_nobody_else(
    secure: tuple[Running, Made], two_certificates: dict[str, Made]
) -> None:
    running, _ = secure
    for authority in (None, two_certificates["two"].certificate):
        address = f"https://127.0.0.1:{running.port}"
        with (
            seatrial.Client(address, ca_file=authority, retries=0) as client,
            pytest.raises(ServiceFailed, match="certificate is not trusted"),
        ):
            client.model()


def test_a_load_is_put_on_it(secure: tuple[Running, Made], photo: bytes) -> None:
    from yarl import URL

    from seatrial.load.http_client import exchange
    from seatrial.load.http_session import HttpSession
    from seatrial.load.target import Body

    running, files = secure

    async def sent() -> Any:
        async with HttpSession(1, 60.0, Credentials(ca_file=files.certificate)) as http:
            return await exchange(
                http, URL(f"https://127.0.0.1:{running.port}/detect"), Body(photo, {})
            )

    assert asyncio.run(sent()).status == 200


def test_readiness_is_asked_for_without_trust(secure: tuple[Running, Made]) -> None:
    running, files = secure
    server = Server(port=running.port, tls_certificate=str(files.certificate))
    assert url(server) == f"https://127.0.0.1:{running.port}"
    assert is_ready(server)
    assert not is_ready(Server(port=running.port))


def test_a_request_that_comes_with_the_end_of_the_handshake(secure: tuple[Running, Made]) -> None:
    """In one segment: it must not be lost, nor read before there is a protocol for it."""
    running, files = secure
    context = ssl.create_default_context(cafile=str(files.certificate))
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(coming, going, server_hostname="127.0.0.1")
    with running.connect() as raw:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                raw.sendall(going.read())
                coming.write(raw.recv(65536))
        tls.write(GET)
        raw.sendall(going.read())
        answer = b""
        while b"\r\n\r\n" not in answer:
            try:
                answer += tls.read(65536)
            except ssl.SSLWantReadError:
                coming.write(raw.recv(65536))
    assert answer.startswith(b"HTTP/1.1 200")


def test_what_is_no_tls_gets_no_answer(
    secure: tuple[Running, Made], metric: Metric, until: Until
) -> None:
    running, _ = secure
    before = metric("seatrial_connections_closed_total", reason="tls")
    for sent in (b"SSH-2.0-x\r\n", b"\0" * 600):
        with running.connect() as raw:
            raw.sendall(sent)
            with contextlib.suppress(ConnectionError):
                assert raw.recv(65536) == b""
    until(lambda: metric("seatrial_connections_closed_total", reason="tls") >= before + 2)


@pytest.mark.parametrize(
    "pieces", [[GET], [b"PO", b"S", b"T /detect HTTP/1.1\r\n" + b"x" * 300_000]]
)
def test_http_is_told_that_the_port_speaks_tls(
    secure: tuple[Running, Made], pieces: list[bytes], until: Until
) -> None:
    """Whatever it goes on sending: a connection that is reset loses its answer."""
    running, _ = secure
    with running.connect() as raw:
        for piece in pieces:
            raw.sendall(piece)
        status, headers, body = read_response(raw)
        assert (status, headers["connection"]) == (400, "close")
        assert body == b"this port speaks TLS: begin the address with https://\n"
        assert raw.recv(10) == b""
    assert body.decode().startswith(SPEAKS_TLS)  # by which commands know it
    with (
        seatrial.Client(f"http://127.0.0.1:{running.port}") as client,
        pytest.raises(ServiceFailed, match="this port speaks TLS"),
    ):
        client.model()


def test_protocol_errors_have_their_form(secure: tuple[Running, Made]) -> None:
    running, files = secure
    with connected(running, files.certificate) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        status, headers, body = read_response(connection)
        assert (status, json.loads(body)["error"]["code"]) == (400, "Http400")
        assert headers["connection"] == "close"


def test_a_handshake_that_fails_in_a_way_unknown_is_logged_and_counted_no_more(
    secure: tuple[Running, Made], until: Until, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    running, _ = secure
    ended: list[Any] = []
    closed = Connections.closed

    def noted(self: Connections, connection: Any) -> None:
        closed(self, connection)
        ended.append(connection)

    async def fails(*arguments: object) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(Connections, "closed", noted)
    monkeypatch.setattr("seatrial.serve.handshake.Handshake._secured", fails)
    with running.connect() as raw:
        raw.sendall(first_message())
        with contextlib.suppress(ConnectionError):
            assert raw.recv(1024) == b""
        until(lambda: ended)
    assert "ZeroDivisionError" in caplog.text


def test_slow_handshakes_end_with_the_time_for_headers(
    secure: tuple[Running, Made], metric: Metric, until: Until
) -> None:
    running, _ = secure

    def ended() -> float:
        name = "seatrial_connections_closed_total"
        return metric(name, reason="head") + metric(name, reason="tls")

    before = ended()
    with running.connect() as silent, running.connect() as slow:
        slow.sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a first message
        for connection in (silent, slow):
            with contextlib.suppress(ConnectionError):
                assert connection.recv(1) == b""  # and not after the 60 s of asyncio
    until(lambda: ended() >= before + 2)


def test_silent_connections_leave_room_for_probes(
    secure: tuple[Running, Made], metric: Metric, until: Until
) -> None:
    """A flood before any handshake: the oldest of them go, and a probe is answered."""
    running, files = secure
    before = metric("seatrial_connections_closed_total", reason="limit")
    with contextlib.ExitStack() as held:
        for _ in range(60):
            held.enter_context(running.connect())
        with connected(running, files.certificate) as connection:
            assert asked(connection, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n") == 200
        most = 16 + PROBE_PLACES
        closed = "seatrial_connections_closed_total"
        until(lambda: metric(closed, reason="limit") >= before + 60 - most)


def test_new_connections_get_the_new_certificate(
    secure: tuple[Running, Made], two_certificates: dict[str, Made], until: Until
) -> None:
    running, files = secure
    old = connected(running, two_certificates["one"].certificate)
    with old as before:
        assert asked(before) == 200
        for file, source in zip(files, two_certificates["two"], strict=True):
            file.write_bytes(source.read_bytes())

        def shown() -> bytes:
            raw = running.connect()
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(raw) as connection:
                return hashlib.sha256(connection.getpeercert(binary_form=True) or b"").digest()

        pem = two_certificates["two"].certificate.read_text()
        expected = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).digest()
        until(lambda: shown() == expected)
        assert asked(before) == 200
    with connected(running, two_certificates["two"].certificate) as after:
        assert asked(after) == 200


def test_a_socket_that_leaves_at_once(
    secure: tuple[Running, Made], metric: Metric, until: Until
) -> None:
    running, _ = secure
    before = metric("seatrial_connections")  # of other services in this process, too
    for _ in range(40):
        with running.connect() as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
    until(lambda: metric("seatrial_connections") < before + 20)


def test_one_too_many_is_counted_once(
    secure: tuple[Running, Made], until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted twice at its end, it would leave a place that does not exist."""
    running, _ = secure
    ended: list[Any] = []
    closed = Connections.closed

    def noted(self: Connections, connection: Any) -> None:
        closed(self, connection)
        ended.append(connection)

    monkeypatch.setattr(Connections, "_make_room", lambda self, newest: False)  # all others work
    monkeypatch.setattr(Connections, "closed", noted)
    with contextlib.ExitStack() as held:
        for _ in range(60):
            held.enter_context(running.connect())
        until(lambda: len(set(ended)) >= 60 - 16 - PROBE_PLACES)
    until(lambda: len(set(ended)) >= 60)
    assert len(ended) == len(set(ended))


@given(st.lists(st.binary(min_size=1, max_size=400), min_size=1, max_size=3))
@example([b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"])
@example([b"\x16\x03\x01\xff\xff" + b"\0" * 300])
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_first_bytes_get_no_answer_in_the_clear(
    secure: tuple[Running, Made], pieces: list[bytes]
) -> None:
    running, _ = secure
    with running.connect() as raw, contextlib.suppress(OSError):  # it has closed it already
        for piece in pieces:
            raw.sendall(piece)
        raw.shutdown(socket.SHUT_WR)
        answer = raw.recv(65536)
        assert b"HTTP" not in answer or PLAIN.match(b"".join(pieces))


def test_it_serves_all_the_same(
    secure: tuple[Running, Made], two_certificates: dict[str, Made]
) -> None:
    running, _ = secure
    with connected(running, two_certificates["two"].certificate) as connection:
        assert asked(connection) == 200


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_what_is_refused_is_dropped_to_its_last_byte(
    run_app: Callable[..., Any], two_certificates: dict[str, Made], photo: bytes, loop: str
) -> None:
    """By the service: the kernel, which drops bodies of other connections, knows no more of it."""
    files = two_certificates["one"]
    server = Server(tls_certificate=str(files.certificate), tls_key=str(files.key))
    head = b"POST /detect HTTP/1.1\r\nHost: x\r\n"
    with (
        run_app(Limits(queue=1), server=server, loop=loop) as running,
        connected(running, files.certificate) as connection,
    ):
        with running.lanes_held():
            for length in (len(photo), 200_000, 40_000):
                connection.sendall(head + b"Content-Length: %d\r\n\r\n" % length)
                assert read_response(connection)[0] == 503
                connection.sendall(bytes(length // 2))
                connection.sendall(bytes(length - length // 2))
        assert asked(connection) == 200
