"""The gRPC server of a process: the Open Inference Protocol, health checking and reflection.

It runs on the event loop of the HTTP server, beside it and on a port of its own. Several processes
share the port (SO_REUSEPORT): the kernel deals out their connections.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from seatrial.client.inference_messages import COMPILED, SERVICE, add_files
from seatrial.deployment import Deployment, Limits
from seatrial.errors import Overloaded
from seatrial.serve.grpc_connections import GrpcConnections
from seatrial.serve.grpc_renewal import RenewedServer
from seatrial.serve.log import GoesOn
from seatrial.serve.protocols.grpc_health import (
    HEALTH,
    WATCHERS,
    HealthStatuses,
    health_handlers,
)
from seatrial.serve.protocols.grpc_messages import MOST_WAITING, Reception
from seatrial.serve.protocols.grpc_methods import answered, guarded, until_the_end
from seatrial.serve.protocols.inference_grpc import (
    QUESTION_BYTES,
    QUESTION_PLACES,
    InferenceService,
)
from seatrial.serve.serving import Serving

# Clients ask for the first; the second has the same messages.
REFLECTION = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)
QUESTION_S = 10.0  # that reflection waits for the next question
REFLECTIONS = 16  # calls of reflection at a time
LOOK_S = 0.1  # between two looks at the service's health
# At a time, beside those that may wait for an answer and streams: questions, those of health,
# watchers. Each of the two ends its oldest before there are so many.
OTHER_CALLS = 2 * (QUESTION_PLACES + MOST_WAITING) + WATCHERS + REFLECTIONS + 16
AT_ONCE = 2048  # more that begin together, until those are ended that are too many
HEADER_BYTES = 16 * 1024
CONNECTION_S = 600.0  # after which a client is asked to connect anew; calls go on meanwhile
# Clients may ask every 10 s whether the connection is alive; some of those come a little early.
PING_S = 5.0
GZIP_OFF = 1  # the set of compressions with the first alone: none


@contextlib.asynccontextmanager
async def grpc_server(
    deployment: Deployment, serving: Serving, connections: int
) -> AsyncIterator[int]:
    """Serve gRPC as long as the block lasts, and drain at its end.

    Args:
        deployment: Its address and limits.
        serving: Holds the service.
        connections: Most connections.

    Yields:
        The port.

    Raises:
        PortInUse: Another process listens there.
    """
    limits, address = deployment.limits, deployment.server
    statuses, ending = HealthStatuses(), asyncio.Event()
    watched = GrpcConnections(serving, connections, limits.idle_s, limits.bytes_in_flight)
    methods = InferenceService(serving, limits, ending, watched)
    most_calls = limits.queue + methods.streams.most + OTHER_CALLS
    reception = methods.questions
    # Of its own: who asks for other things and sends nothing cannot hold up the probes.
    health_reception = Reception(QUESTION_PLACES, QUESTION_BYTES)
    handlers = {
        SERVICE: methods.handlers(),
        HEALTH: health_handlers(statuses, health_reception, ending, watched),
        **{
            one: _reflection_handlers(serving, one, reception, ending, watched)
            for one in REFLECTION
        },
    }

    def make() -> Any:
        server = grpc.aio.server(
            options=_options(limits, connections, most_calls),
            maximum_concurrent_rpcs=most_calls + AT_ONCE,
        )
        for name, of_it in handlers.items():
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, of_it),))
        return server

    host = f"[{address.host}]" if ":" in address.host else address.host
    finish_s = CONNECTION_S + limits.body_s + limits.longest_deadline_s
    server = RenewedServer(make, host, address.grpc_port or 0, serving.tls, finish_s)
    watched.listens(server.port)
    statuses.tell(serving.health)
    await server.start()

    async def stop() -> None:
        ending.set()  # calls that would go on for ever
        await server.stop(limits.drain_s)

    async def watch() -> None:
        """Keep the statuses true; take no more calls once balancers know of the end."""
        goes_on, draining = GoesOn("the health of gRPC was not told"), False
        while not draining:
            draining = serving.health.draining
            with goes_on:
                statuses.tell(serving.health)
                await server.look()
            if not draining:
                await asyncio.sleep(LOOK_S)
        notice_s = 0.0 if serving.health.failure else address.drain_notice_s
        await asyncio.sleep(min(notice_s, limits.drain_s))
        await stop()

    tasks = asyncio.ensure_future(watch()), asyncio.ensure_future(watched.keep_looking())
    try:
        yield server.port
    finally:
        for task in tasks:
            task.cancel()
        statuses.end()
        await stop()
        watched.end()


def _options(limits: Limits, connections: int, calls: int) -> list[tuple[str, int]]:
    """Settings of gRPC's transport, by the names of its channel arguments."""

    def milliseconds(seconds: float) -> int:
        return max(1, round(1e3 * seconds))

    return [
        ("grpc.max_receive_message_length", limits.body_bytes + QUESTION_BYTES),
        ("grpc.max_send_message_length", -1),
        # gRPC unpacks a message whole before it looks at the length.
        ("grpc.compression_enabled_algorithms_bitset", GZIP_OFF),
        ("grpc.max_allowed_incoming_connections", connections),
        ("grpc.max_concurrent_streams", calls),
        ("grpc.server_handshake_timeout_ms", milliseconds(limits.header_s)),
        ("grpc.max_metadata_size", HEADER_BYTES),
        ("grpc.absolute_max_metadata_size", HEADER_BYTES),
        ("grpc.max_connection_idle_ms", milliseconds(limits.idle_s)),
        ("grpc.max_connection_age_ms", milliseconds(CONNECTION_S)),
        (
            "grpc.max_connection_age_grace_ms",
            milliseconds(limits.body_s + limits.longest_deadline_s),
        ),
        # A client that vanished is noticed by what it does not answer.
        ("grpc.keepalive_time_ms", milliseconds(limits.idle_s)),
        ("grpc.keepalive_timeout_ms", milliseconds(limits.header_s)),
        ("grpc.http2.min_ping_interval_without_data_ms", milliseconds(PING_S)),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", milliseconds(PING_S)),
        # Without calls gRPC takes one ping in two hours, and ends the connection after the third.
        ("grpc.keepalive_permit_without_calls", 1),
        # What a call may send before its message is read: no more of it on a fast line.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.so_reuseport", 1),
    ]


