"""A line of JSON on standard error for each request: what was asked, and what became of it."""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seatrial.errors import SeatrialError

NO_ANSWER = 499  # as in `seatrial.serve.outcome`: the client has left


class RequestLog:
    """ASGI middleware that writes the lines; a line is one write, whole among several processes.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and write its line."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
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
        finally:
            _write(
                scope,
                status,
                {"ms": round((time.perf_counter() - began) * 1e3, 3), "bytes": size},
            )


def log_failure(scope: Scope, error: SeatrialError) -> None:
    """Write the line of a request that the service failed to answer."""
    _write(scope, error.http_status, {"code": error.code, "message": error.message})


def _write(scope: Scope, status: int, facts: dict[str, object]) -> None:
    client = scope.get("client")
    row = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "client": client[0] if client else "",
        "method": scope["method"],
        "path": scope["path"],
        "status": status,
        **facts,
        "process": os.getpid(),
    }
    sys.stderr.write(msgspec.json.encode(row).decode() + "\n")
    sys.stderr.flush()
