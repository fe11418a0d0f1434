"""Clients that send a byte now and then keep nobody out, whatever they say of their bodies' length.

Real sockets. A drip comes far more often here than once a second: less would be slower still.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import raw_http2
from certificates import make_certificate
from raw_http import CHUNKED, POST, read_response
from seatrial.deployment import Limits, Server
from seatrial.serve import bodies_to_come, connections, handshake
from seatrial.serve.connection_limit import PROBE_PLACES
from seatrial.serve.connections import SKIPPED_BYTES

Running = Any
Until = Callable[[Callable[[], Any]], Any]

pytestmark = pytest.mark.usefixtures("time_limit")
BODY = 2**18
DRIP_S = 0.02
QUEUE = 4
# What a client says of its body, and what it sends of it each time.
DRIPS = {
    "short": (POST + b"Content-Length: 4000\r\n\r\n", b"x"),
    "long": (POST + b"Content-Length: %d\r\n\r\n" % BODY, b"x"),
    "chunked": (CHUNKED, b"1\r\nx\r\n"),
}


@contextlib.contextmanager
def dripping(running: Running, count: int, head: bytes, drip: bytes) -> Iterator[list[Any]]:
    """So many clients that send a bit of a body again and again, whatever they are answered."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(running.connect()) for _ in range(count)]
        for one in clients:
            one.sendall(head)
        stack.enter_context(sent_on(clients, drip))
        yield clients


@contextlib.contextmanager
def sent_on(clients: list[Any], drip: bytes) -> Iterator[None]:
    over = threading.Event()

    def send() -> None:
        while not over.wait(DRIP_S):
            for one in clients:
                with contextlib.suppress(OSError):
                    one.send(drip)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def ended(connection: socket.socket) -> bool:
    """Wait for the end of a connection."""
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(65536):
            pass
    return True


@pytest.mark.parametrize("kind", DRIPS)
def test_they_give_their_places_to_who_sends(
    run_app: Callable[..., Any], photo: bytes, until: Until, metric: Callable[..., float], kind: str
) -> None:
    before = metric("seatrial_refusals_total", reason="slow")
    limits = Limits(queue=QUEUE, body_bytes=BODY, body_s=300.0, deadline_s=30.0)
    with run_app(limits) as running, dripping(running, QUEUE, *DRIPS[kind]) as clients:
        until(lambda: running.detector.lanes.present == QUEUE)
        for _ in range(3):
            until(lambda: running.client.post("/detect", content=photo).status_code == 200)
        assert read_response(clients[0])[0] == 503
    assert metric("seatrial_refusals_total", reason="slow") > before


@pytest.mark.parametrize("kind", DRIPS)
def test_alone_they_have_the_time_of_a_body_and_no_more(
    run_app: Callable[..., Any], until: Until, kind: str
) -> None:
    """And what follows their refusal keeps no connection."""
    limits = Limits(body_bytes=BODY, body_s=0.3, header_s=0.5, deadline_s=30.0)
    with run_app(limits) as running, dripping(running, QUEUE, *DRIPS[kind]) as clients:
        assert [read_response(one)[0] for one in clients] == [408] * QUEUE
        assert all(map(ended, clients))
        until(lambda: running.detector.lanes.present == 0)


