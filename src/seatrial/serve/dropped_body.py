"""The rest of a body that nobody reads: the kernel drops it, and seldom wakes the process for it.

A body comes in pieces, and for each of them the process would wake, read and look at it: under
overload that is a large part of what a refusal costs. Bytes that are here are dropped at once and
without a copy (``MSG_TRUNC``, tcp(7)). For those that are to come the process wakes when all are
here, or `MOST_BYTES` of them (``SO_RCVLOWAT``, socket(7)).
"""

from __future__ import annotations

import asyncio
import socket
import sys

# Elsewhere than on Linux the flag has another meaning: what is dropped is copied there.
DROP = socket.MSG_DONTWAIT | (socket.MSG_TRUNC if sys.platform == "linux" else 0)
# With less to come, the process wakes for any of it: to ask for more is two system calls.
LEAST_BYTES = 16 * 1024
# As many bytes of a connection as the kernel may keep meanwhile.
MOST_BYTES = 256 * 1024


class DroppedBody:
    """Drops what comes on a connection, up to the end of a body.

    Args:
        transport: The connection. Of an encrypted one the kernel drops nothing.
        room: Buffer that takes what is copied; nothing in it is kept.

    Attributes:
        left_bytes: Bytes of the body that are to come; 0 where there is none.
    """

    def __init__(self, transport: asyncio.BaseTransport, room: memoryview) -> None:
        self.left_bytes = 0
        self._room = room
        self._wakes_at = 1  # bytes that are here when the process wakes
        self._socket: socket.socket | None = None
        if transport.get_extra_info("ssl_object") is None:
            # Another object for the same descriptor, which the transport closes: see `close`.
            self._socket = socket.socket(fileno=transport.get_extra_info("socket").fileno())

    def begin(self, left_bytes: int) -> None:
        """Drop so many bytes from now on; all that was read before them belongs to others."""
        self.left_bytes = left_bytes
        self._drop()

    def take(self, read_bytes: int) -> int:
        """Count bytes that the transport has read; how many of them belong to the body."""
        taken = min(read_bytes, self.left_bytes)
        self.left_bytes -= taken
        self._drop()
        return taken

    def close(self) -> None:
        """Let go of the descriptor; the transport has closed it, or will."""
        if self._socket is not None:
            self._socket.detach()

    def _drop(self) -> None:
        if self._socket is None:
            return
        if self.left_bytes:
            most = min(self.left_bytes, len(self._room))
            try:
                dropped = self._socket.recv_into(self._room, most, DROP)
            except OSError:  # nothing is here, or the connection is broken: the transport will see
                dropped = 0
            self.left_bytes -= dropped
        wakes_at = min(self.left_bytes, MOST_BYTES) if self.left_bytes >= LEAST_BYTES else 1
        if wakes_at != self._wakes_at:
            self._wakes_at = wakes_at
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wakes_at)
