"""Servers that run beside the HTTP server of a process, on the same event loop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

from seatrial.deployment import Deployment
from seatrial.serve.grpc_library import check_grpc
from seatrial.serve.serving import Serving

# Serves as long as the context lasts. It is given what holds the service, of which each request
# takes its own, and the number of connections that it may have; the former is told how many it has.
Companion = Callable[[Serving, int], AbstractAsyncContextManager[Any]]


def companions(deployment: Deployment) -> tuple[Companion, ...]:
    """The companions of a deployment's HTTP server.

    Raises:
        MissingExtra: A package that one of them needs is not installed.
    """
    if deployment.server.grpc_port is None:
        return ()
    check_grpc()
    from seatrial.serve.grpc_server import grpc_server  # loads gRPC

    return (partial(grpc_server, deployment),)
