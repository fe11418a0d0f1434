"""Connections to the gRPC server are counted and bounded, and are ended by their descriptors."""

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

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import local_http
import raw_http2
from certificates import make_certificate
from grpc_calls import (
    LIVE,
    LIVE_REQUEST,
    NOT_SERVING,
    SERVING,
    WATCH,
    WATCH_REQUEST,
    calls,
    health,
)  # fmt: skip
from seatrial.client.inference_messages import SERVICE
from seatrial.deployment import Limits, Server
from seatrial.serve import grpc_connections
from seatrial.serve.grpc_connections import LOOK_S, LOOKING, GrpcConnections
from seatrial.system.accepted_connections import AcceptedConnections
from served_application import Running

CONNECTIONS = 16  # of the process
PLACES = CONNECTIONS // 2  # of gRPC
WANTED = PLACES - PLACES // 4  # so many may wait for their clients

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture(scope="module")
def serving(run_app: Callable[..., Any]) -> Iterator[Running]:
    """One in which nothing but a lack of places ends a connection."""
    with run_app(Limits(connections=CONNECTIONS, header_s=50.0), grpc=True) as served:
        yield served


def is_serving(port: int) -> bool:
    """Whether a probe that comes now, once, is told so."""
    with calls(port) as service:
        return health(service) == SERVING


class Tally:
    """The metric of this application's connections alone: that of the process has others'."""

    value = 0.0

    def inc(self, by: float = 1) -> None:
        self.value += by

    def dec(self, by: float = 1) -> None:
        self.value -= by


