"""HTTP over TLS on a real server: the same limits, from the first moment of a connection."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import seatrial
from certificates import Made, make_certificate
from raw_http import read_response
from seatrial.client.credentials import Credentials
from seatrial.deployment import Limits, Server
from seatrial.errors import ServiceFailed
from seatrial.serve.address import is_ready, url
from seatrial.serve.connection_limit import PROBE_PLACES
from seatrial.serve.handshake import PLAIN, Handshake
from seatrial.serve.open_connections import Connections
from seatrial.system.network import SPEAKS_TLS

Running = Any
Metric = Callable[..., float]
Until = Callable[[Callable[[], Any]], Any]
GET = b"GET /model HTTP/1.1\r\nHost: x\r\n\r\n"
HEADER_S = 1.0

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    folder = tmp_path_factory.mktemp("certificates")
    return {name: make_certificate(folder, name) for name in ("one", "two")}


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def secure(
    request: pytest.FixtureRequest,
    run_app: Callable[..., Any],
    made: dict[str, Made],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Running, Made]]:
    """A service, and the files that it reads; on the event loop of each kind."""
    folder = tmp_path_factory.mktemp("service")
    files = Made(folder / "service.pem", folder / "service.key")
    for file, source in zip(files, made["one"], strict=True):
        file.write_bytes(source.read_bytes())
    server = Server(tls_certificate=str(files.certificate), tls_key=str(files.key))
    limits = Limits(header_s=HEADER_S, connections=16)
    with run_app(limits, server=server, loop=request.param) as served:
        yield served, files


def connected(
    running: Running, authority: Path, **options: Any
) -> contextlib.AbstractContextManager[ssl.SSLSocket]:
    context = ssl.create_default_context(cafile=str(authority))
    for name, value in options.items():
        setattr(context, name, value)
    raw = running.connect()
    return context.wrap_socket(raw, server_hostname="127.0.0.1")


def asked(connection: ssl.SSLSocket, sent: bytes = GET) -> int:
    connection.sendall(sent)
    return read_response(connection)[0]


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


def test_a_client_trusts_nobody_else(secure: tuple[Running, Made], made: dict[str, Made]) -> None:
    running, _ = secure
    for authority in (None, made["two"].certificate):
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


def first_message() -> bytes:
    """The first message of a client of TLS."""
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(coming, going, server_hostname="127.0.0.1")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return going.read()


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


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Handshake]:
    """The handshakes that had a turn, once for each."""
    found: list[Handshake] = []
    begin = Handshake.begin

    def noted(self: Handshake, *arguments: Any) -> None:
        found.append(self)
        begin(self, *arguments)

    monkeypatch.setattr(Handshake, "begin", noted)
    return found


def test_a_handshake_begins_with_the_whole_first_message(
    secure: tuple[Running, Made], begun: list[Handshake]
) -> None:
    """What is encrypted takes a quarter of a megabyte; who says little takes nothing of it."""
    running, files = secure
    hello = first_message()
    with contextlib.ExitStack() as held:
        for _ in range(4):
            held.enter_context(running.connect())
            held.enter_context(running.connect()).sendall(hello[:-1])
        with connected(running, files.certificate) as connection:
            assert asked(connection) == 200
        assert len(begun) == 1
        piecemeal = held.enter_context(running.connect())
        for index in range(0, len(hello), 100):
            piecemeal.sendall(hello[index : index + 100])
        assert piecemeal.recv(1) == b"\x16"
        assert len(begun) == 2


def test_a_first_message_in_two_records_is_waited_for(
    secure: tuple[Running, Made], begun: list[Handshake]
) -> None:
    """Its costly answer is made where the second is read: in its turn, and not before or after."""
    running, files = secure
    message = first_message()[5:]
    parts = [b"\x16\x03\x01" + len(part).to_bytes(2) + part for part in (message[:4], message[4:])]
    with running.connect() as raw:
        raw.sendall(parts[0])
        with connected(running, files.certificate) as other:
            assert asked(other) == 200
        assert len(begun) == 1
        raw.sendall(parts[1])
        assert raw.recv(1) == b"\x16"
        assert len(begun) == 2


def flights(raw: socket.socket, context: ssl.SSLContext, cut: int) -> ssl.SSLObject:
    """A handshake whose messages come in pieces of a length; then a request is answered."""
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(coming, going, server_hostname="127.0.0.1")
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send() -> None:
        sent = going.read()
        for at in range(0, len(sent), cut):
            raw.sendall(sent[at : at + cut])

    def until_done(step: Callable[[], Any]) -> Any:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                send()
                coming.write(raw.recv(65536))

    until_done(tls.do_handshake)
    tls.write(GET)
    send()
    assert until_done(lambda: tls.read(12)) == b"HTTP/1.1 200"
    return tls


@pytest.mark.parametrize("cut", [1, 100, 10_000])
def test_a_first_message_that_is_asked_for_again_waits_for_its_turn(
    secure: tuple[Running, Made], begun: list[Handshake], cut: int
) -> None:
    """The first answer (HelloRetryRequest) costs little then, and the second what others cost."""
    running, files = secure
    tls = running.app.state.serving.tls
    tls.context.set_ecdh_curve("secp521r1")  # none that a client offers at once
    try:
        with running.connect() as raw:
            flights(raw, ssl.create_default_context(cafile=str(files.certificate)), cut)
    finally:
        tls._take()
    assert len(set(begun)) == 1
    assert len(begun) >= 2
    with running.connect() as raw:
        flights(raw, ssl.create_default_context(cafile=str(files.certificate)), cut)
    assert begun.count(begun[-1]) == 1


@pytest.mark.parametrize("waits_for", [1, 16])
@pytest.mark.parametrize("cut", [1, 10_000])
def test_messages_of_tls_1_2_go_on_whether_by_turns_or_not(
    secure: tuple[Running, Made], monkeypatch: pytest.MonkeyPatch, begun: list[Handshake],
    waits_for: int, cut: int,
) -> None:  # fmt: skip
    """What is encrypted may look like a first message: here its key exchange does."""
    monkeypatch.setattr("seatrial.serve.handshake.CLIENT_HELLO", waits_for)
    running, files = secure
    context = ssl.create_default_context(cafile=str(files.certificate))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with running.connect() as raw:
        flights(raw, context, cut)
    assert (len(begun) > 1) is (waits_for == 16)
    with connected(running, files.certificate) as connection:
        assert asked(connection) == 200


@pytest.fixture
def counts(metric: Metric, until: Until) -> Callable[[], dict[str, float]]:
    """The connections that were closed since, by their reason, once all are gone."""
    reasons = ("head", "idle", "answer", "limit", "tls")

    def closed() -> dict[str, float]:
        return {one: metric("seatrial_connections_closed_total", reason=one) for one in reasons}

    before, there = closed(), metric("seatrial_connections")

    def since() -> dict[str, float]:
        until(lambda: metric("seatrial_connections") <= there)
        return {one: count - before[one] for one, count in closed().items() if count > before[one]}

    return since


def test_each_connection_that_is_closed_counts_once_with_its_reason(
    secure: tuple[Running, Made], counts: Callable[[], dict[str, float]]
) -> None:
    running, _ = secure
    hello = first_message()
    with contextlib.ExitStack() as held:
        silent = [held.enter_context(running.connect()) for _ in range(5)]
        silent[1].sendall(hello[:100])
        silent[2].sendall(hello)  # and nothing behind it
        sent = [held.enter_context(running.connect()) for _ in range(3)]
        sent[0].sendall(b"SSH-2.0-x\r\n")
        sent[1].sendall(GET)
        sent[2].sendall(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00")  # no sound message
        for connection in (*silent, *sent):
            with contextlib.suppress(ConnectionError):
                while connection.recv(65536):
                    pass
    assert counts() == {"head": 5, "tls": 3}


def test_who_leaves_by_itself_is_not_counted_as_closed(
    secure: tuple[Running, Made], counts: Callable[[], dict[str, float]], begun: list[Handshake]
) -> None:
    running, files = secure
    hello = first_message()
    for sent in (b"", hello[:50], hello):
        for resets in (False, True):
            with running.connect() as raw:
                raw.sendall(sent)
                if sent == hello:
                    raw.recv(1)  # it leaves in the middle
                if resets:
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    with connected(running, files.certificate) as connection:
        assert asked(connection) == 200
    assert counts() == {}


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
    secure: tuple[Running, Made], made: dict[str, Made], until: Until
) -> None:
    running, files = secure
    old = connected(running, made["one"].certificate)
    with old as before:
        assert asked(before) == 200
        for file, source in zip(files, made["two"], strict=True):
            file.write_bytes(source.read_bytes())

        def shown() -> bytes:
            raw = running.connect()
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(raw) as connection:
                return hashlib.sha256(connection.getpeercert(binary_form=True) or b"").digest()

        pem = made["two"].certificate.read_text()
        expected = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).digest()
        until(lambda: shown() == expected)
        assert asked(before) == 200
    with connected(running, made["two"].certificate) as after:
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


def test_it_serves_all_the_same(secure: tuple[Running, Made], made: dict[str, Made]) -> None:
    running, _ = secure
    with connected(running, made["two"].certificate) as connection:
        assert asked(connection) == 200


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_what_is_refused_is_dropped_to_its_last_byte(
    run_app: Callable[..., Any], made: dict[str, Made], photo: bytes, loop: str
) -> None:
    """By the service: the kernel, which drops bodies of other connections, knows no more of it."""
    files = made["one"]
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


def test_a_handshake_that_is_over_keeps_nothing(
    run_app: Callable[..., Any], made: dict[str, Made], until: Until
) -> None:
    """Each has a buffer of 256 KiB, and Python's next collection may be far.

    What failed, event loops keep until a collection themselves.
    """
    files = made["one"]
    server = Server(tls_certificate=str(files.certificate), tls_key=str(files.key))
    older = ssl.create_default_context(cafile=str(files.certificate))
    older.maximum_version = ssl.TLSVersion.TLSv1_2

    def buffers() -> int:
        return sum(type(one).__name__ == "SSLProtocol" for one in gc.get_objects())

    with run_app(Limits(header_s=HEADER_S), server=server, loop="asyncio") as running:
        before = buffers()
        gc.disable()
        try:
            for context in (ssl.create_default_context(cafile=str(files.certificate)), older):
                with running.connect() as raw:
                    flights(raw, context, 10_000)
            until(lambda: buffers() == before)
        finally:
            gc.enable()
