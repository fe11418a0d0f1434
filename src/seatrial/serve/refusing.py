"""Refusals that are written on a connection round the application, and what comes behind them."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from seatrial.serve.dropped_body import DroppedBody
from seatrial.serve.open_connections import END, IDLE, Connection, Connections

ENDLESS = 2**62  # bytes of a body


class Refused(Connection, Protocol):
    """The connection.

    Attributes:
        transport: Where it is written.
        over: Whether nothing is read any more; `Refusing` sets it.
    """

    transport: asyncio.Transport
    over: bool


class Refusing:
    """Writes refusals on one connection, and drops the bodies of what it refuses.

    Args:
        connection: The connection.
        connections: All of them.
        server_state: Has the headers of all answers.
    """

    __slots__ = ("_all", "_connection", "_dropped", "_server_state")

    def __init__(self, connection: Refused, connections: Connections, server_state: Any) -> None:
        self._connection, self._all, self._server_state = connection, connections, server_state
        self._dropped: DroppedBody | None = None  # past the parser

    def write(self, status: int, rest: bytes) -> None:
        """Write an answer; ``rest`` is its own fields, an empty line and its body."""
        begin = self._all.begin_of_answer(status, self._server_state.default_headers)
        self._connection.transport.write(begin + rest)

    def write_last(self, status: int, rest: bytes) -> None:
        """Write the last answer of the connection, and read nothing more.

        What still arrives is dropped for a while: a connection that is closed with unread data is
        reset, and its client loses the answer.
        """
        connection = self._connection
        connection.over = True
        self.write(status, b"connection: close\r\n" + rest)
        self._all.waits(connection, END)
        if connection.transport.can_write_eof():
            connection.transport.write_eof()
        self.drop(ENDLESS)

    def drop(self, left_bytes: int) -> int:
        """Drop the rest of a body; how much of it is still to come."""
        transport = self._connection.transport
        if transport.is_closing():  # its descriptor may be another connection's by now
            return left_bytes
        if self._dropped is None:
            self._dropped = DroppedBody(transport, self._all.room.whole)
        self._dropped.begin(left_bytes)
        return self._dropped.left_bytes

    def pass_over(self, data: bytes | memoryview) -> bytes | memoryview:
        """Give what follows the body that is dropped, if there is one, in what came."""
        dropped = self._dropped
        if dropped is None or not dropped.left_bytes:
            return data
        taken = dropped.take(len(data))
        if not dropped.left_bytes:
            self._all.waits(self._connection, IDLE)
        return data[taken:]

    def close(self) -> None:
        """The connection is gone."""
        if self._dropped is not None:
            self._dropped.close()
