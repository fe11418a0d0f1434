"""Connections on which a request was answered before its body was read: kept or ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seatrial.serve.protocols.body import EXCHANGE

# A body up to this length is read to its end, so that the connection serves the next request: a new
# one would cost more, and more than once where it is encrypted.
SKIPPED_BYTES = 1024 * 1024
# A longer one is read for so long after the answer, and dropped: a connection that is closed while
# data arrive is reset, and a client that first sends everything would lose the answer.
LINGER_S = 1.0


class Lingers(Protocol):
    """The connection of a request: `seatrial.serve.exchange.Exchange`."""

    def lingers(self) -> None:
        """Note that the last answer is written, and what still comes is dropped for a while."""


class StopReading:
    """Middleware that ends the connection of a request whose body is not read, if it is long.

    The server would read all that such a client goes on sending, and drop it. So is that of a
    client that waits for leave to send its body (``Expect``): some send none after a refusal, and
    their next request would be taken for it.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not may_stay_unread(scope["headers"]):
            await self._app(scope, receive, send)
            return
        reading = True

        async def watched() -> Message:
            nonlocal reading
            message = await receive()
            reading = reading and message.get("more_body", False)
            return message

        async def answer(message: Message) -> None:
            if reading and message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            if not reading or message["type"] == "http.response.start":
                await send(message)
                return
            # Its bytes go out at once; the server closes when it is told that no more follow.
            await send({**message, "more_body": True})
            if not message.get("more_body", False):
                exchange: Lingers | None = scope.get("state", {}).get(EXCHANGE)
                if exchange is not None:  # from now on its place may go to another
                    exchange.lingers()
                await _linger(receive)
                await send({"type": "http.response.body"})

        await self._app(scope, watched, answer)


def declared_bytes(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """Declared length of a request's body, 0 where it has none; None where it is not declared."""
    for name, value in headers:
        if name == b"content-length":
            return int(value) if value.isdigit() else None
        if name == b"transfer-encoding":
            return None
    return 0


def may_be_long(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request's body is over `SKIPPED_BYTES`, or of a length that is not declared."""
    length = declared_bytes(headers)
    return length is None or length > SKIPPED_BYTES


def may_stay_unread(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether `StopReading` has a part in a request."""
    return may_be_long(headers) or any(name == b"expect" for name, _ in headers)


async def _linger(receive: Receive) -> None:
    """Drop what arrives for `LINGER_S`, or until the body or the connection ends."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while (await receive()).get("more_body", False):
                pass
