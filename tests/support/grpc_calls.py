"""Calls of the Open Inference Protocol over gRPC, by grpcio's own client."""

from __future__ import annotations

import contextlib
import queue
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from open_inference import DTYPES, elements, split
from seatrial.client.inference_messages import (
    SERVICE,
    STREAM,
    ModelInferRequest,
    ModelStreamInferResponse,
    methods,
)

PATIENCE_S = 60.0
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# Calls without a client library. Empty messages are not sent, so each has a field.
LIVE, WATCH = f"/{SERVICE}/ServerLive", "/grpc.health.v1.Health/Watch"
LIVE_REQUEST = ModelInferRequest(id="x").SerializeToString()  # unknown fields are passed over
WATCH_REQUEST = health_pb2.HealthCheckRequest(service=SERVICE).SerializeToString()


class Service:
    """The methods of a service, each as a callable: ``service.ServerLive()``."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel

    def __getattr__(self, name: str) -> Any:
        kind, answer = methods()[name]
        call = self.channel.unary_unary(
            f"/{SERVICE}/{name}",
            request_serializer=lambda one: (
                one if isinstance(one, bytes) else one.SerializeToString()
            ),
            response_deserializer=answer.FromString,
        )

        def ask(request: Any = None, *, whole: bool = False, **fields: Any) -> Any:
            options = {
                key: fields.pop(key)
                for key in ("metadata", "timeout", "compression", "wait_for_ready")
                if key in fields
            }
            sent = kind(**fields) if request is None else request
            options.setdefault("timeout", PATIENCE_S)
            return (call.with_call if whole else call)(sent, **options)

        ask.future = call.future  # type: ignore[attr-defined]
        return ask


@contextlib.contextmanager
def calls(port: int, **options: Any) -> Iterator[Service]:
    settings = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    settings += [(f"grpc.{key}", value) for key, value in options.items()]
    # A channel of its own: gRPC shares connections between channels with the same settings.
    settings.append(("grpc.use_local_subchannel_pool", 1))
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=settings) as channel:
        yield Service(channel)


def health(service: Service, name: str = "") -> int:
    """The status that health checking gives for a name."""
    stub = health_pb2_grpc.HealthStub(service.channel)
    status: int = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=20).status
    return status


def stream(service: Service, requests: Iterable[Any], **options: Any) -> Any:
    """A stream of inference; iterating it gives its answers."""
    call = service.channel.stream_stream(
        STREAM,
        request_serializer=lambda one: one if isinstance(one, bytes) else one.SerializeToString(),
        response_deserializer=ModelStreamInferResponse.FromString,
    )
    options.setdefault("timeout", PATIENCE_S)
    return call(iter(requests), **options)


class Requests:
    """Requests of a stream that a test sends one by one."""

    def __init__(self, *first: Any) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for one in first:
            self.send(one)

    def send(self, request: Any) -> None:
        self._queue.put(request)

    def end(self) -> None:
        self._queue.put(None)

    def __iter__(self) -> Iterator[Any]:
        while (request := self._queue.get(timeout=2 * PATIENCE_S)) is not None:
            yield request


def images_request(*files: bytes, raw: bool = True, **more: Any) -> Any:
    parameters = more.pop("parameters", {})
    request = ModelInferRequest(model_name="tiny", **more)
    tensor = request.inputs.add(name="image", datatype="BYTES", shape=[len(files)])
    if raw:
        request.raw_input_contents.append(elements(*files))
    else:
        tensor.contents.bytes_contents.extend(files)
    for name, value in parameters.items():
        set_parameter(request.parameters[name], value)
    return request


def infer(service: Service, *files: bytes, **more: Any) -> Any:
    """The answer to a request of images; see `images_request`."""
    return service.ModelInfer(images_request(*files, **more))


def graph_request(canvas: np.ndarray[Any, Any], raw: bool = True) -> Any:
    """A request for the graph alone."""
    request = ModelInferRequest(model_name="tiny.graph")
    tensor = request.inputs.add(name="image", datatype="UINT8", shape=canvas.shape)
    if raw:
        request.raw_input_contents.append(canvas.tobytes())
    else:
        tensor.contents.uint_contents.extend(canvas.ravel().tolist())
    return request


def set_parameter(parameter: Any, value: Any) -> None:
    kinds = {bool: "bool", int: "int64", float: "double", str: "string"}
    setattr(parameter, f"{kinds[type(value)]}_param", value)


def tensors(answer: Any) -> dict[str, Any]:
    """Outputs by name, as arrays or lists of bytes, whether they are raw or not."""
    found: dict[str, Any] = {}
    for index, one in enumerate(answer.outputs):
        if answer.raw_output_contents:
            data = answer.raw_output_contents[index]
            value = (
                split(data)
                if one.datatype == "BYTES"
                else np.frombuffer(data, DTYPES[one.datatype])
            )
        else:
            ((_, value),) = one.contents.ListFields() or ((None, []),)
            value = (
                list(value) if one.datatype == "BYTES" else np.array(value, DTYPES[one.datatype])
            )
        found[one.name] = value if one.datatype == "BYTES" else value.reshape(one.shape)
        assert list(one.shape) == list(np.shape(found[one.name]))
    return found


def failure(call: Any, *words: Any, **options: Any) -> tuple[str, str, dict[str, str]]:
    """Name of the status, details and trailing metadata of a call that fails."""
    try:
        call(*words, **options)
    except grpc.RpcError as error:
        metadata = dict(tuple(error.trailing_metadata() or ()))
        return error.code().name, error.details() or "", metadata
    raise AssertionError("the call did not fail")


def varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])


def field(number: int, data: bytes) -> bytes:
    """A field of a message that holds bytes, on the wire."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)
