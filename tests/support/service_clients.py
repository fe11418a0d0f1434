"""Both clients of a running service, and a service for them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import seatrial
from scripted_service import MODEL
from seatrial.artifact import Artifact
from seatrial.deployment import Limits
from served_application import Running, serve_application

BUSY = (
    503,
    {"Retry-After": "0", "X-Predicted-Wait-Ms": "1500"},
    b'{"error": {"code": "Overloaded", "message": "too much", "hint": "later"}}',
)


async def _ready(request: Request) -> Response:
    return Response("ok")


PROBES = (Route("/readyz", _ready),)


@pytest.fixture(scope="module")
def served(tiny_artifact: Artifact) -> Iterator[Running]:
    limits = Limits(body_bytes=2**18, image_pixels=1_000_000)
    with serve_application(tiny_artifact, limits, probes=PROBES) as running:
        yield running


def url_of(running: Running) -> str:
    return f"http://127.0.0.1:{running.port}"


class Awaited:
    """`AsyncClient` with the calls of `Client`, each in the one event loop of the block."""

    def __init__(self, url: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = seatrial.AsyncClient(url, **options)

    def __enter__(self) -> Awaited:
        self._runner.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._runner.run(self._client.close())
        self._runner.__exit__(None, None, None)

    def detect_many(self, images: Any, **options: Any) -> list[Any]:
        async def collect() -> list[Any]:
            return [one async for one in self._client.detect_many(images, **options)]

        return self._runner.run(collect())

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            return await method(*arguments, **options)

        return lambda *arguments, **options: self._runner.run(call(*arguments, **options))


@pytest.fixture(params=[seatrial.Client, Awaited], ids=["threads", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Any:
    """Opens one of the two clients: ``with connect(url, retries=0) as client``."""
    return request.param


@pytest.fixture(scope="module")
def array() -> Any:
    """(128, 128, 3) with a red cell at row 2 and column 3 of the tiny detector's grid."""
    image = np.zeros((128, 128, 3), np.uint8)
    image[32:48, 48:64] = (255, 0, 0)
    return image


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does as it likes with its connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=each, args=(connection,), daemon=True).start()

        def each(connection: socket.socket) -> None:
            with contextlib.suppress(OSError), connection:
                serve(connection)

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def silence(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def describes_itself(connection: socket.socket) -> None:
    """And answers nothing else."""
    if connection.recv(65536).startswith(b"GET"):
        body = json.dumps(MODEL).encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    silence(connection)
