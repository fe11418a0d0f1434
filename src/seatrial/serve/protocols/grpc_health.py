"""Health checking over gRPC: what the process says of itself, once or at each change.

The servicer of grpcio-health-checking is not used: while it writes to a watcher it keeps a lock
that each change of a status needs. One watcher that does not read would block all others and
the drain.

Source: the gRPC Health Checking Protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2

from seatrial.client.inference_messages import SERVICE
from seatrial.errors import NotServed, shown
from seatrial.serve.grpc_connections import GrpcConnections
from seatrial.serve.health import Health
from seatrial.serve.protocols.call_seats import Seats
from seatrial.serve.protocols.grpc_messages import Reception, parse
from seatrial.serve.protocols.grpc_methods import answered, until_the_end

HEALTH = health.SERVICE_NAME
# Names that orchestrators ask the health of: all services, ours, and what Kubernetes' pages name.
READY, LIVE = ("", SERVICE, "readiness"), ("liveness",)
HEALTH_S = 2.0  # for a question of health, which comes with the beginning of its call
WATCHERS = 32  # calls that are told of health until they end; anyone may make them
# They do nothing but wait. Where they take all places, the connection with most of them gives its
# oldest up; or the oldest goes, after so many seconds.
OLDEST_S = 1.0
STATUS = health_pb2.HealthCheckResponse.ServingStatus


class HealthStatuses:
    """The status of each name. Only one event loop calls this."""

    def __init__(self) -> None:
        self._statuses: dict[str, int] = dict.fromkeys((*READY, *LIVE), STATUS.NOT_SERVING)
        self._changed = asyncio.Event()
        self._ended = False

    def tell(self, state: Health) -> None:
        """Take what the process says of itself now."""
        if self._ended:
            return
        for names, wrong in ((READY, state.unready()), (LIVE, state.failure)):
            self._set(names, STATUS.NOT_SERVING if wrong else STATUS.SERVING)

    def end(self) -> None:
        """Nothing serves from now on, whatever is told later."""
        self._ended = True
        self._set((*READY, *LIVE), STATUS.NOT_SERVING)

    def _set(self, names: tuple[str, ...], status: int) -> None:
        if all(self._statuses[name] == status for name in names):
            return
        self._statuses.update(dict.fromkeys(names, status))
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def of(self, name: str) -> int | None:
        """The status of a name; None where there is no such name."""
        return self._statuses.get(name)

    async def changes(self, name: str) -> AsyncIterator[int]:
        """The status of a name now, and after each change; an unknown one may become known."""
        last: int | None = None
        while True:
            changed = self._changed
            status = self._statuses.get(name, STATUS.SERVICE_UNKNOWN)
            if status != last:
                last = status
                yield status
            else:
                await changed.wait()


def health_handlers(
    statuses: HealthStatuses,
    reception: Reception,
    ending: asyncio.Event,
    connections: GrpcConnections,
) -> dict[str, Any]:
    """Method -> its handler.

    Args:
        statuses: What is answered.
        reception: Reads the questions.
        ending: Set when the process ends, and watchers with it.
        connections: Watches over the calls.
    """
    kind = health_pb2.HealthCheckResponse
    seats = Seats(
        WATCHERS, "watchers of health", "call Check", idle_s=lambda: OLDEST_S,
        unused_s=lambda: OLDEST_S,
    )  # fmt: skip

    async def asked(messages: AsyncIterator[bytes]) -> str:
        question = parse(health_pb2.HealthCheckRequest, await reception.read(messages, HEALTH_S))
        return str(question.service)

    async def check(messages: AsyncIterator[bytes], _: Any) -> Any:
        name = await asked(messages)
        status = statuses.of(name)
        if status is None:
            known = ", ".join(map(repr, (*READY, *LIVE)))
            raise NotServed(f"no service {shown(name)} is known here", hint=f"ask for {known}")
        return kind(status=status)

    async def tell(messages: AsyncIterator[bytes], context: Any) -> None:
        async for status in statuses.changes(await asked(messages)):
            await connections.write(context, kind(status=status))

    async def watch(messages: AsyncIterator[bytes], context: Any) -> None:
        async with seats.take(context.peer(), shared=True):
            await until_the_end(ending, tell(messages, context))

    return {
        "Check": grpc.stream_unary_rpc_method_handler(
            partial(answered, connections, f"/{HEALTH}/Check", check),
            response_serializer=kind.SerializeToString,
        ),
        "Watch": grpc.stream_stream_rpc_method_handler(
            partial(answered, connections, f"/{HEALTH}/Watch", watch),
            response_serializer=kind.SerializeToString,
        ),
    }