def _reflection_handlers(
    serving: Serving,
    name: str,
    reception: Reception,
    ending: asyncio.Event,
    connections: GrpcConnections,
) -> dict[str, Any]:
    """Reflection of our services; theirs are in the same pool, which is no one else's."""
    pool = descriptor_pool.DescriptorPool()
    add_files(pool, COMPILED.read_bytes())
    for file in (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        pool.AddSerializedFile(file.serialized_pb)
    about = reflection.aio.ReflectionServicer((SERVICE, HEALTH, *REFLECTION), pool=pool)
    kind = reflection_pb2.ServerReflectionRequest
    path = f"/{name}/ServerReflectionInfo"
    open_calls = 0

    async def answer(messages: AsyncIterator[bytes], context: Any) -> None:
        asked = reception.read_all(messages, kind, QUESTION_S)
        async for told in about.ServerReflectionInfo(asked, context):
            await connections.write(context, told)

    async def tell(messages: AsyncIterator[bytes], context: Any) -> None:
        nonlocal open_calls
        if open_calls >= REFLECTIONS // len(REFLECTION):
            raise Overloaded(f"{open_calls} calls of reflection are open", hint="try again later")
        open_calls += 1
        try:
            await until_the_end(ending, answer(messages, context))
        finally:
            open_calls -= 1

    return {
        "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
            partial(answered, connections, path, guarded(serving, path, tell)),
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
    }
