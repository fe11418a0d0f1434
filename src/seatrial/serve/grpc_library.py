"""gRPC's library: whether it is installed, and which certificates it serves.

It has a TLS of its own. With some keys that OpenSSL takes it opens no port; with others it opens
one, and has no signature that its clients take. Both are found out by trying.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from seatrial.serve.client_hello import HANDSHAKE, HELLO_BYTES
from seatrial.system.extras import require

WITHIN_S = 10.0  # a try takes milliseconds
KINDS = "RSA, and EC on the curves P-256 (prime256v1) and P-384"


def check_grpc() -> None:
    """Check that gRPC can be served.

    Raises:
        MissingExtra: A package that it needs is not installed.
    """
    # gRPC writes lines past the log for handshakes that fail, and as an error one for each message
    # that a client has packed in a way that is not taken. Its faults are raised as well.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    for module in ("grpc", "google.protobuf", "grpc_health.v1", "grpc_reflection.v1alpha"):
        require(module, extra="grpc", purpose="serving gRPC")


def serves(key: bytes, certificate: bytes) -> bool:
    """Whether a gRPC server with a certificate answers gRPC's clients.

    A server of this process gets the first message of a client of this process. No port is taken.

    Args:
        key: PEM, without a password.
        certificate: PEM: the certificate, and those between it and the authority.

    Returns:
        Also true where it cannot be tried.

    Raises:
        MissingExtra: See `check_grpc`.
    """
    check_grpc()
    import grpc

    name, server = _name(), grpc.server(ThreadPoolExecutor(max_workers=1))
    try:
        credentials = grpc.ssl_server_credentials([(key, certificate)])
        server.add_secure_port(f"unix-abstract:{name}", credentials)
    except RuntimeError:
        with contextlib.suppress(RuntimeError):
            return not server.add_insecure_port(f"unix-abstract:{name}")
        return True
    server.start()
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(WITHIN_S)
            client.connect(f"\0{name}")
            client.sendall(_first_message())
            return client.recv(1) == bytes([HANDSHAKE])
    except ConnectionError:
        return False
    except OSError:
        return True
    finally:
        server.stop(None)


@lru_cache(maxsize=1)
def _first_message() -> bytes:
    """The first message of a client of gRPC's library.

    Raises:
        OSError: There is none.
    """
    import grpc

    name = _name()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(WITHIN_S)
        listener.bind(f"\0{name}")
        listener.listen()
        with grpc.secure_channel(
            f"unix-abstract:{name}", grpc.ssl_channel_credentials()
        ) as channel:
            channel.subscribe(lambda state: None, try_to_connect=True)
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(WITHIN_S)
                return connection.recv(HELLO_BYTES)


def _name() -> str:
    """The name of a socket without a file."""
    return f"seatrial-{os.getpid()}-{secrets.token_hex(8)}"
