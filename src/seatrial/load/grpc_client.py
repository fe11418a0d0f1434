"""One request over gRPC, in the Open Inference Protocol, and the record of it.

The same is timed as over HTTP: from before the send to the last byte of the answer. No deadline is
sent, as none is over HTTP: that of the deployment holds, and a client that gives up cancels.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
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
from seatrial.load.images import EncodedImage
from seatrial.load.samples import CONNECT, DISCONNECT, TIMEOUT, Reply, Sample
from seatrial.load.target import Body

LENGTH = struct.Struct("<I")  # before each element of BYTES
# Connections of an open loop, in which any number of requests may be under way.
OPEN_LOOP_CONNECTIONS = 16
# Status of gRPC -> that of HTTP which says the same to a load.
STATUSES = {
    "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403, "NOT_FOUND": 404, "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 413, "UNIMPLEMENTED": 501, "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504,
}  # fmt: skip
# Words of gRPC itself on a connection that could not be made, and on one that broke.
UNREACHABLE = ("failed to connect", "connections to all backends failing", "dns resolution failed")
BROKEN = (
    "connection reset", "socket closed", "stream removed", "goaway", "end of tcp stream",
    "broken pipe", "transport closed", "transport closing", "connection dropped",
)  # fmt: skip


def bodies(model: str, images: Sequence[EncodedImage]) -> list[Body]:
    """Prepare the request of every image: one element of BYTES, raw."""
    return [Body(_request(model, image.data), {}) for image in images]


def _request(model: str, data: bytes) -> bytes:
    request = ModelInferRequest(model_name=model)
    request.inputs.add(name="image", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(LENGTH.pack(len(data)) + data)
    made: bytes = request.SerializeToString()
    return made


class GrpcSession:
    """Connections that stay open. A request takes the one with the fewest under way.

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
            ("grpc.max_receive_message_length", -1),
            ("grpc.enable_retries", 0),
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
        return Sample(
            start_ns=start_ns,
            end_ns=end_ns or perf_counter_ns(),
            status=status,
            error=error,
            received_bytes=len(payload),
            detections=None if error else _count(payload),
            timing_ms=None if error else _times(trailing),
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
            return None, Reply(status, error="" if status else failure.details() or "no answer")
        return told, Reply(200)

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
    return grpc.ssl_channel_credentials(None if file is None else Path(file).read_bytes())


def _outcome(failure: Any) -> tuple[int, str]:
    """Status and kind of a failure; the status is 0 where the service did not answer."""
    name, said = failure.code().name, (failure.details() or "").lower()
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
    found = [one.shape for one in answer.outputs if one.name == "scores"]
    return int(found[0][0]) if found and len(found[0]) == 1 else None


def _times(trailing: Any) -> dict[str, float] | None:
    """Stage times (milliseconds) of the trailing metadata, in the form of W3C Server Timing."""
    text = next((value for key, value in trailing if key == "server-timing"), "")
    found: dict[str, float] = {}
    for entry in text.split(", "):
        stage, _, value = entry.partition(";dur=")
        try:
            found[stage] = float(value)
        except ValueError:
            continue
    return found or None
