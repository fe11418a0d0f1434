"""A request and its answer on their connection, where each is there in one piece.

The interface between server and application gives both in pieces, each a message that somebody
waits for. An image of ordinary size has arrived with its head, and its answer is made in one piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from starlette.responses import Response

from seatrial.serve.open_connections import END, Connection, Connections
from seatrial.serve.protocols.body import EXCHANGE
from seatrial.serve.trace_context import Trace


class Connected(Connection, Protocol):
    """The connection.

    Attributes:
        transport: Where answers are written.
    """

    transport: asyncio.Transport


class Exchange:
    """One of a connection; the application may use it, and the interface between them as well.

    Args:
        cycle: The same for uvicorn.
        trace: The request.
        connection: Their connection.
        connections: All of them; they have the first lines of all answers.
        server_state: Has the headers of all answers.

    Attributes:
        answered: Whether its answer is written.
    """

    __slots__ = ("_connection", "_connections", "_cycle", "_server_state", "_trace", "answered")

    def __init__(
        self,
        cycle: Any,
        trace: Trace,
        connection: Connected,
        connections: Connections,
        server_state: Any,
    ) -> None:
        self._cycle, self._trace, self._connection = cycle, trace, connection
        self._connections, self._server_state = connections, server_state
        self.answered = False

    def take_body(self) -> bytes | bytearray | None:
        """The body of the request, if all of it is here; it is given once."""
        cycle = self._cycle
        if cycle.more_body or cycle.disconnected or cycle.waiting_for_100_continue:
            return None
        body: bytes | bytearray = cycle.body
        cycle.body = bytearray()
        cycle.message_event.clear()  # what comes next is that the client leaves
        cycle.flow.resume_reading()
        return body

    def lingers(self) -> None:
        """Note that the last answer is written, and what still comes is dropped for a while."""
        if not self._cycle.disconnected:  # or it would count behind its end
            self._connections.waits(self._connection, END)

    def answer(self, response: Response) -> None:
        """Write an answer of ours.

        It is left to the interface where the client has left, or reads too slowly, or where the
        connection ends with it.
        """
        cycle = self._cycle
        if (
            cycle.disconnected
            or cycle.response_started
            or cycle.flow.write_paused
            or not cycle.keep_alive
        ):
            return
        begin = self._connections.begin_of_answer(
            response.status_code, self._server_state.default_headers
        )
        fields = [b"%b: %b\r\n" % field for field in response.raw_headers]
        parts = (begin, self._trace.fields(), *fields, b"\r\n", response.body)
        cycle.response_started = cycle.response_complete = True
        self._connection.transport.write(b"".join(parts))
        cycle.message_event.set()
        cycle.on_response()
        self.answered = True


def answer_now(scope: Mapping[str, Any]) -> Callable[[Response], object]:
    """A function that writes the answer to a request at once, where that is possible.

    It is not where layers have a part in the request, or another server than ours runs.
    """
    exchange: Exchange | None = scope.get(EXCHANGE)
    health = scope["app"].state.serving.health

    def answer(response: Response) -> None:
        if exchange is not None and not health.draining:
            exchange.answer(response)

    return answer
