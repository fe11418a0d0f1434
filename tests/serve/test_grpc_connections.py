"""Connections to the gRPC server are counted, and share the limit of the process.

The functions of gRPC that count them are not public: these tests fail where a version lacks them.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from grpc_calls import calls
from seatrial.deployment import Limits
from seatrial.serve import grpc_connections as module
from seatrial.serve.serving import Serving
from served_application import Running

CONNECTIONS = 8
pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture(scope="module")
def serving(run_app: Callable[..., Any]) -> Iterator[Running]:
    with run_app(Limits(connections=CONNECTIONS, header_s=30.0), grpc=True) as served:
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
    """Open connections of the process's HTTP server, as its limit sees them, and of gRPC."""
    return serving.app.state.serving.connections_beside


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


def test_they_have_half_of_the_places_and_http_has_the_rest(
    serving: Running, until: Callable[..., Any]
) -> None:
    with silent(serving.grpc_port, CONNECTIONS):
        until(lambda: open_ones(serving) == CONNECTIONS // 2)
        with silent(serving.port, CONNECTIONS) as quiet:
            # Those that waited longest go for the newest: half of them.
            for one in quiet[: CONNECTIONS // 2]:
                assert one.recv(1024) == b"" or one.recv(1024) == b""
            # Probes have places of their own.
            assert serving.client.get("/livez").status_code == 200


def test_more_than_a_page_of_them_are_counted(
    serving: Running, until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 1)
    with silent(serving.grpc_port, 3):
        until(lambda: open_ones(serving) == 3)


def test_a_version_of_grpc_that_tells_nothing_counts_none(
    serving: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "cygrpc", object())
    monkeypatch.setattr(serving.service.metrics, "connections", tally := Tally())
    own = Serving(serving.service)
    counted = module.GrpcConnections(own)
    counted.made()
    counted.look()
    assert (own.connections_beside, tally.value) == (0, 0)
