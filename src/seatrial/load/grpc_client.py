"""One request over gRPC, in the Open Inference Protocol, and the record of it.

The same is timed as over HTTP: from before the send to the last byte of the answer. No deadline is
sent, as none is over HTTP: that of the deployment holds, and a client that gives up cancels.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import perf_counter_ns
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from yarl import URL

from seatrial.client.credentials import NONE, Credentials
from seatrial.client.inference_messages import (
    INFER,
    SERVICE,
    ModelInferRequest,
    ModelInferResponse,
    methods,
)
from seatrial.client.inference_wire import ModelName, element
from seatrial.load.http_client import Impossible, scores_count, server_timing
from seatrial.load.images import EncodedImage
from seatrial.load.inference import InferenceModel, ModelInput
from seatrial.load.samples import (
    ANSWER_BYTES,
    CONNECT,
    DISCONNECT,
    ENCODED,
    NUMBERS,
    TIMEOUT,
    TOO_LONG,
    UNREADABLE,
    Reply,
    Sample,
)
from seatrial.load.target import Body

# Connections of an open loop, in which any number of requests may be under way.
OPEN_LOOP_CONNECTIONS = 16
# Between two tries for a connection, as a closed loop over HTTP waits; gRPC takes no less than 100.
RECONNECT_MS = 100
# Status of gRPC -> that of HTTP which says the same to a load.
STATUSES = {
    "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403, "NOT_FOUND": 404, "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 413, "UNIMPLEMENTED": 501, "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504,
}  # fmt: skip
# Words of gRPC itself on a connection that could not be made, and on one that broke.
UNREACHABLE = ("failed to connect", "connections to all backends failing", "dns resolution failed")
# The same on an answer that it does not read: status, words, kind of failure.
UNREAD = (
    ("INTERNAL", "compression algorithm", ENCODED),
    ("RESOURCE_EXHAUSTED", "received message larger than max", TOO_LONG),
)
BROKEN = (
    "connection reset", "socket closed", "stream removed", "goaway", "end of tcp stream",
    "broken pipe", "transport closed", "transport closing", "connection dropped",
)  # fmt: skip


def bodies(model: ModelName, image_input: ModelInput, images: Sequence[EncodedImage]) -> list[Body]:
    """Prepare the request of every image: one element of BYTES, raw."""
    return [Body(_request(model, image_input, image.data), {}) for image in images]


def _request(model: ModelName, image_input: ModelInput, data: bytes) -> bytes:
    request = ModelInferRequest(model_name=model.name, model_version=model.version)
    shape = [1 for _ in image_input.shape]
    request.inputs.add(name=image_input.name, datatype=image_input.datatype, shape=shape)
    request.raw_input_contents.append(element(data))
    made: bytes = request.SerializeToString()
    return made


class GrpcSession:
    """Connections that stay open. A request takes the one with the fewest under way.

    It answers the questions of `seatrial.load.inference.InferenceServer` as well.

    Args:
        url: ``grpc://HOST:PORT``, or ``grpcs://HOST:PORT`` with TLS.
        connections: Number of connections; 0: `OPEN_LOOP_CONNECTIONS`.
        timeout_s: Longest time of one request.
        credentials: What the service wants to see.
    """

    def __init__(
        self, url: URL, connections: int, timeout_s: float, credentials: Credentials
    ) -> None:
        host = f"[{url.host}]" if url.host and ":" in url.host else url.host
        address = f"{host}:{url.port}"
        options = [
            ("grpc.use_local_subchannel_pool", 1),  # or all would be one connection
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", ANSWER_BYTES),
            # gRPC bounds the length of what is packed, not of what that becomes.
            ("grpc.compression_enabled_algorithms_bitset", 1 << grpc.Compression.NoCompression),
            ("grpc.enable_retries", 0),
            ("grpc.enable_http_proxy", 0),  # HTTP goes through none either
            # Requests fail until the next try for a connection. By default that comes after 1 s,
            # then 1.6 s and so on: the wait would be counted as the service's.
            ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS),
            ("grpc.max_reconnect_backoff_ms", RECONNECT_MS),
        ]
        count = connections or OPEN_LOOP_CONNECTIONS
        if url.scheme == "grpcs":
            tls = _authorities(credentials)
            self._channels = [grpc.aio.secure_channel(address, tls, options) for _ in range(count)]
        else:
            self._channels = [grpc.aio.insecure_channel(address, options) for _ in range(count)]
        # The first arguments and answers are bytes: parsing would be timed with them.
        self._calls = [channel.unary_unary(INFER) for channel in self._channels]
        self._under_way = [0] * count
        self._timeout_s = timeout_s
        self._metadata = tuple((k.lower(), v) for k, v in credentials.headers.items())

    async def send(self, body: Body, due_ns: int | None = None) -> Sample:
        """Send one image and time the answer to its last byte."""
        end_ns, error, payload, status, trailing = 0, "", b"", 0, ()
        index = self._under_way.index(min(self._under_way))
        self._under_way[index] += 1
        start_ns = perf_counter_ns()
        try:
            async with asyncio.timeout(self._timeout_s):
                call = self._calls[index](body.data, metadata=self._metadata)
                payload = await call
                end_ns, status = perf_counter_ns(), 200
                trailing = await call.trailing_metadata()
        except TimeoutError:
            error = TIMEOUT
        except grpc.aio.AioRpcError as failure:
            status, error = _outcome(failure)
        finally:
            self._under_way[index] -= 1
        detections, timing_ms = None, None
        try:
            if not error:
                detections, timing_ms = _count(payload), _times(trailing)
                if detections is None and body.readable:
                    error = UNREADABLE
        except Impossible:
            error = NUMBERS
        return Sample(
            start_ns=start_ns,
            end_ns=end_ns or perf_counter_ns(),
            status=status,
            error=error,
            received_bytes=len(payload),
            detections=detections,
            timing_ms=timing_ms,
            due_ns=due_ns,
        )

    async def ask(self, method: str, **fields: Any) -> tuple[Any, Reply]:
        """Ask the service a question that is not timed.

        Returns:
            The answer, None where there is none; and what happened instead.
        """
        kind, answer = methods()[method]
        call = self._channels[0].unary_unary(
            f"/{SERVICE}/{method}", kind.SerializeToString, answer.FromString
        )
        try:
            told = await call(kind(**fields), timeout=self._timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as failure:
            status, _ = _outcome(failure)
            said = failure.details() or ""
            return None, Reply(status, said.encode(), "" if status else said or "no answer")
        return told, Reply(200)

    async def ready(self) -> Reply:
        """Whether the server takes requests."""
        told, reply = await self.ask("ServerReady")
        return reply if told is None or told.ready else Reply(503)

    async def server(self) -> str:
        """Name and version."""
        told, _ = await self.ask("ServerMetadata")
        return "" if told is None else f"{told.name} {told.version}".strip()

    async def models(self) -> list[str] | Reply:
        """Names of its models."""
        told, reply = await self.ask("RepositoryIndex")
        return reply if told is None else list(dict.fromkeys(str(one.name) for one in told.models))

    async def metadata(self, model: ModelName) -> InferenceModel | Reply:
        """The description of a model."""
        told, reply = await self.ask("ModelMetadata", name=model.name, version=model.version)
        if told is None:
            return reply
        inputs = tuple(ModelInput(one.name, one.datatype, tuple(one.shape)) for one in told.inputs)
        return InferenceModel(told.name, told.platform, inputs)

    def prepare(
        self, model: ModelName, image_input: ModelInput, images: Sequence[EncodedImage]
    ) -> list[Body]:
        """The request of every image."""
        return bodies(model, image_input, images)

    async def refusal(self, body: Body) -> str:
        """Reason that a service gives for refusing a request."""
        try:
            await self._calls[0](body.data, metadata=self._metadata, timeout=self._timeout_s)
        except grpc.aio.AioRpcError as failure:
            return failure.details() or ""
        return ""

    async def close(self) -> None:
        """Close the connections."""
        for channel in self._channels:
            await channel.close()


@asynccontextmanager
async def grpc_session(
    url: URL, connections: int, timeout_s: float, credentials: Credentials = NONE
) -> AsyncIterator[GrpcSession]:
    """A client of a service; see `GrpcSession`."""
    session = GrpcSession(url, connections, timeout_s, credentials)
    try:
        yield session
    finally:
        await session.close()


def _authorities(credentials: Credentials) -> Any:
    credentials.tls()  # says what is wrong with the file
    file = credentials.ca_file
    return grpc.ssl_channel_credentials(None if file is None else credentials.authorities())


def _outcome(failure: Any) -> tuple[int, str]:
    """Status and kind of a failure; the status is 0 where the service did not answer."""
    name, said = failure.code().name, (failure.details() or "").lower()
    for code, words, kind in UNREAD:
        if name == code and words in said:
            return 0, kind
    if name == "UNAVAILABLE":  # the service's own word, or gRPC's of a connection
        if said.startswith(UNREACHABLE):
            return 0, CONNECT
        if any(word in said for word in BROKEN):
            return 0, DISCONNECT
    return STATUSES.get(name, 500), f"grpc-{name.lower().replace('_', '-')}"


def _count(payload: bytes) -> int | None:
    try:
        answer = ModelInferResponse.FromString(payload)
    except DecodeError:
        return None
    return scores_count((one.name, one.shape) for one in answer.outputs)


def _times(trailing: Any) -> dict[str, float] | None:
    """Stage times (milliseconds) of the trailing metadata."""
    return server_timing(next((value for key, value in trailing if key == "server-timing"), ""))
