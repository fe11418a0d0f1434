"""Pages of other origins: a browser lets them read answers where the deployment lists them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from seatrial.errors import InvalidConfig
from seatrial.serve.fault_answer import AnswerFaults
from seatrial.serve.protocols.error_answers import plain_answer

ALL = "*"
# Tracing in a page adds Tracestate and Baggage to Traceparent: refused, they end every request.
ALLOWED_HEADERS = (
    "Authorization", "Baggage", "Content-Encoding", "Inference-Header-Content-Length",
    "Traceparent", "Tracestate", "X-Request-Id", "X-Request-Priority", "X-Request-Timeout-Ms",
)  # fmt: skip
EXPOSED_HEADERS = (
    "Inference-Header-Content-Length", "Retry-After", "Server-Timing", "Traceparent",
    "WWW-Authenticate", "X-Model-Digest", "X-Predicted-Wait-Ms", "X-Request-Id",
)  # fmt: skip
_ORIGIN = re.compile(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?")


def check_origins(origins: Sequence[str]) -> None:
    """Check an allow list.

    Raises:
        InvalidConfig: One is no origin as browsers write it, or stands beside ``*``.
    """
    for origin in origins:
        if not (origin == ALL or _ORIGIN.fullmatch(origin)):
            raise InvalidConfig(
                f"server.cors_origins: {origin[:100]!r} is not an origin",
                hint="write scheme, host and port in lower case, for example "
                "https://app.example.com, or * for all",
            )
    if ALL in origins and len(origins) > 1:
        raise InvalidConfig("server.cors_origins: * stands for all origins, and stands alone")


class _Cors(CORSMiddleware):
    """Starlette's middleware, whose refusals are errors as others are."""

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            return response
        said = bytes(response.body).decode()
        kept = {k: v for k, v in response.headers.items() if not k.startswith("content-")}
        return plain_answer(
            "", response.status_code, "CrossOrigin", said, "see server.cors_origins", kept
        )


class CrossOrigin:
    """Middleware that answers preflights, and marks answers that other origins may read.

    It stands before the tokens: browsers send none with a preflight.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._cors: _Cors | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        origins = scope["type"] == "http" and scope["app"].state.serving.server.cors_origins
        if not origins:
            await self._app(scope, receive, send)
            return
        if self._cors is None:
            self._cors = _Cors(
                AnswerFaults(self._app),
                allow_origins=origins,
                allow_methods=("GET", "POST"),
                allow_headers=ALLOWED_HEADERS,
                expose_headers=EXPOSED_HEADERS,
            )
        await self._cors(scope, receive, send)
