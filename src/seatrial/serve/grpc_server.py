"""The gRPC server of a process: the Open Inference Protocol, health checking and reflection.

It runs on the event loop of the HTTP server, beside it and on a port of its own. Several processes
share the port (SO_REUSEPORT): the kernel deals out their connections.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from seatrial.client.inference_messages import COMPILED, SERVICE, add_files
from seatrial.deployment import Deployment, Limits
from seatrial.errors import Overloaded, PortInUse, ServiceFailed
from seatrial.serve.grpc_connections import NOTED, GrpcConnections
from seatrial.serve.health import Health
from seatrial.serve.protocols.grpc_messages import MOST_WAITING, Reception, parse
from seatrial.serve.protocols.grpc_methods import answered, guarded
from seatrial.serve.protocols.inference_grpc import (
    QUESTION_BYTES,
    QUESTION_PLACES,
    InferenceService,
)
from seatrial.serve.serving import Serving
from seatrial.serve.tls import Tls

HEALTH = health.SERVICE_NAME
# Clients ask for the first; the second has the same messages.
REFLECTION = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)
# Names that orchestrators ask the health of: all services, ours, and what Kubernetes' pages name.
READY, LIVE = ("", SERVICE, "readiness"), ("liveness",)
HEALTH_S = 2.0  # for a question of health, which comes with the beginning of its call
WATCHERS = 32  # calls that are told of health until they end; anyone may make them
QUESTION_S = 10.0  # that reflection waits for the next question
REFLECTIONS = 16  # calls of reflection at a time
LOOK_S = 0.1  # between two looks at the service's health
COUNT_S = 0.5  # between two counts of the connections
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
    statuses, ending = health.aio.HealthServicer(), asyncio.Event()
    methods = InferenceService(serving, limits, ending)
    most_calls = limits.queue + methods.streams.most + OTHER_CALLS
    counted = GrpcConnections(serving)
    server = grpc.aio.server(
        options=_options(limits, connections, most_calls),
        maximum_concurrent_rpcs=most_calls + AT_ONCE,
    )
    counted.made()
    reception = methods.questions
    # Of its own: who asks for other things and sends nothing cannot hold up the probes.
    health_reception = Reception(QUESTION_PLACES, QUESTION_BYTES)
    for name, handlers in {
        SERVICE: methods.handlers(),
        HEALTH: _health_handlers(statuses, health_reception, ending),
        **{one: _reflection_handlers(serving, one, reception, ending) for one in REFLECTION},
    }.items():
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
    host = f"[{address.host}]" if ":" in address.host else address.host
    try:
        where = f"{host}:{address.grpc_port}"
        if serving.tls is None:
            port: int = server.add_insecure_port(where)
        else:
            port = server.add_secure_port(where, _credentials(serving.tls))
    except RuntimeError as error:
        raise PortInUse(
            f"cannot listen on {host}:{address.grpc_port} for gRPC", hint="choose another port"
        ) from error
    await _tell(statuses, serving.health)
    await server.start()

    async def stop() -> None:
        ending.set()  # calls that would go on for ever
        await server.stop(limits.drain_s)

    async def watch() -> None:
        """Keep the statuses true; take no more calls once balancers know of the end."""
        while not serving.health.draining:
            await _tell(statuses, serving.health)
            await asyncio.sleep(LOOK_S)
        await _tell(statuses, serving.health)
        notice_s = 0.0 if serving.health.failure else address.drain_notice_s
        await asyncio.sleep(min(notice_s, limits.drain_s))
        await stop()

    async def count() -> None:
        while True:
            counted.look()
            await asyncio.sleep(COUNT_S)

    tasks = asyncio.ensure_future(watch()), asyncio.ensure_future(count())
    try:
        yield port
    finally:
        for task in tasks:
            task.cancel()
        await statuses.enter_graceful_shutdown()
        await stop()
        counted.end()


def _credentials(tls: Tls) -> Any:
    """Credentials that each handshake asks for a newer certificate."""

    def configuration() -> Any:
        return grpc.ssl_server_certificate_configuration([tls.pair])

    return grpc.dynamic_ssl_server_credentials(
        configuration(), configuration, require_client_authentication=False
    )


async def _tell(statuses: Any, state: Health) -> None:
    status = health_pb2.HealthCheckResponse.ServingStatus
    for names, wrong in ((READY, state.unready()), (LIVE, state.failure)):
        for name in names:
            await statuses.set(name, status.NOT_SERVING if wrong else status.SERVING)


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
        NOTED,
        ("grpc.server_handshake_timeout_ms", milliseconds(limits.header_s)),
        ("grpc.max_metadata_size", HEADER_BYTES),
        ("grpc.absolute_max_metadata_size", HEADER_BYTES),
        ("grpc.max_connection_idle_ms", milliseconds(limits.idle_s)),
        # Nothing else ends a call whose client takes no byte of its answer, and is there.
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


async def _until(ending: asyncio.Event, streaming: Coroutine[Any, Any, None]) -> None:
    """Answer a call that its client ends, or the end of the process.

    Raises:
        ServiceFailed: The process ends.
    """
    tasks = asyncio.ensure_future(streaming), asyncio.ensure_future(ending.wait())
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0] not in done:
            raise ServiceFailed("the process ends", hint="try again: another one takes its place")
        await tasks[0]
    finally:
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _health_handlers(statuses: Any, reception: Reception, ending: asyncio.Event) -> dict[str, Any]:
    watchers = 0

    async def asked(messages: AsyncIterator[bytes]) -> Any:
        return parse(health_pb2.HealthCheckRequest, await reception.read(messages, HEALTH_S))

    async def check(messages: AsyncIterator[bytes], context: Any) -> Any:
        return await statuses.Check(await asked(messages), context)

    async def watch(messages: AsyncIterator[bytes], context: Any) -> None:
        nonlocal watchers
        if watchers >= WATCHERS:
            raise Overloaded(f"{watchers} calls watch the health already", hint="call Check")
        watchers += 1
        try:
            await _until(ending, statuses.Watch(await asked(messages), context))
        finally:
            watchers -= 1

    written = health_pb2.HealthCheckResponse.SerializeToString
    return {
        "Check": grpc.stream_unary_rpc_method_handler(
            partial(answered, check), response_serializer=written
        ),
        "Watch": grpc.stream_stream_rpc_method_handler(
            partial(answered, watch), response_serializer=written
        ),
    }


def _reflection_handlers(
    serving: Serving, name: str, reception: Reception, ending: asyncio.Event
) -> dict[str, Any]:
    """Reflection of our services; theirs are in the same pool, which is no one else's."""
    pool = descriptor_pool.DescriptorPool()
    add_files(pool, COMPILED.read_bytes())
    for file in (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        pool.AddSerializedFile(file.serialized_pb)
    about = reflection.aio.ReflectionServicer((SERVICE, HEALTH, *REFLECTION), pool=pool)
    kind = reflection_pb2.ServerReflectionRequest
    open_calls = 0

    async def answer(messages: AsyncIterator[bytes], context: Any) -> None:
        asked = reception.read_all(messages, kind, QUESTION_S)
        async for told in about.ServerReflectionInfo(asked, context):
            await context.write(told)

    async def tell(messages: AsyncIterator[bytes], context: Any) -> None:
        nonlocal open_calls
        if open_calls >= REFLECTIONS // len(REFLECTION):
            raise Overloaded(f"{open_calls} calls of reflection are open", hint="try again later")
        open_calls += 1
        try:
            await _until(ending, answer(messages, context))
        finally:
            open_calls -= 1

    return {
        "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
            partial(answered, guarded(serving, f"/{name}/ServerReflectionInfo", tell)),
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
    }
