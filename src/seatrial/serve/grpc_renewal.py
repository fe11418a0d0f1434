"""The gRPC server of each certificate: a renewal opens another one on the same port.

gRPC can ask for the certificate at each handshake, and then exchanges it while other threads begin
handshakes with it: a few hundred connections end the process. A server here has one certificate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from seatrial.errors import ServiceFailed
from seatrial.serve.address import GRPC_PORT, bound
from seatrial.serve.log import GoesOn
from seatrial.serve.tls import Tls

Server = Any  # grpc.aio.Server
MOST_OLD = 4  # servers of earlier certificates that finish their calls
AGAIN_S = 10.0  # after another server could not be opened


class RenewedServer:
    """A gRPC server that has the certificate of the moment; on its event loop alone.

    Args:
        make: Makes a server that shares its port (``SO_REUSEPORT``), with all of its methods.
        host: Where it listens, as in an address.
        port: The port; 0 takes a free one.
        tls: The certificate; None where connections are not encrypted.
        finish_s: Longest time in which the calls of connections with an earlier certificate end.

    Attributes:
        port: The port.

    Raises:
        PortInUse: Another process listens there, or the address is not this machine's.
        ServiceFailed: gRPC does not listen there for another reason.
    """

    def __init__(
        self, make: Callable[[], Server], host: str, port: int, tls: Tls | None, finish_s: float
    ) -> None:
        self._make = make
        self._host = host
        self.port = port
        self._tls = tls
        self._finish_s = finish_s
        self._pair: tuple[bytes, bytes] | None = None
        self._not_before_s = 0.0  # of the event loop's clock
        self._ending: set[asyncio.Task[None]] = set()
        self._old: list[Server] = []
        self._goes_on = GoesOn("gRPC did not get the new certificate")
        self._server = self._opened()

    async def start(self) -> None:
        """Take connections."""
        await self._server.start()

    async def look(self) -> None:
        """Open another server where the certificate is another one; the earlier one ends.

        Connections of the earlier one are asked to end; their calls go on.
        """
        if self._tls is None or self._tls.pair == self._pair or len(self._ending) >= MOST_OLD:
            return
        now = asyncio.get_running_loop().time()
        if now < self._not_before_s:
            return
        with self._goes_on:
            self._not_before_s = now + AGAIN_S
            old, self._server = self._server, self._opened()
            self._not_before_s = 0.0
            self._old.append(old)
            await self._server.start()
            task = asyncio.ensure_future(self._finish(old))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def stop(self, within_s: float) -> None:
        """End: calls that go on for longer than so many seconds are cancelled."""
        await asyncio.gather(*(one.stop(within_s) for one in (self._server, *self._old)))

    async def _finish(self, old: Server) -> None:
        await old.stop(self._finish_s)
        self._old.remove(old)

    def _opened(self) -> Server:
        server, where = self._make(), f"{self._host}:{self.port}"
        try:
            if self._tls is None:
                self.port = server.add_insecure_port(where)
            else:
                pair = self._tls.pair
                credentials = grpc.ssl_server_credentials([pair])
                self.port = server.add_secure_port(where, credentials)
                self._pair = pair
        except RuntimeError as error:
            with bound(self._host.strip("[]"), self.port, GRPC_PORT, shared=True):
                pass  # or else it says why: gRPC does not
            raise ServiceFailed(
                f"gRPC cannot listen on {where}", hint="GRPC_VERBOSITY=debug shows why"
            ) from error
        return server
