"""First messages of TLS: waited for, in turns; and how the connections that end are counted."""

from __future__ import annotations

import contextlib
import gc
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from certificates import Made
from seatrial.deployment import Limits, Server
from seatrial.serve.handshake import Handshake
from secure_service import GET, HEADER_S, asked, connected, first_message

Running = Any
Metric = Callable[..., float]
Until = Callable[[Callable[[], Any]], Any]

pytestmark = pytest.mark.usefixtures("time_limit")


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


def test_a_handshake_that_is_over_keeps_nothing(
    run_app: Callable[..., Any], two_certificates: dict[str, Made], until: Until
) -> None:
    """Each has a buffer of 256 KiB, and Python's next collection may be far.

    What failed, event loops keep until a collection themselves.
    """
    files = two_certificates["one"]
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
