"""Addresses of services: free ones, and those that cannot be had."""

from __future__ import annotations

import contextlib
import socket

import msgspec
import pytest

from seatrial.deployment import Deployment, Limits, Server
from seatrial.errors import InvalidConfig, PortInUse
from seatrial.serve import address
from seatrial.serve.address import (
    bound,
    check_distinct,
    check_port,
    check_ports,
    free_port,
    grpc_url,
    url,
    urls,
    with_port,
)

HOST = "127.0.0.1"


def test_an_address_of_another_machine() -> None:
    with pytest.raises(PortInUse, match=r"192\.0\.2\.1"):
        check_port("192.0.2.1", 3000)


def test_port_0_becomes_a_free_one() -> None:
    given = Deployment("m", server=Server(port=4000), limits=Limits(queue=3))
    assert with_port(given) == given
    chosen = with_port(msgspec.structs.replace(given, server=Server("127.0.0.2", 0)))
    assert chosen.server.port > 0
    assert (chosen.server.host, chosen.limits) == ("127.0.0.2", given.limits)
    check_port("127.0.0.2", chosen.server.port)


def test_addresses() -> None:
    assert url(Server("127.0.0.1", 80)) == "http://127.0.0.1:80"
    assert url(Server("::1", 3000)) == "http://[::1]:3000"


@pytest.mark.parametrize("host", ["\u00fc" * 80, "a\0b", "192.0.2.1", ".."])
def test_what_is_no_host_of_this_machine_is_refused(host: str) -> None:
    unknown_port = Deployment("m", server=Server(host, 0))
    for check in (lambda: check_port(host, 0), lambda: with_port(unknown_port)):
        with pytest.raises(PortInUse, match="cannot listen on") as caught:
            check()
        assert "--host" in caught.value.hint


def test_a_port_is_not_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may: nobody listens on the first one yet."""
    given = iter([5000, 5000, 5000, 5001])

    class Probe:
        def getsockname(self) -> tuple[str, int]:
            return HOST, next(given)

    monkeypatch.setattr(address, "bound", lambda *_: contextlib.nullcontext(Probe()))
    chosen = with_port(Deployment("m", server=Server(HOST, 0, 0))).server
    assert (chosen.port, chosen.grpc_port) == (5000, 5001)
    assert next(given, None) is None


def test_port_0_of_grpc_becomes_a_free_one() -> None:
    assert with_port(Deployment("m", server=Server(HOST, 4000))).server.grpc_port is None
    both = with_port(Deployment("m", server=Server(HOST, 3000, 0))).server
    assert both.port == 3000
    assert both.grpc_port
    check_port(HOST, both.grpc_port)


def test_the_port_of_grpc_has_to_be_free_and_another_one() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse) as refused:
            check_ports(Server(HOST, free_port(HOST), port))
        assert refused.value.hint == (
            "choose another with --grpc-port, or server.grpc_port of the deployment; "
            "--grpc-port 0 takes a free one"
        )
    port = free_port(HOST)
    with pytest.raises(InvalidConfig, match="cannot be that of HTTP and of gRPC") as refused:
        check_ports(Server(HOST, port, port))
    assert "--grpc-port, or server.grpc_port of the deployment" in refused.value.hint
    check_ports(Server(HOST, port))


def test_the_admin_port_has_to_be_free_and_another_one() -> None:
    """Otherwise the service would run, and take no commands."""
    port, other = free_port(HOST), free_port(HOST)
    for server in (Server(HOST, port, admin_port=port), Server(HOST, other, port, admin_port=port)):
        with pytest.raises(InvalidConfig, match="cannot be that of requests and of commands"):
            check_ports(server)
    with socket.create_server((HOST, 0)) as taken:
        admin_port = taken.getsockname()[1]
        with pytest.raises(PortInUse) as refused:
            check_ports(Server("127.0.0.2", port, admin_port=admin_port))
        assert refused.value.hint == "choose another with server.admin_port"
        check_ports(Server(HOST, port, runtime="triton", admin_port=admin_port))
    check_ports(Server(HOST, port, admin_port=admin_port))


def test_no_two_ports_are_the_same_one() -> None:
    """Whether one of them is free is another question, of the machine that serves."""
    check_distinct(Server(HOST, 3000, 3001, admin_port=3002), 3000)  # metrics are Triton's
    check_distinct(Server(HOST, 3000, 3001, admin_port=3000, runtime="triton"), 3002)
    for server, metrics, what in (
        (Server(HOST, 3000, 3000), None, "of HTTP and of gRPC"),
        (Server(HOST, 3000, 3001, admin_port=3001), None, "of requests and of commands"),
        (Server(HOST, 3000, 3001, runtime="triton"), 3001, "of the metrics, too"),
    ):
        with pytest.raises(InvalidConfig, match=what):
            check_distinct(server, metrics)


def test_the_addresses_of_a_service() -> None:
    assert urls(Server(HOST, 3000)) == url(Server(HOST, 3000)) == "http://127.0.0.1:3000"
    assert grpc_url(Server(HOST, 3000)) == ""
    assert urls(Server(HOST, 3000, 3001)) == "http://127.0.0.1:3000 grpc://127.0.0.1:3001"
    assert grpc_url(Server("::1", 3000, 3001)) == "grpc://[::1]:3001"
    tls = Server(HOST, 3000, 3001, tls_certificate="c.pem", tls_key="k.pem")
    assert urls(tls) == "https://127.0.0.1:3000 grpcs://127.0.0.1:3001"


@pytest.mark.parametrize(
    "server", [Server(port=4000, grpc_port=4000), Server(port=4000, admin_port=4000)]
)
def test_one_port_for_two_things_is_a_wrong_option(server: Server) -> None:
    with pytest.raises(InvalidConfig, match="port 4000 cannot be that of") as caught:
        check_distinct(server)
    assert caught.value.exit_code == 2


def test_a_socket_that_listens_leaves_its_address_to_nobody() -> None:
    with bound("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with (
            bound("127.0.0.1", port, backlog=1),  # the first one does not listen yet
            pytest.raises(PortInUse, match="Address already in use"),
            bound("127.0.0.1", port),
        ):
            pass
