"""gRPC over TLS: the certificate of the service, a newer one after a change."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from certificates import Renewable, make_certificate

grpc = pytest.importorskip("grpc", reason="grpcio is not installed: seatrial[grpc]")

pytestmark = pytest.mark.usefixtures("time_limit")


def live(port: int, authority: Path | None) -> bool:
    """Whether the server says that it is alive, to a client that trusts an authority."""
    from grpc_calls import Service

    target = f"127.0.0.1:{port}"
    settings = [("grpc.use_local_subchannel_pool", 1)]
    if authority is None:
        channel = grpc.insecure_channel(target, options=settings)
    else:
        trusted = grpc.ssl_channel_credentials(authority.read_bytes())
        channel = grpc.secure_channel(target, trusted, options=settings)
    with channel:
        try:
            return bool(Service(channel).ServerLive(timeout=20).live)
        except grpc.RpcError as error:
            return error.code() != grpc.StatusCode.UNAVAILABLE


# Serves with TLS, and is sent what is none; gRPC must not have been loaded before.
NO_HANDSHAKE = """
import socket, sys
from concurrent import futures
from seatrial.serve.grpc_library import check_grpc
check_grpc()
import grpc
server = grpc.server(futures.ThreadPoolExecutor(1))
key, certificate = (open(name, "rb").read() for name in sys.argv[1:])
port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
server.start()
with socket.create_connection(("127.0.0.1", port)) as client:
    client.sendall(b"GET / HTTP/1.1\\r\\n\\r\\n" * 4)
    assert client.recv(100) == b""
server.stop(0)
print("closed")
"""


def test_a_handshake_that_fails_writes_no_line(tmp_path: Path) -> None:
    made = make_certificate(tmp_path, "one")
    environment = {k: v for k, v in os.environ.items() if k != "GRPC_VERBOSITY"}
    done = subprocess.run(
        [sys.executable, "-c", NO_HANDSHAKE, str(made.key), str(made.certificate)],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("closed\n", "")


# Serves without compression, and is sent messages that are packed.
PACKED = """
import sys
from concurrent import futures
from seatrial.serve.grpc_library import check_grpc
check_grpc()
import grpc
from seatrial.serve.grpc_server import GZIP_OFF
off = [("grpc.compression_enabled_algorithms_bitset", GZIP_OFF)]
server = grpc.server(futures.ThreadPoolExecutor(1), options=off)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
with grpc.insecure_channel(f"127.0.0.1:{port}", compression=grpc.Compression.Gzip) as channel:
    try:
        channel.unary_unary("/a.B/C")(b"x" * 5000, timeout=30)
    except grpc.RpcError as error:
        print(error.code().name)
server.stop(0)
"""


def test_a_packed_message_writes_no_line() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "GRPC_VERBOSITY"}
    done = subprocess.run(
        [sys.executable, "-c", PACKED],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("UNIMPLEMENTED\n", "")


def test_new_handshakes_get_the_new_certificate(
    run_app: Callable[..., Any], renewable: Renewable, until: Callable[[Callable[[], Any]], Any]
) -> None:
    with run_app(server=renewable.server, grpc=True) as served:
        assert live(served.grpc_port, renewable.first.certificate)
        assert not live(served.grpc_port, renewable.second.certificate)
        assert not live(served.grpc_port, None)
        renewable.renew()
        until(lambda: live(served.grpc_port, renewable.second.certificate))
