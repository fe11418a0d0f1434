"""The port of gRPC is one service's: by claims of real processes."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator

import pytest

from child_processes import running
from seatrial.deployment import Server
from seatrial.errors import PortInUse
from seatrial.serve import grpc_port
from seatrial.serve.address import free_port

HOST = "127.0.0.1"
# Claims a port, and listens nowhere: as a service that loads its model.
HOLDS = """
import sys
from seatrial.deployment import Server
from seatrial.serve.grpc_port import claim
claim(Server(sys.argv[1], 1, grpc_port=int(sys.argv[2])))
print(1, flush=True)
sys.stdin.read()
"""

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture
def claim(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, int], None]]:
    """Claims a port until the test ends."""
    held: dict[str, socket.socket] = {}
    monkeypatch.setattr(grpc_port, "_held", held)
    monkeypatch.setattr(grpc_port, "_ports", set())
    yield lambda host, port: grpc_port.claim(Server(host, 1, grpc_port=port))
    for one in held.values():
        one.close()


@pytest.mark.parametrize(
    ("held", "asked", "is_taken"),
    [
        (HOST, HOST, True), (HOST, "localhost", True), (HOST, "0.0.0.0", True), ("::", HOST, True),
        (HOST, "127.0.0.2", False),
    ],
)  # fmt: skip
def test_a_claim_holds_while_nobody_listens_and_until_its_process_has_ended(
    claim: Callable[[str, int], None], held: str, asked: str, is_taken: bool
) -> None:
    port = free_port(HOST)
    with running(HOLDS, held, str(port)):
        if is_taken:
            with pytest.raises(PortInUse, match="Address already in use") as caught:
                claim(asked, port)
            assert "--grpc-port" in caught.value.hint
            assert grpc_port._held == {}
        claim(HOST, free_port(HOST))  # of another port
    claim(asked, port)
    claim(asked, port)  # it has it


def test_strangers_claim_nothing(
    claim: Callable[[str, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel keeps the ports of two users apart itself; a name, anybody can take."""
    port = free_port(HOST)
    with running(HOLDS, HOST, str(port)):
        monkeypatch.setattr(os, "geteuid", lambda: 2**16 + 1)
        claim(HOST, port)


def test_who_listens_has_the_port_without_a_claim(claim: Callable[[str, int], None]) -> None:
    """Such as a gRPC server of another program, which shares it with whoever comes."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind((HOST, 0))
        other.listen()
        with pytest.raises(PortInUse, match="Address already in use"):
            claim(HOST, other.getsockname()[1])
        assert grpc_port._held == {}
