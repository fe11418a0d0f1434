"""Connections to the gRPC server are counted and bounded, and so are answers that nobody takes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

import local_http
import raw_http2
from certificates import make_certificate
from grpc_calls import Service, calls, images_request, stream, tensors
from seatrial.client.inference_messages import (
    INFER,
    SERVICE,
    STREAM,
    ModelInferRequest,
    ModelInferResponse,
    ModelStreamInferResponse,
)
from seatrial.deployment import Limits, Server
from seatrial.serve.grpc_connections import LOOK_S, LOOKING, GrpcConnections
from seatrial.serve.grpc_server import REFLECTION, REFLECTIONS, WATCHERS
from seatrial.system.accepted_connections import AcceptedConnections
from served_application import Running

CONNECTIONS = 16  # of the process
PLACES = CONNECTIONS // 2  # of gRPC
WANTED = PLACES - PLACES // 4  # so many may wait for their clients
STREAMS = 2
LONG = 2**22  # bytes of a long answer
LIVE, WATCH = f"/{SERVICE}/ServerLive", "/grpc.health.v1.Health/Watch"
REFLECT = f"/{REFLECTION[0]}/ServerReflectionInfo"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# Empty messages are not sent, so each has a field.
HEALTH = health_pb2.HealthCheckRequest(service=SERVICE).SerializeToString()
LISTING = reflection_pb2.ServerReflectionRequest(list_services="all").SerializeToString()
QUESTION = ModelInferRequest(id="x").SerializeToString()  # ServerLive passes unknown fields over

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture(scope="module")
def serving(run_app: Callable[..., Any]) -> Iterator[Running]:
    """One in which nothing but a lack of places ends a connection."""
    with run_app(Limits(connections=CONNECTIONS, header_s=50.0), grpc=True) as served:
        yield served


@pytest.fixture(scope="module")
def impatient(run_app: Callable[..., Any]) -> Iterator[Running]:
    """One whose clients have a second to take an answer."""
    limits = Limits(
        header_s=50.0, idle_s=1.0, deadline_s=50.0, longest_deadline_s=50.0,
        body_bytes=2**18, bytes_in_flight=2 * STREAMS * 2**18,
    )  # fmt: skip
    with run_app(limits, grpc=True) as served:
        yield served


@contextlib.contextmanager
def silent(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Connections that say nothing."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            for _ in range(count)
        ]


def open_ones(serving: Running) -> int:
    """Open connections of gRPC, as the limit of the process's HTTP server sees them."""
    return serving.app.state.serving.connections_beside


def is_closed(connection: socket.socket) -> bool:
    """Whether the server has ended a connection; what it sent is read."""
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True


def await_answer(connection: socket.socket) -> None:
    for kind, flags, number, _ in raw_http2.frames(connection):
        if (kind, number) == (raw_http2.HEADERS, 1) and flags & raw_http2.END_STREAM:
            return
    raise AssertionError("the connection was ended before the answer")


def await_begin(connection: socket.socket) -> None:
    """Wait for the metadata with which the answer to a call begins; windows do not hold it up."""
    assert any(kind == raw_http2.HEADERS for kind, *_ in raw_http2.frames(connection))


def details(ask: Callable[[], Any]) -> str:
    """Details of the error of a call; empty where it is answered."""
    try:
        ask()
    except grpc.RpcError as error:
        return str(error.details())
    return ""


def is_serving(port: int) -> bool:
    """Whether a probe that comes now, once, is told so."""
    with calls(port) as service:
        stub = health_pb2_grpc.HealthStub(service.channel)
        return bool(stub.Check(health_pb2.HealthCheckRequest(), timeout=20).status == SERVING)


class Tally:
    """The metric of this application's connections alone: that of the process has others'."""

    value = 0.0

    def inc(self, by: float = 1) -> None:
        self.value += by

    def dec(self, by: float = 1) -> None:
        self.value -= by


@pytest.fixture
def ended_for(metric: Callable[..., float]) -> Callable[[str], float]:
    """Number of connections that were ended so far, by the reason."""
    return lambda reason: metric("seatrial_connections_closed_total", reason=reason)


