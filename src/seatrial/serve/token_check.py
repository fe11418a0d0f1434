"""The place where requests without a token end: before admission, and before their body is read."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from seatrial.errors import Unauthorized
from seatrial.serve.protocols.error_answers import OTHER_ROUTE, error_answer
from seatrial.serve.request_log import log_refusal
from seatrial.serve.serving import Serving
from seatrial.serve.trace_context import Trace, current_trace


class CheckTokens:
    """Middleware that answers requests without a token before a byte of their body is read.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            serving: Serving = scope["app"].state.serving
            try:
                serving.tokens.check(scope["path"], scope["headers"])
            except Unauthorized as error:
                serving.metrics.count(OTHER_ROUTE, error.http_status)
                trace = current_trace.get() or Trace()
                log_refusal(trace, error.http_status, error.code, error.message, OTHER_ROUTE)
                await error_answer(scope["path"], error)(scope, receive, send)
                return
        await self._app(scope, receive, send)
