"""The TLS handshake of one connection that is open already.

uvicorn would hand the connection over after its handshake: until then neither the limit of
connections nor that of time would hold for it.
"""
# ruff: noqa: D102  what asyncio calls is documented there

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Coroutine, Generator
from typing import Any

# After which a connection that is closed does not wait for the client's word any more.
SHUTDOWN_S = 1.0


class Handshake(asyncio.Protocol):
    """Stands for the protocol of a connection until its handshake is done.

    asyncio hands on what a client sends together with the end of the handshake before whoever
    waits for that end is called.

    Args:
        transport: The connection, in its ``connection_made``.
        context: The service's certificate.
        within_s: Longest time, seconds.
    """

    def __init__(
        self, transport: asyncio.Transport, context: ssl.SSLContext, within_s: float
    ) -> None:
        self._early = bytearray()
        self._within_s = within_s
        self._waiting: asyncio.Task[Any] | None = None
        self._transport = transport
        loop = asyncio.get_running_loop()
        # uvloop reads as soon as `connection_made` returns: it has to know for whom by then.
        self._securing = _Begun(
            loop.start_tls(
                transport, self, context, server_side=True, ssl_handshake_timeout=within_s,
                ssl_shutdown_timeout=SHUTDOWN_S,
            )
        )  # fmt: skip

    def data_received(self, data: bytes) -> None:
        self._early += data

    def connection_lost(self, exc: Exception | None) -> None:
        # asyncio says this, and no more, of a connection that is lost before its first step.
        if self._waiting is not None:
            self._waiting.cancel()

    async def secured(self) -> asyncio.Transport | None:
        """The encrypted connection, once the handshake is done; None where there is none."""
        self._waiting = asyncio.current_task()
        try:
            async with asyncio.timeout(self._within_s + SHUTDOWN_S):
                secured = await self._securing
        except (OSError, asyncio.CancelledError):  # ssl.SSLError, a client that left, the time
            self._transport.abort()
            return None
        except Exception:  # whatever it is, the connection has to be counted no more
            logging.getLogger(__name__).exception("a TLS handshake failed")
            self._transport.abort()
            return None
        # asyncio tells of a connection that was ended here as of one that is encrypted.
        return None if self._transport.is_closing() else secured

    def hand_over(self, secured: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        """Let a protocol have the connection from now on, with what came already.

        Args:
            secured: From `secured`.
            protocol: Its ``connection_made`` is called.
        """
        secured.set_protocol(protocol)
        protocol.connection_made(secured)
        if self._early:
            protocol.data_received(bytes(self._early))


class _Begun:
    """A coroutine that has run to its first wait, and may be awaited from there on."""

    def __init__(self, coroutine: Coroutine[Any, Any, asyncio.Transport | None]) -> None:
        self._coroutine = coroutine
        self._waits_for = coroutine.send(None)

    def __await__(self) -> Generator[Any, Any, asyncio.Transport | None]:
        waits_for = self._waits_for
        while True:
            try:
                try:
                    value = yield waits_for
                except BaseException as error:  # noqa: BLE001  a cancellation, too
                    waits_for = self._coroutine.throw(error)
                else:
                    waits_for = self._coroutine.send(value)
            except StopIteration as done:
                transport: asyncio.Transport | None = done.value
                return transport
