"""The gRPC server of each certificate: what a renewal leaves, and what many connections do."""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from certificates import Renewable, make_certificate

grpc = pytest.importorskip("grpc", reason="grpcio is not installed: seatrial[grpc]")

pytestmark = pytest.mark.usefixtures("time_limit")


def shown(port: int) -> bytes:
    """The certificate that a new connection is shown."""
    return ssl.get_server_certificate(("127.0.0.1", port)).encode()


def test_calls_go_on_when_the_certificate_is_another_one(
    run_app: Callable[..., Any], renewable: Renewable, until: Callable[[Callable[[], Any]], Any]
) -> None:
    """The calls of connections that the earlier one encrypts; those of new ones are answered."""
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    trusted = grpc.ssl_channel_credentials(renewable.first.certificate.read_bytes())
    with (
        run_app(server=renewable.server, grpc=True) as served,
        grpc.secure_channel(f"127.0.0.1:{served.grpc_port}", trusted) as channel,
    ):
        watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
        renewable.renew()
        until(lambda: shown(served.grpc_port) == renewable.second.certificate.read_bytes())
        served.service.health.draining = True
        assert next(watching).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watching.cancel()


# Serves with TLS, and is opened connections that say nothing. An address that is not valid any more
# ends the process.
SILENT = """
import asyncio, socket, sys
from pathlib import Path
from seatrial.serve.grpc_library import check_grpc
check_grpc()
import grpc
from seatrial.serve.grpc_renewal import RenewedServer
from seatrial.serve.tls import Tls

def rounds(port):
    for _ in range(8):
        held = [socket.create_connection(("127.0.0.1", port)) for _ in range(250)]
        for one in held:
            one.close()

async def main():
    tls = Tls(Path(sys.argv[1]), Path(sys.argv[2]))
    make = lambda: grpc.aio.server(options=[("grpc.so_reuseport", 1)])
    server = RenewedServer(make, "127.0.0.1", 0, tls, 1.0)
    await server.start()
    await asyncio.to_thread(rounds, server.port)
    await server.stop(0)
    tls.close()
    print("lives")

asyncio.run(main())
"""


def test_silent_connections_do_not_end_the_process(tmp_path: Path) -> None:
    made = make_certificate(tmp_path, "one")
    done = subprocess.run(
        [sys.executable, "-c", SILENT, str(made.certificate), str(made.key)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "lives\n"), done.stderr


# Has another certificate, and its port is taken meanwhile by a program that shares it with nobody.
TAKEN = """
import asyncio, logging, socket, sys
from pathlib import Path
from seatrial.serve.grpc_library import check_grpc
check_grpc()
import grpc
from seatrial.serve.grpc_renewal import RenewedServer
from seatrial.serve.tls import Tls

tries = []

def make():
    tries.append(1)
    return grpc.aio.server(options=[("grpc.so_reuseport", len(tries) == 1)])

async def main():
    tls = Tls(Path(sys.argv[1]), Path(sys.argv[2]))
    server = RenewedServer(make, "127.0.0.1", 0, tls, 1.0)
    await server.start()
    tls.pair = tls.pair[0], tls.pair[1] + b"\\n"
    for _ in range(50):
        await server.look()
    print(len(tries))
    await server.stop(0)
    tls.close()

logging.basicConfig(format="%(message)s")
asyncio.run(main())
"""


def test_a_server_that_cannot_be_opened_is_not_tried_at_each_look(tmp_path: Path) -> None:
    made = make_certificate(tmp_path, "one")
    done = subprocess.run(
        [sys.executable, "-c", TAKEN, str(made.certificate), str(made.key)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
    assert done.stderr.startswith("gRPC did not get the new certificate\nTraceback")
