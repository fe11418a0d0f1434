"""The application on a real server inside the test's process, where its lanes can be held."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import uvicorn
from starlette.applications import Starlette

import local_http
from seatrial.artifact import Artifact
from seatrial.deployment import Batching, CoreLayout, Deployment, Limits, Server
from seatrial.detect.detector import Detector
from seatrial.engines.places import Place
from seatrial.serve.address import free_port, url
from seatrial.serve.app import create_app
from seatrial.serve.companions import companions
from seatrial.serve.http_protocol import HttpProtocol
from seatrial.serve.service import Service
from seatrial.serve.serving import Serving
from seatrial.serve.startup import open_service

PATIENCE_S = 60.0


@dataclass
class Running:
    """An application that is being served.

    Attributes:
        app: The application.
        port: Where it listens, on 127.0.0.1.
        client: Talks to it.
        loop: Its event loop, which runs on a thread of its own.
        grpc_port: Where it serves gRPC; 0 where it does not.
    """

    app: Starlette
    port: int
    client: httpx.Client
    loop: asyncio.AbstractEventLoop
    grpc_port: int = 0

    @property
    def service(self) -> Service:
        """The service behind it at this moment."""
        serving: Serving = self.app.state.serving
        return serving.live

    @property
    def detector(self) -> Detector:
        """The detector behind it."""
        return self.service.dispatcher.detector

    @property
    def grpc_connections(self) -> int:
        """Open connections of gRPC, as the limit of the HTTP server sees them."""
        serving: Serving = self.app.state.serving
        return serving.connections_beside

    def connect(self) -> socket.socket:
        """A connection of one's own, for what no client library would send."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    @contextlib.contextmanager
    def lanes_held(self) -> Iterator[None]:
        """Hold every lane: requests come as far as the queue and no further."""
        lanes = self.detector.lanes
        with contextlib.ExitStack() as held:
            for _ in self.detector.engine.narrow:
                place = held.enter_context(Place(lanes))
                held.callback(lanes.release, lanes.acquire(place))
            yield
        self.service.dispatcher.departures += 1  # as where a request ends


def settle(loop: asyncio.AbstractEventLoop) -> None:
    """Wait until an event loop has done what was due: what it counts behind an answer is counted.

    A client in another process needs that not: its next request comes behind it.
    """

    async def nothing() -> None:
        pass

    with contextlib.suppress(TimeoutError, RuntimeError):  # it may be held up, or have ended
        asyncio.run_coroutine_threadsafe(nothing(), loop).result(1.0)


class PromptServer(uvicorn.Server):
    """A server that ends when it is told to, and not up to a tenth of a second later."""

    async def main_loop(self) -> None:
        """Wait for the end."""
        ticks = itertools.count()
        while not await self.on_tick(next(ticks) // 10):
            await asyncio.sleep(0.01)


@contextlib.contextmanager
def serve_application(
    artifact: Artifact,
    limits: Limits | None = None,
    engine: str = "onnxruntime",
    *,
    port: int = 0,
    layout: CoreLayout | None = None,
    server: Server | None = None,
    grpc: bool = False,
    loop: str = "asyncio",
    batching: Batching | None = None,
    **options: Any,
) -> Iterator[Running]:
    """Serve an artifact from a thread of this process, as long as the block lasts."""
    layout = layout or CoreLayout(1, 1, 1, wide=False)
    grpc_port = free_port("127.0.0.1") if grpc else None
    address = msgspec.structs.replace(server or Server(), grpc_port=grpc_port)
    deployment = Deployment(
        "tiny",
        engine=engine,
        layout=layout,
        limits=limits or Limits(),
        server=address,
        batching=batching or Batching(),
    )
    loops: list[asyncio.AbstractEventLoop] = []

    def start() -> Service:
        loops.append(asyncio.get_running_loop())
        return open_service(artifact, deployment)

    app = create_app(start, companions=companions(deployment), **options)
    port = port or free_port("127.0.0.1")
    config = uvicorn.Config(app, port=port, http=HttpProtocol, log_config=None, loop=loop)
    server = PromptServer(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.002)
        with local_http.client(
            base_url=url(Server(port=port, tls_certificate=deployment.server.tls_certificate)),
            timeout=PATIENCE_S,
            event_hooks={"response": [lambda _: settle(loops[0])]},
        ) as client:
            yield Running(app, port, client, loops[0], grpc_port or 0)
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
