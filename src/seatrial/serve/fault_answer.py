"""The answer of a request that a fault of the service ended, where others still mark answers."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seatrial.serve.protocols.error_answers import FAILED, SEE_LOG, plain_answer
from seatrial.serve.request_log import FAULT_CODE


class AnswerFaults:
    """Middleware that answers faults by itself, and raises them on for the log.

    Starlette answers them outside of all middleware, unless they are answered already.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except Exception:
            if not begun:
                await fault_answer(scope["path"])(scope, receive, answer)
            raise


def fault_answer(path: str) -> Response:
    """The answer, which says that the connection ends: the server ends it when it sees a fault."""
    closed = {"Connection": "close"}
    return plain_answer(path, 500, FAULT_CODE, FAILED, SEE_LOG, closed)
