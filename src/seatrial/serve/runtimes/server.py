"""uvicorn with our HTTP protocol, on a socket that is there."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette

from seatrial.serve.address import warning
from seatrial.serve.http_protocol import HttpProtocol
from seatrial.serve.log import say
from seatrial.serve.open_connections import CONNECTIONS, Connections
from seatrial.serve.peers import Peers
from seatrial.serve.runtimes.draining import SIGNALS
from seatrial.serve.runtimes.served import Served
from seatrial.system.token_files import SERVER_TOKENS

TICK_S = 1.0  # in which a supervisor is told that the process is alive
DATE_S = 1.0  # for which answers have the same date
BACKLOG = 2048  # connections that may wait to be taken
Handler = Callable[[int, FrameType | None], Any]


def end(number: int, frame: FrameType | None) -> None:
    """Handle a signal before and after uvicorn does: an end that was asked for is no error."""
    sys.exit(0)


class _Life:
    """The life of an application, as uvicorn asks for it; an error of its start is raised.

    uvicorn would log the traceback of any error, and end the process with a code of its own.

    Attributes:
        state: What the application's start gave.
        should_exit: False: the start was done, or has raised.
    """

    def __init__(self, app: Starlette) -> None:
        self._context = app.router.lifespan_context(app)
        self._begun = self.should_exit = False
        self.state: dict[str, Any] = {}

    async def startup(self) -> None:
        """Start the application."""
        self.state.update(await self._context.__aenter__() or {})
        self._begun = True

    async def shutdown(self) -> None:
        """End it, where it was started."""
        if not self._begun:
            return
        self._begun = False
        await asyncio.sleep(0)  # requests that were cancelled are answered first
        try:
            await self._context.__aexit__(None, None, None)
        except Exception:
            logging.getLogger(__name__).exception("the end of the service failed")


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, served: Served, on_ready: Callable[[], object]
    ) -> None:
        super().__init__(config)
        self._served = served
        self._on_ready = on_ready
        self._peers: Peers | None = None
        self._wake: Callable[[], object] = lambda: None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._wake()

    async def main_loop(self) -> None:
        """Wait for the end, and say once a second that the process is alive where that is asked.

        uvicorn looks ten times a second, which is most of what an idle service does. Here requests
        themselves have the date made anew.
        """
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        self._wake = functools.partial(loop.call_soon_threadsafe, ended.set)
        tells = self.config.callback_notify is not None
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), TICK_S if tells else None)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await self._start(sockets)
        except BaseException:
            await self.lifespan.shutdown()
            raise

    async def _start(self, sockets: list[socket.socket] | None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            connections: Connections = self.lifespan.state[CONNECTIONS]
            connections.peers = self._peers = self._served.peers(self._take)

            def date() -> None:
                headers = self.config.encoded_headers
                now = formatdate(usegmt=True).encode()
                self.server_state.default_headers = [(b"date", now), *headers]
                connections.dated_until_s = connections.now_s() + DATE_S

            connections.date = date
            date()
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._peers is not None:
            self._peers.close()
        await super().shutdown(sockets=sockets)

    async def _take(self, given: socket.socket) -> None:
        """Take a connection that another process of the service gives."""

        def make() -> HttpProtocol:
            protocol = HttpProtocol(self.config, self.server_state, self.lifespan.state)
            protocol.stays = True
            return protocol

        await asyncio.get_running_loop().connect_accepted_socket(make, given)


def serve(
    served: Served,
    listener: socket.socket,
    *,
    backlog: int = BACKLOG,
    on_ready: Callable[[], object] = lambda: None,
    on_signal: Handler = end,
    while_alive: Callable[[], Awaitable[None]] | None = None,
    alive_every_s: float = 0.0,
) -> None:
    """Serve until a signal ends it.

    Args:
        served: What is served.
        listener: Bound socket; it is closed when the drain begins.
        backlog: Connections that may wait to be taken.
        on_ready: Called on the event loop once connections are taken.
        on_signal: Takes a signal before uvicorn handles it, and again after the drain.
        while_alive: Called by the event loop from time to time.
        alive_every_s: Longest time between two calls of it, seconds.

    Raises:
        SystemExit: It was ended.
        Exception: What the start of the application raises, or that of the server.
    """
    app = served.application()
    config = uvicorn.Config(
        app,
        http=HttpProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=backlog,
        timeout_graceful_shutdown=served.drain.wait_s,  # type: ignore[arg-type]  # any number
        callback_notify=while_alive,
        timeout_notify=alive_every_s,  # type: ignore[arg-type]
    )
    config.load()
    config.lifespan_class = lambda config: _Life(app)
    needs_token = served.deployment.server.token_file is not None or SERVER_TOKENS in os.environ
    said = warning(listener.getsockname()[0], needs_token=needs_token) if served.is_first else ""
    if said:
        say("warning", "open", said)
    # uvicorn puts these back when it ends, and raises the signal once more.
    for number in SIGNALS:
        signal.signal(number, on_signal)
    _Server(config, served, on_ready).run(sockets=[listener])
