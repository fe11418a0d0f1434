"""Whether the process serves: what the probes of balancers and orchestrators are told."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CLOSE = (b"connection", b"close")  # header of the last answer of a connection


class Health:
    """State of one process.

    Args:
        usable_lanes: Gives the number of lanes that work.

    Attributes:
        usable_lanes: The same.
        draining: Whether the process ends: no new request should be sent to it.
        failure: Why the process cannot serve any more; empty while it can.
        on_failure: Called when `failure` is set; ends the process where a supervisor is there.
    """

    def __init__(self, usable_lanes: Callable[[], int]) -> None:
        self.usable_lanes = usable_lanes
        self.draining = False
        self.failure = ""
        self.on_failure: Callable[[], object] = lambda: None

    def fail(self, reason: str) -> None:
        """Serve no more; the first reason counts."""
        if not self.failure:
            self.failure = reason
            self.on_failure()

    def unready(self) -> str:
        """Why no request should be sent to this process; empty where they should."""
        if self.failure or self.draining:
            return self.failure or "the service ends"
        return "" if self.usable_lanes() else "no lane of the engine works at this moment"


class CloseWhileDraining:
    """Middleware that ends connections while the process drains, each after an answer.

    A client that keeps its connection would send the next request into a closed one.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        health: Health = scope["app"].state.serving.health

        async def answer(message: Message) -> None:
            if health.draining and message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], CLOSE]
            await send(message)

        await self._app(scope, receive, answer)


def _answer(failure: str) -> Response:
    return PlainTextResponse(f"{failure or 'ok'}\n", 503 if failure else 200)


async def _live(request: Request) -> Response:
    return _answer(request.app.state.serving.health.failure)


async def _ready(request: Request) -> Response:
    return _answer(request.app.state.serving.health.unready())


PROBES = (
    Route("/livez", _live, methods=["GET"]),
    Route("/readyz", _ready, methods=["GET"]),
    Route("/healthz", _live, methods=["GET"]),
)
