"""The connections of a gRPC server, which its library keeps to itself.

`grpc.aio` tells a server of its calls, and of no connection. What gRPC notes of its sockets for
introspection (channelz) has them, those that say nothing included. Python reaches that through
functions that are not public: they are used here and nowhere else, and a service does without the
number where a version of gRPC has none of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from grpc._cython import cygrpc

from seatrial.serve.serving import Serving

NOTED = ("grpc.enable_channelz", 1)  # option of the server
PAGE = 500  # sockets that gRPC lists at a time


class GrpcConnections:
    """Counts the connections of the server that is made after it. Only one event loop calls this.

    Args:
        serving: Is told of the number, and so are its metrics.
    """

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._before = _servers()
        self._server: int | None = None

    def made(self) -> None:
        """The server is made."""
        new = _servers() - self._before
        self._server = max(new, default=None)

    def look(self) -> None:
        """Count the connections that are open now."""
        self._tell(0 if self._server is None else sum(1 for _ in _sockets(self._server)))

    def end(self) -> None:
        """The server is gone, and its connections with it."""
        self._tell(0)

    def _tell(self, connections: int) -> None:
        serving = self._serving
        serving.metrics.connections.inc(connections - serving.connections_beside)
        serving.connections_beside = connections


def _servers() -> set[int]:
    """Numbers of the servers of this process."""
    return {int(one["ref"]["serverId"]) for one in _listed("channelz_get_servers", "server")}


def _sockets(server: int) -> Iterator[Any]:
    return _listed("channelz_get_server_sockets", "socketRef", server, page=PAGE)


def _listed(function: str, key: str, *of: int, page: int | None = None) -> Iterator[Any]:
    """All pages of a list."""
    ask: Callable[..., bytes] | None = getattr(cygrpc, function, None)
    more, start = ask is not None, 0
    while more and ask is not None:
        told = json.loads(ask(*of, start, *(() if page is None else (page,))))
        found = told.get(key, [])
        yield from found
        more = bool(found) and not told.get("end")
        if more:
            last = found[-1]
            start = int(last["ref"]["serverId"] if "ref" in last else last["socketId"]) + 1
