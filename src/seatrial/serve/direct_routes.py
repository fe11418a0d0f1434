"""The routes that nearly all requests take, answered without the layers of the application.

Starlette passes a request through each middleware, two handlers of exceptions and a search for its
route, and each part of its answer back through as many functions. Beside an engine, which leaves
none of that code in the processor's caches, this took a third of what the service added to a
request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from seatrial.errors import Unauthorized
from seatrial.serve.connections import may_stay_unread
from seatrial.serve.fault_answer import fault_answer
from seatrial.serve.health import CLOSE
from seatrial.serve.protocols.body import EXCHANGE
from seatrial.serve.request_log import log_fault
from seatrial.serve.serving import Serving

# Answers a request of a route.
Endpoint = Callable[[Request], Awaitable[Response]]


class DirectRoutes(Starlette):
    """An application some of whose routes are answered as they are, where no layer has a part.

    The answer is the one that the layers would let through: requests without a token, for other
    origins, with a body that may stay unread, or that are reported go through them.

    Args:
        direct: Path -> what answers a POST to it; they are routes of the application as well.
        **options: Those of Starlette.
    """

    def __init__(self, direct: Mapping[str, Endpoint], **options: Any) -> None:
        super().__init__(**options)
        self._direct = direct

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        endpoint = self._direct.get(scope["path"]) if scope["type"] == "http" else None
        if endpoint is None or scope["method"] != "POST" or not self._passes(scope):
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        health = self.state.serving.health
        exchange = scope[EXCHANGE] = scope.get("state", {}).get(EXCHANGE)
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            begun = True
            if health.draining and message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], CLOSE]
            await send(message)

        try:
            response = await endpoint(Request(scope, receive, answer))
            if exchange is None or not exchange.answered:
                await response(scope, receive, answer)
                return
            begun = True
            if response.background is not None:
                await response.background()
        except Exception as error:
            log_fault(scope, error)
            if not begun:
                await fault_answer(scope["path"])(scope, receive, answer)
            raise

    def _passes(self, scope: Scope) -> bool:
        """Whether all layers would let a request through as it is."""
        serving: Serving = self.state.serving
        if serving.reports or serving.server.cors_origins or may_stay_unread(scope["headers"]):
            return False
        try:
            serving.tokens.check(scope["path"], scope["headers"])
        except Unauthorized:
            return False
        return True
