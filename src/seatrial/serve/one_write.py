"""An answer's head and body in one write: one system call, and one wake-up of the client."""

from __future__ import annotations

import asyncio


class OneWrite:
    """The transport as the answer to one request sees it: its first two writes become one.

    The first is held until the second, or until the event loop has done what is due, whichever
    comes first.

    Args:
        transport: Where it is written.
    """

    __slots__ = ("_begun", "_held", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held = b""
        self._begun = False

    def write(self, data: bytes) -> None:
        """Write some data, now or a moment later."""
        if self._held:
            data, self._held = self._held + data, b""
        elif not self._begun:
            self._begun, self._held = True, data
            asyncio.get_running_loop().call_soon(self.flush)
            return
        self._transport.write(data)

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Close the connection when all is written."""
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        """Write what is held."""
        held, self._held = self._held, b""
        if held and not self._transport.is_closing():
            self._transport.write(held)
