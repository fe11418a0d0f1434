"""Serves a front end, and keeps its page at home."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

# Both front ends are built with tools that eval and inline; nothing is loaded from elsewhere,
# and nothing is sent there, whatever the page's scripts have in mind.
POLICY = "; ".join(
    (
        "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
GRACE_S = 1  # pages hold a connection open for as long as they are looked at


class StaysHome:
    """ASGI application around another one: browsers load its pages' parts from itself alone.

    Source: W3C Content Security Policy Level 3.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""

        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"content-security-policy", POLICY.encode()),
                    (b"referrer-policy", b"no-referrer"),
                ]
            await send(message)

        await self._app(scope, receive, send_with_policy)


def run(app: Any, host: str, port: int, on_ready: Callable[[], None]) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        app: ASGI application.
        host: Address to listen on.
        port: Free.
        on_ready: Called once, when pages are answered.
    """
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if self.started:
                on_ready()

        async def shutdown(self, sockets: Any = None) -> None:
            # Pages that are open are cut off, which uvicorn reports as an error for each.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            await super().shutdown(sockets)

    config = uvicorn.Config(
        StaysHome(app),
        host=host,
        port=port,
        log_level=logging.ERROR,
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
        # What is big on Streamlit's socket are JPEGs: 7 ms of work for each, and no smaller.
        ws_per_message_deflate=False,
    )
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again once all is closed
        Server(config).run()
