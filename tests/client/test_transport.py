"""Encrypted connections: the authorities of a file, and what is not trusted."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from scripted_service import MODEL
from seatrial.client.calls import Calls
from seatrial.client.transport import AsyncTransport, ThreadTransport
from seatrial.config import encode_json
from seatrial.errors import ServiceFailed


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of 127.0.0.1, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    file = tmp_path_factory.mktemp("tls") / "service.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=here", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", file, "-out", file.with_suffix(".crt")],
        check=True, capture_output=True,
    )  # fmt: skip
    file.write_text(file.read_text() + file.with_suffix(".crt").read_text())
    return file


@pytest.fixture(scope="module")
def encrypted(certificate: Path) -> Iterator[tuple[str, Callable[[], int]]]:
    """Address of a service, and the number of connections to it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = encode_json(MODEL)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    class Server(HTTPServer):
        connected = 0

        def get_request(self) -> Any:
            type(self).connected += 1
            return super().get_request()

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Quiet: some do not trust it."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}", lambda: Server.connected
        server.shutdown()
        thread.join()


def name_of(url: str, ca_file: Path | None, *, waits: bool) -> str:
    calls = Calls(url, timeout_s=20, retries=3)
    if waits:
        connections = ThreadTransport(url, connections=1, ca_file=ca_file)
        try:
            return connections.run(calls.model(calls.deadline())).name
        finally:
            connections.close()

    async def ask() -> str:
        connections = AsyncTransport(url, connections=1, ca_file=ca_file)
        try:
            return (await connections.run(calls.model(calls.deadline()))).name
        finally:
            await connections.close()

    return asyncio.run(ask())


@pytest.mark.parametrize("waits", [True, False], ids=["threads", "asyncio"])
def test_a_certificate_is_checked(encrypted: Any, certificate: Path, waits: bool) -> None:
    url, connected = encrypted
    assert name_of(url, certificate.with_suffix(".crt"), waits=waits) == "m"
    before = connected()
    with pytest.raises(ServiceFailed, match="its certificate is not trusted"):
        name_of(url, None, waits=waits)
    assert connected() == before + 1  # no retry makes it better


@pytest.mark.parametrize("waits", [True, False], ids=["threads", "asyncio"])
def test_no_encryption_where_it_is_wanted(encrypted: Any, waits: bool) -> None:
    plain = encrypted[0].replace("https:", "http:")
    with pytest.raises(ServiceFailed):
        name_of(plain, None, waits=waits)