def test_connections_are_counted_from_their_beginning_to_their_end(
    serving: Running, until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    until(lambda: serving.grpc_connections == 0)
    serving.client.get("/livez")
    tally = Tally()
    monkeypatch.setattr(serving.service.metrics, "connections", tally)
    with raw_http2.silent(serving.grpc_port, 2), calls(serving.grpc_port) as service:
        assert service.ServerLive().live
        until(lambda: serving.grpc_connections == 3)
        assert tally.value == 3
    until(lambda: serving.grpc_connections == 0)
    assert tally.value == 0


def test_http_has_the_places_that_grpc_leaves(serving: Running, until: Callable[..., Any]) -> None:
    with raw_http2.silent(serving.grpc_port, WANTED):
        until(lambda: serving.grpc_connections == WANTED)
        with raw_http2.silent(serving.port, CONNECTIONS) as quiet:
            # Those that waited longest go for the newest.
            for one in quiet[:WANTED]:
                assert one.recv(1024) == b"" or one.recv(1024) == b""
            # Probes have places of their own.
            assert serving.client.get("/livez").status_code == 200


def test_a_probe_finds_a_place_where_silent_connections_had_all(
    serving: Running, until: Callable[..., Any], ended_for: Callable[[str], float]
) -> None:
    before = ended_for("limit")
    until(lambda: serving.grpc_connections == 0)
    with raw_http2.silent(serving.grpc_port, 2) as first:
        until(lambda: serving.grpc_connections == 2)
        with raw_http2.silent(serving.grpc_port, PLACES - 2) as then:
            for one in first:
                until(lambda one=one: raw_http2.is_closed(one))
            until(lambda: serving.grpc_connections == WANTED)
            assert ended_for("limit") == before + 2
            assert not any(map(raw_http2.is_closed, then))
            # More than there are places: gRPC takes no more, and then there are some again.
            with raw_http2.silent(serving.grpc_port, 2 * PLACES) as last:
                until(lambda: sum(not raw_http2.is_closed(one) for one in (*then, *last)) == WANTED)
                assert is_serving(serving.grpc_port)


@pytest.mark.parametrize("idle", [2, PLACES - 2])
def test_of_two_kinds_that_wait_the_smaller_is_left_alone(
    serving: Running, idle: int, until: Callable[..., Any]
) -> None:
    """Those that were called on once, as balancers keep them, and those that say nothing."""
    until(lambda: serving.grpc_connections == 0)
    with contextlib.ExitStack() as stack:
        called, quiet = [], []

        def call() -> None:
            for _ in range(idle):
                called.append(stack.enter_context(raw_http2.begin(serving.grpc_port)))
                raw_http2.call(called[-1], LIVE, [1], LIVE_REQUEST)
                raw_http2.await_answer(called[-1])

        def say_nothing() -> None:
            quiet.extend(stack.enter_context(raw_http2.silent(serving.grpc_port, PLACES - idle)))

        few, many = (call, say_nothing) if idle < PLACES - idle else (say_nothing, call)
        few()
        until(lambda: serving.grpc_connections == 2)  # so these have waited longer
        many()
        until(lambda: sum(map(raw_http2.is_closed, [*called, *quiet])) == PLACES - WANTED)
        assert sum(map(raw_http2.is_closed, min(called, quiet, key=len))) == 0


def test_a_young_connection_is_not_ended(
    serving: Running, until: Callable[..., Any], ended_for: Callable[[str], float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Its call may be on the way: see decision 0037."""
    until(lambda: serving.grpc_connections == 0)
    look, seen, before = AcceptedConnections.look, list[int](), ended_for("limit")

    def noted(sockets: AcceptedConnections) -> Any:
        found = look(sockets)
        seen.append(len(found))
        return found

    monkeypatch.setattr(AcceptedConnections, "look", noted)
    monkeypatch.setattr(grpc_connections, "GIVES_WAY_S", 3600.0)
    with raw_http2.silent(serving.grpc_port, PLACES) as quiet:
        until(lambda: seen.count(PLACES) > 2 or ended_for("limit") > before)
        assert not any(map(raw_http2.is_closed, quiet))
        assert ended_for("limit") == before
        monkeypatch.setattr(grpc_connections, "GIVES_WAY_S", 0.0)
        until(lambda: sum(map(raw_http2.is_closed, quiet)) == PLACES - WANTED)


def test_a_connection_with_a_call_stays(serving: Running, until: Callable[..., Any]) -> None:
    until(lambda: serving.grpc_connections == 0)
    with contextlib.ExitStack() as stack:
        watching = [stack.enter_context(raw_http2.begin(serving.grpc_port)) for _ in range(WANTED)]
        for one in watching:
            raw_http2.call(one, WATCH, [1], WATCH_REQUEST)
            raw_http2.await_begin(one)
        until(lambda: serving.grpc_connections == WANTED)  # so these have waited longer
        quiet = stack.enter_context(raw_http2.silent(serving.grpc_port, PLACES - WANTED))
        until(lambda: all(map(raw_http2.is_closed, quiet)))
        assert not any(map(raw_http2.is_closed, watching))


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
        until(lambda: served.grpc_connections == 1)
        raw_http2.call(client, WATCH, [1], WATCH_REQUEST)
        assert list(raw_http2.frames(client))
        until(lambda: ended_for("answer") == before + 1)
        until(lambda: served.grpc_connections == 0)


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
        until(lambda: served.grpc_connections == 2)
        for one in clients:
            raw_http2.call(one, WATCH, [1], WATCH_REQUEST)
        until(lambda: all(map(raw_http2.is_closed, clients)))
        assert ended_for("answer") == before + 2
        until(lambda: served.grpc_connections == 0)


def test_a_look_that_fails_is_logged_and_is_not_the_last(
    serving: Running, until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    until(lambda: serving.grpc_connections == 0)
    look, failed = AcceptedConnections.look, set()

    def fail_once(sockets: AcceptedConnections) -> Any:
        if sockets not in failed:
            failed.add(sockets)
            raise ZeroDivisionError
        return look(sockets)

    monkeypatch.setattr(AcceptedConnections, "look", fail_once)
    with raw_http2.silent(serving.grpc_port, 2):
        until(lambda: serving.grpc_connections == 2)
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
            raw_http2.call(one, WATCH, [1], WATCH_REQUEST)
            return one

        before = sockets()
        with raw_http2.silent(port, PLACES) as quiet:
            until(lambda: sum(map(raw_http2.is_closed, quiet)) == PLACES - WANTED)
            assert is_serving(port)
        assert list(raw_http2.frames(watch()))
        until(lambda: ended_for("limit") >= PLACES - WANTED and ended_for("answer") == 1)
        until(lambda: sockets() <= before)
        # Nor do those that take nothing hold up the end.
        with calls(port) as service:
            stub = health_pb2_grpc.HealthStub(service.channel)
            told = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
            assert next(told).status == SERVING
            raw_http2.await_begin(watch())
            process.send_signal(signal.SIGTERM)
            assert next(told).status == NOT_SERVING
            assert process.wait(30) == 0
