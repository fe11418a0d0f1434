"""Serves a front end, with a policy that keeps its page from other hosts."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

# Both front ends use eval and inline scripts. Nothing is loaded from another host, and nothing is
# sent to one.
POLICY = "; ".join(
    (
        "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
GRACE_S = 1  # an open page holds a connection


class OwnHostOnly:
    """ASGI application around another one: browsers may load from its own host only.

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
        port: A free port.
        on_ready: Called once, when the page can be opened.
    """
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if self.started:
                on_ready()

        async def shutdown(self, sockets: Any = None) -> None:
            # uvicorn reports an error for each open page, which is disconnected.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            await super().shutdown(sockets)

    config = uvicorn.Config(
        OwnHostOnly(app),
        host=host,
        port=port,
        log_level=logging.ERROR,
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
        # The large messages of Streamlit are JPEGs: compression takes 7 ms and saves nothing.
        ws_per_message_deflate=False,
    )
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again after the shutdown
        Server(config).run()