def test_connections_are_counted_from_their_beginning_to_their_end(
    serving: Running, until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    until(lambda: open_ones(serving) == 0)
    serving.client.get("/livez")
    tally = Tally()
    monkeypatch.setattr(serving.service.metrics, "connections", tally)
    with silent(serving.grpc_port, 2), calls(serving.grpc_port) as service:
        assert service.ServerLive().live
        until(lambda: open_ones(serving) == 3)
        assert tally.value == 3
    until(lambda: open_ones(serving) == 0)
    assert tally.value == 0


def test_http_has_the_places_that_grpc_leaves(serving: Running, until: Callable[..., Any]) -> None:
    with silent(serving.grpc_port, WANTED):
        until(lambda: open_ones(serving) == WANTED)
        with silent(serving.port, CONNECTIONS) as quiet:
            # Those that waited longest go for the newest.
            for one in quiet[:WANTED]:
                assert one.recv(1024) == b"" or one.recv(1024) == b""
            # Probes have places of their own.
            assert serving.client.get("/livez").status_code == 200


def test_a_probe_finds_a_place_where_silent_connections_had_all(
    serving: Running, until: Callable[..., Any], ended_for: Callable[[str], float]
) -> None:
    before = ended_for("limit")
    until(lambda: open_ones(serving) == 0)
    with silent(serving.grpc_port, 2) as first:
        until(lambda: open_ones(serving) == 2)
        with silent(serving.grpc_port, PLACES - 2) as then:
            for one in first:
                until(lambda one=one: is_closed(one))
            until(lambda: open_ones(serving) == WANTED)
            assert ended_for("limit") == before + 2
            assert not any(map(is_closed, then))
            # More than there are places: gRPC takes no more, and then there are some again.
            with silent(serving.grpc_port, 2 * PLACES) as last:
                until(lambda: sum(not is_closed(one) for one in (*then, *last)) == WANTED)
                assert is_serving(serving.grpc_port)


@pytest.mark.parametrize("idle", [2, PLACES - 2])
def test_of_two_kinds_that_wait_the_smaller_is_left_alone(
    serving: Running, idle: int, until: Callable[..., Any]
) -> None:
    """Those that were called on once, as balancers keep them, and those that say nothing."""
    until(lambda: open_ones(serving) == 0)
    with contextlib.ExitStack() as stack:
        called, quiet = [], []

        def call() -> None:
            for _ in range(idle):
                called.append(stack.enter_context(raw_http2.begin(serving.grpc_port)))
                raw_http2.call(called[-1], LIVE, [1], QUESTION)
                await_answer(called[-1])

        def say_nothing() -> None:
            quiet.extend(stack.enter_context(silent(serving.grpc_port, PLACES - idle)))

        few, many = (call, say_nothing) if idle < PLACES - idle else (say_nothing, call)
        few()
        until(lambda: open_ones(serving) == 2)  # so these have waited longer
        many()
        until(lambda: sum(map(is_closed, [*called, *quiet])) == PLACES - WANTED)
        assert sum(map(is_closed, min(called, quiet, key=len))) == 0


def test_a_connection_with_a_call_stays(serving: Running, until: Callable[..., Any]) -> None:
    until(lambda: open_ones(serving) == 0)
    with contextlib.ExitStack() as stack:
        watching = [stack.enter_context(raw_http2.begin(serving.grpc_port)) for _ in range(WANTED)]
        for one in watching:
            raw_http2.call(one, WATCH, [1], HEALTH)
            await_begin(one)
        until(lambda: open_ones(serving) == WANTED)  # so these have waited longer
        quiet = stack.enter_context(silent(serving.grpc_port, PLACES - WANTED))
        until(lambda: all(map(is_closed, quiet)))
        assert not any(map(is_closed, watching))


@pytest.mark.parametrize(
    ("path", "message", "count", "last"),
    [
        (LIVE, QUESTION, 1, True), (INFER, None, 1, True), (STREAM, None, STREAMS, True),
        (STREAM, None, STREAMS, False), (WATCH, HEALTH, WATCHERS, True),
        (REFLECT, LISTING, REFLECTIONS // len(REFLECTION), False),
    ],
)  # fmt: skip
def test_a_client_that_takes_no_answer_is_ended_and_its_places_are_free(
    impatient: Running, path: str, message: bytes | None, count: int, last: bool,
    photo: bytes, ended_for: Callable[[str], float], until: Callable[..., Any],
) -> None:  # fmt: skip
    """It is there, answers pings, and lets HTTP/2 send no byte of an answer."""
    before = ended_for("answer")
    message = message or images_request(photo).SerializeToString()
    streams = range(1, 2 * count, 2)
    with raw_http2.begin(impatient.grpc_port, window=0) as client:
        raw_http2.call(client, path, streams, message, last=last)
        for kind, _, _, payload in raw_http2.frames(client):
            assert kind != raw_http2.DATA or not payload
    until(lambda: ended_for("answer") == before + 1)

    def answered() -> bool:
        with calls(impatient.grpc_port) as service:
            sent = service.channel.stream_stream(path)(iter([message]), timeout=20)
            try:
                return bool(next(sent))
            except grpc.RpcError:
                return False
            finally:
                sent.cancel()

    until(answered)


def test_a_client_that_reads_late_gets_its_answer(
    serving: Running, until: Callable[..., Any]
) -> None:
    until(lambda: open_ones(serving) == 0)
    with raw_http2.begin(serving.grpc_port, window=0) as client:
        raw_http2.call(client, WATCH, [1], HEALTH)
        await_begin(client)
        for _ in range(2):  # they are looked at meanwhile
            with silent(serving.grpc_port, 1):
                until(lambda: open_ones(serving) == 2)
            until(lambda: open_ones(serving) == 1)
        client.sendall(raw_http2.settings(window=2**15))
        assert any(kind == raw_http2.DATA for kind, *_ in raw_http2.frames(client))


def test_who_reads_is_left_alone_however_long_a_call_takes(
    impatient: Running, photo: bytes
) -> None:
    health = impatient.service.health
    with calls(impatient.grpc_port) as service:
        stub = health_pb2_grpc.HealthStub(service.channel)
        told = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert next(told).status == SERVING
        with impatient.lanes_held():
            running = service.ModelInfer.future(images_request(photo), timeout=50)
            # As long as it takes until one that came later is ended.
            with raw_http2.begin(impatient.grpc_port, window=0) as client:
                raw_http2.call(client, LIVE, [1], QUESTION)
                assert list(raw_http2.frames(client))
            assert not running.done()
        assert tensors(running.result())["counts"].tolist() == [1]
        usable, health.usable_lanes = health.usable_lanes, lambda: 0
        try:
            assert next(told).status == NOT_SERVING
        finally:
            health.usable_lanes = usable
        assert next(told).status == SERVING
        told.cancel()


@pytest.mark.parametrize("path", [INFER, STREAM])
def test_answers_that_nobody_reads_do_not_fill_the_memory(
    run_app: Callable[..., Any], path: str, photo: bytes, monkeypatch: pytest.MonkeyPatch,
    ended_for: Callable[[str], float], until: Callable[..., Any], metric: Callable[..., float],
) -> None:  # fmt: skip
    """Whoever has not read for longest goes for a call of another, long before its time is over."""
    request = images_request(photo)
    make_answers_long(monkeypatch)
    # More than one answer: the end of a call may be noted after its client has read it.
    limits = Limits(body_bytes=2**20, bytes_in_flight=LONG + LONG // 2)

    def made() -> float:
        return metric("seatrial_requests_total", route=path, code="200")

    with (
        run_app(limits, grpc=True) as served,
        calls(served.grpc_port) as service,
        raw_http2.begin(served.grpc_port, window=0) as watching,
        raw_http2.begin(served.grpc_port, window=0) as client,
    ):
        before, answers = ended_for("answer"), made()
        # One without bytes has waited for longer, and its end would not help.
        raw_http2.call(watching, WATCH, [1], HEALTH)
        await_begin(watching)
        raw_http2.call(client, path, [1, 3], request.SerializeToString())
        until(lambda: made() == answers + 2)

        def ended() -> bool:
            refusal = details(lambda: service.ModelInfer(request))
            assert not refusal or "do not read" in refusal
            return is_closed(client)

        until(ended)
        for _ in range(3):  # answers that are read leave nothing behind
            until(lambda: details(lambda: service.ModelInfer(request)) == "")
        assert ended_for("answer") == before + 1
        assert not is_closed(watching)


@pytest.mark.parametrize("path", [INFER, STREAM])
def test_answers_that_wait_in_a_stream_count_from_the_moment_they_are_made(
    run_app: Callable[..., Any], path: str, photo: bytes, monkeypatch: pytest.MonkeyPatch,
    ended_for: Callable[[str], float], until: Callable[..., Any], metric: Callable[..., float],
) -> None:  # fmt: skip
    """One is being written and does not fill the memory; the one behind it does."""
    request = images_request(photo)
    make_answers_long(monkeypatch)

    def made() -> float:
        return metric("seatrial_requests_total", route=STREAM, code="200")

    def refusal(service: Service) -> str:
        if path == INFER:
            return details(lambda: service.ModelInfer(request))
        (answer,) = stream(service, [request])
        return str(answer.error_message)

    with (
        run_app(Limits(body_bytes=2**20, bytes_in_flight=2 * LONG), grpc=True) as served,
        calls(served.grpc_port) as service,
        raw_http2.begin(served.grpc_port, window=0) as client,
    ):
        ended, answers = ended_for("answer"), made()
        raw_http2.call(client, STREAM, [1], request.SerializeToString(), last=False)
        raw_http2.send(client, 1, request.SerializeToString())
        until(lambda: made() == answers + 2)

        def answered() -> bool:
            refused = refusal(service)
            assert not refused or "do not read" in refused
            return not refused

        until(answered)  # not before the client that takes nothing is gone
        assert ended_for("answer") == ended + 1
        until(lambda: is_closed(client))
        assert refusal(service) == ""


def make_answers_long(monkeypatch: pytest.MonkeyPatch) -> None:
    long = ModelInferResponse(raw_output_contents=[bytes(LONG)])
    in_stream = ModelStreamInferResponse(infer_response=long)
    for name, told in (("grpc.write_answer", long), ("stream.write_stream_answer", in_stream)):
        data = told.SerializeToString()
        monkeypatch.setattr(
            f"seatrial.serve.protocols.inference_{name}", lambda *_, data=data: data
        )


@pytest.mark.parametrize(
    ("listens", "host", "encrypted"),
    [("::1", "::1", False), ("::", "127.0.0.1", False), ("127.0.0.1", "127.0.0.1", True)],
)
def test_the_connection_of_a_call_is_found_by_its_client(
    run_app: Callable[..., Any], listens: str, host: str, encrypted: bool, tmp_path: Path,
    ended_for: Callable[[str], float], until: Callable[..., Any],
) -> None:  # fmt: skip
    """gRPC writes a client in its own way: IPv6, IPv4 that came to a socket of IPv6; and TLS."""
    server, trusted = Server(host=listens), None
    if encrypted:
        made = make_certificate(tmp_path, "one")
        server = Server(tls_certificate=str(made.certificate), tls_key=str(made.key))
        trusted = ssl.create_default_context(cafile=made.certificate)
    elif not has_ipv6():
        pytest.skip("this machine has no IPv6")
    before = ended_for("answer")
    with (
        run_app(Limits(header_s=50.0, idle_s=1.0), server=server, grpc=True) as served,
        raw_http2.begin(served.grpc_port, window=0, host=host, trusted=trusted) as client,
    ):
        until(lambda: open_ones(served) == 1)
        raw_http2.call(client, WATCH, [1], HEALTH)
        assert list(raw_http2.frames(client))
        until(lambda: ended_for("answer") == before + 1)
        until(lambda: open_ones(served) == 0)


def test_one_port_of_a_client_may_have_a_connection_to_each_address(
    run_app: Callable[..., Any], ended_for: Callable[[str], float], until: Callable[..., Any]
) -> None:
    before = ended_for("answer")
    limits = Limits(header_s=50.0, idle_s=1.0)
    with (
        run_app(limits, server=Server(host="0.0.0.0"), grpc=True) as served,
        contextlib.ExitStack() as stack,
    ):
        clients: list[socket.socket] = []
        for host in ("127.0.0.1", "127.0.0.2"):
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(clients[0].getsockname() if clients else ("127.0.0.1", 0))
            one.settimeout(raw_http2.PATIENCE_S)
            one.connect((host, served.grpc_port))
            one.sendall(raw_http2.PREFACE + raw_http2.settings(window=0))
            clients.append(one)
        until(lambda: open_ones(served) == 2)
        for one in clients:
            raw_http2.call(one, WATCH, [1], HEALTH)
        until(lambda: all(map(is_closed, clients)))
        assert ended_for("answer") == before + 2
        until(lambda: open_ones(served) == 0)


def test_a_look_that_fails_is_logged_and_is_not_the_last(
    serving: Running, until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    until(lambda: open_ones(serving) == 0)
    look, failed = AcceptedConnections.look, set()

    def fail_once(sockets: AcceptedConnections) -> Any:
        if sockets not in failed:
            failed.add(sockets)
            raise ZeroDivisionError
        return look(sockets)

    monkeypatch.setattr(AcceptedConnections, "look", fail_once)
    with silent(serving.grpc_port, 2):
        until(lambda: open_ones(serving) == 2)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("works", [False, True])
def test_a_look_puts_off_the_next_by_its_own_work_alone(
    works: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by the time in which other threads had the core."""
    took_s = 2 * LOOKING * LOOK_S

    def look() -> None:
        if not works:
            time.sleep(2 * took_s)
        began = time.thread_time()
        while works and time.thread_time() - began < took_s:
            pass

    connections = GrpcConnections(None, PLACES, 1.0, 1)  # type: ignore[arg-type]
    monkeypatch.setattr(connections, "look", look)
    gap_s = connections.timed_look()
    assert gap_s >= 2 * LOOK_S if works else gap_s == LOOK_S


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


def test_a_process_of_its_own(start_service: Callable[..., Any], until: Callable[..., Any]) -> None:
    """All of it as a person starts it: the metrics, what is left behind, the end."""
    limits = Limits(connections=CONNECTIONS, header_s=50.0, idle_s=2.0, drain_s=1)
    with (
        start_service(engine="null", runtime="uvicorn", grpc=True, limits=limits) as running,
        local_http.client(base_url=running.url, timeout=30) as page,
        contextlib.ExitStack() as clients,
    ):
        process, port = running.process, int(running.grpc_url.rpartition(":")[2])

        def value(line: str) -> float:
            lines = [one.rpartition(" ") for one in page.get("/metrics").text.splitlines()]
            return sum(float(number) for name, _, number in lines if name == line)

        def ended_for(reason: str) -> float:
            return value(f'seatrial_connections_closed_total{{reason="{reason}"}}')

        def sockets() -> int:
            return sum(
                os.readlink(one).startswith("socket:")
                for one in Path(f"/proc/{process.pid}/fd").iterdir()
                if os.path.islink(one)
            )

        def watch() -> socket.socket:
            one = clients.enter_context(raw_http2.begin(port, window=0))
            raw_http2.call(one, WATCH, [1], HEALTH)
            return one

        before = sockets()
        with silent(port, PLACES) as quiet:
            until(lambda: sum(map(is_closed, quiet)) == PLACES - WANTED)
            assert is_serving(port)
        assert list(raw_http2.frames(watch()))
        until(lambda: ended_for("limit") >= PLACES - WANTED and ended_for("answer") == 1)
        until(lambda: sockets() <= before)
        # Nor do those that take nothing hold up the end.
        with calls(port) as service:
            stub = health_pb2_grpc.HealthStub(service.channel)
            told = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
            assert next(told).status == SERVING
            await_begin(watch())
            process.send_signal(signal.SIGTERM)
            assert next(told).status == NOT_SERVING
            assert process.wait(30) == 0
