"""A service over HTTPS, and clients of it."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from certificates import Made, make_certificate
from raw_http import read_response
from seatrial.deployment import Limits, Server

Running = Any
GET = b"GET /model HTTP/1.1\r\nHost: x\r\n\r\n"
HEADER_S = 1.0


@pytest.fixture(scope="module")
def two_certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    folder = tmp_path_factory.mktemp("certificates")
    return {name: make_certificate(folder, name) for name in ("one", "two")}


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def secure(
    request: pytest.FixtureRequest,
    run_app: Callable[..., Any],
    two_certificates: dict[str, Made],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Running, Made]]:
    """A service, and the files that it reads; on the event loop of each kind."""
    folder = tmp_path_factory.mktemp("service")
    files = Made(folder / "service.pem", folder / "service.key")
    for file, source in zip(files, two_certificates["one"], strict=True):
        file.write_bytes(source.read_bytes())
    server = Server(tls_certificate=str(files.certificate), tls_key=str(files.key))
    limits = Limits(header_s=HEADER_S, connections=16)
    with run_app(limits, server=server, loop=request.param) as served:
        yield served, files


def connected(
    running: Running, authority: Path, **options: Any
) -> contextlib.AbstractContextManager[ssl.SSLSocket]:
    context = ssl.create_default_context(cafile=str(authority))
    for name, value in options.items():
        setattr(context, name, value)
    raw = running.connect()
    return context.wrap_socket(raw, server_hostname="127.0.0.1")


def asked(connection: ssl.SSLSocket, sent: bytes = GET) -> int:
    connection.sendall(sent)
    return read_response(connection)[0]


def first_message() -> bytes:
    """The first message of a client of TLS."""
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(coming, going, server_hostname="127.0.0.1")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return going.read()