@pytest.mark.parametrize("kind", DRIPS)
def test_they_give_their_connections_to_who_sends(
    run_app: Callable[..., Any], photo: bytes, until: Until, kind: str
) -> None:
    """Where there are fewer connections than places in the queue."""
    most = 20
    limits = Limits(connections=most, body_bytes=BODY, body_s=300.0, deadline_s=30.0)
    sent = POST + b"Content-Length: %d\r\n\r\n" % len(photo) + photo
    with run_app(limits) as running, dripping(running, most, *DRIPS[kind]):
        until(lambda: running.detector.lanes.present == most)

        def status() -> int:
            with running.connect() as honest:
                honest.sendall(sent)
                return read_response(honest)[0]

        for _ in range(3):
            until(lambda: status() == 200)  # of the first bytes a body may take 0.05 s


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: %d" % (2 * SKIPPED_BYTES),
        b"Expect: 100-continue\r\nContent-Length: 1000",
    ],
    ids=["long", "expect"],
)
def test_those_that_gave_way_keep_no_place_of_a_probe(
    run_app: Callable[..., Any], until: Until, monkeypatch: pytest.MonkeyPatch, fields: bytes
) -> None:
    """What is left of their bodies is dropped for a while, and others like them come meanwhile."""
    monkeypatch.setattr(connections, "LINGER_S", 60.0)  # all of them at once, on any machine
    monkeypatch.setattr(bodies_to_come, "BEGINS_S", 0.0)
    most = 20
    limits = Limits(connections=most, body_s=300.0, deadline_s=30.0)
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(run_app(limits))

        def come() -> None:
            client = stack.enter_context(running.connect())
            client.sendall(POST + fields + b"\r\n\r\nx")

        for _ in range(most):
            come()
        until(lambda: running.detector.lanes.present == most)
        for _ in range(2 * PROBE_PLACES):
            come()
            with running.connect() as probe:
                probe.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert read_response(probe)[0] == 200


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_nor_do_they_where_connections_are_encrypted(
    run_app: Callable[..., Any],
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    loop: str,
) -> None:
    """The end of such a connection waits for its client's word."""
    monkeypatch.setattr(connections, "LINGER_S", 60.0)
    monkeypatch.setattr(handshake, "SHUTDOWN_S", 60.0)
    monkeypatch.setattr(bodies_to_come, "BEGINS_S", 0.0)
    files = make_certificate(tmp_path, "one", kind="prime256v1")
    trusted = ssl.create_default_context(cafile=str(files.certificate))
    server = Server(tls_certificate=str(files.certificate), tls_key=str(files.key))
    most = 20
    limits = Limits(connections=most, header_s=60.0, body_s=300.0, deadline_s=30.0)
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(run_app(limits, server=server, loop=loop))

        def come() -> None:
            raw = running.connect()
            client = stack.enter_context(trusted.wrap_socket(raw, server_hostname="127.0.0.1"))
            client.sendall(POST + b"Content-Length: %d\r\n\r\nx" % (2 * SKIPPED_BYTES))

        for _ in range(most):
            come()
        until(lambda: running.detector.lanes.present == most)
        for _ in range(2 * PROBE_PLACES):
            come()
            with trusted.wrap_socket(running.connect(), server_hostname="127.0.0.1") as probe:
                probe.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert read_response(probe)[0] == 200


def test_calls_over_grpc_give_their_places_as_well(
    run_app: Callable[..., Any], photo: bytes, until: Until
) -> None:
    """There it is not known how much of a message is here: it takes two seconds."""
    grpc = pytest.importorskip("grpc", reason="grpcio is not installed: seatrial[grpc]")
    from grpc_calls import calls, images_request
    from seatrial.client.inference_messages import INFER

    limits = Limits(queue=QUEUE, body_bytes=BODY, body_s=300.0, deadline_s=30.0)
    numbers = range(1, 2 * QUEUE, 2)
    begins = b"\0" + BODY.to_bytes(4, "big")  # of a message, with its length

    def frames(payload: bytes) -> bytes:
        return b"".join(raw_http2.frame(raw_http2.DATA, 0, number, payload) for number in numbers)

    with (
        run_app(limits, grpc=True) as running,
        raw_http2.begin(running.grpc_port) as client,
        calls(running.grpc_port) as service,
    ):
        raw_http2.call(client, INFER, numbers)
        client.sendall(frames(begins))
        with sent_on([client], frames(b"x")):
            until(lambda: running.detector.lanes.present == QUEUE)

            def answered() -> bool:
                try:
                    service.ModelInfer(images_request(photo), timeout=20)
                except grpc.RpcError:
                    return False
                return True

            for _ in range(3):
                until(answered)
