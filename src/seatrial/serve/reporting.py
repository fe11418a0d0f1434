"""ASGI middleware that reports each request when it has its answer: to the log, to a tracer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seatrial.serve.trace_context import Trace, current_trace

FAULT = "InternalError"  # as in `seatrial.serve.app`
NO_ANSWER = 499  # as in `seatrial.serve.outcome`: the client has left
# Takes a request, its trace, its status and the bytes of its answer.
Report = Callable[[Scope, Trace, int, int], object]


class Reporting:
    """Middleware around all others; it is left out where nobody is to be told.

    Args:
        app: The application.
        reports: Are told, in their order.
    """

    def __init__(self, app: ASGIApp, reports: Sequence[Report]) -> None:
        self._app = app
        self._reports = reports

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and report it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace = current_trace.get() or Trace(scope["headers"])
        status, size = NO_ANSWER, 0

        async def note(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, note)
        except Exception:  # a fault: Starlette answers it, outside of here
            if status == NO_ANSWER:
                status, trace.code = 500, trace.code or FAULT
            raise
        finally:
            for report in self._reports:
                report(scope, trace, status, size)
