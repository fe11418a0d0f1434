"""The Open Inference Protocol (version 2) over gRPC: the methods of ``GRPCInferenceService``.

A request is admitted by the metadata of its call: its message is read afterwards.

Source: the protocol's specification by KServe, and Triton's pages on its extensions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import grpc
from starlette.types import Scope

from seatrial.client.inference_messages import INFER, SERVICE, STREAM, methods
from seatrial.deployment import Limits
from seatrial.detect.clock import Clock
from seatrial.engines.places import Abandoned
from seatrial.errors import DeadlineExceeded, NotServed, SeatrialError
from seatrial.serve.bodies_to_come import UNSEEN_GIVES_WAY_S
from seatrial.serve.grpc_connections import GrpcConnections
from seatrial.serve.outcome import Counted, admitted
from seatrial.serve.protocols import model_description
from seatrial.serve.protocols.asked import read_call_asked
from seatrial.serve.protocols.grpc_messages import Reception, parse
from seatrial.serve.protocols.grpc_methods import (
    Context,
    Messages,
    Method,
    answered,
    guarded,
    metadata_of,
    report_call,
)
from seatrial.serve.protocols.grpc_request import infer_request, open_request
from seatrial.serve.protocols.inference_protobuf import read_request, write_answer, written
from seatrial.serve.protocols.inference_stream import InferenceStreams
from seatrial.serve.protocols.model_description import shared_statistics
from seatrial.serve.protocols.off_loop import MOST_BINARY_BYTES, read_off_loop
from seatrial.serve.protocols.served_models import find_model
from seatrial.serve.service import Service
from seatrial.serve.serving import Serving
from seatrial.serve.statistics import DETECTOR
from seatrial.serve.trace_context import current_trace

# A client gives up by its own clock, which began when it sent: its word may be here before ours.
LATE_S = 0.1
QUESTION_BYTES = 64 * 1024  # longest message of the other methods
QUESTION_PLACES = 8  # of them that arrive at once
# Length of a message that nothing is known of yet, and the share of the newest in the mean.
FIRST_BYTES, NEWEST = 128 * 1024, 0.1


class InferenceService:
    """The methods of the service, for a server of `grpc.aio`.

    Args:
        serving: Holds the service, of which each call takes its own.
        limits: Limits of the deployment.
        ending: Set when the process ends: streams then take no more requests.
        connections: Watches over the calls.

    Attributes:
        questions: Reads the messages of the methods that do not infer.
        streams: The streams of inference.
    """

    def __init__(
        self,
        serving: Serving,
        limits: Limits,
        ending: asyncio.Event,
        connections: GrpcConnections,
    ) -> None:
        self._serving = serving
        self._connections = connections
        self._body_s = limits.body_s
        # As many longest bodies as may be in flight; streams keep at most half of the places.
        places = max(2, limits.bytes_in_flight // limits.body_bytes)
        longest = limits.body_bytes + QUESTION_BYTES
        self._bodies = Reception(places, longest, limits.queue, UNSEEN_GIVES_WAY_S)
        self._likely_bytes = float(min(FIRST_BYTES, limits.body_bytes))
        self.questions = Reception(QUESTION_PLACES, QUESTION_BYTES)
        most = min(places // 2, limits.queue)
        self.streams = InferenceStreams(serving, limits, self._bodies, most, ending, connections)

    def handlers(self) -> dict[str, Any]:
        """Method -> its handler, which takes messages that are not parsed and gives such."""
        described: dict[str, Callable[[Service, Any], Mapping[str, Any]]] = {
            "ServerLive": _live,
            "ServerReady": _ready,
            "ModelReady": _model_ready,
            "ServerMetadata": _server,
            "ModelMetadata": _of_model(model_description.metadata),
            "ModelConfig": _of_model(_configuration),
            "RepositoryIndex": _index,
        }
        found: dict[str, Method] = {
            name: partial(self._ask, *methods()[name], describe)
            for name, describe in described.items()
        }
        found["ModelStatistics"] = partial(self._statistics, *methods()["ModelStatistics"])
        found["ModelInfer"] = self._infer
        handlers = {
            name: grpc.stream_unary_rpc_method_handler(self._checked(f"/{SERVICE}/{name}", method))
            for name, method in found.items()
        }
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            self._checked(STREAM, self.streams.serve)
        )
        return handlers

    def _checked(self, path: str, method: Method) -> Method:
        """A method for callers with a token, whose errors are statuses."""
        guard = guarded(self._serving, path, method)
        return partial(answered, self._connections, path, guard)

    async def _ask(
        self,
        asked: Any,
        told: Any,
        describe: Callable[[Service, Any], Mapping[str, Any]],
        messages: Messages,
        context: Context,
    ) -> bytes:
        request = parse(asked, await self.questions.read(messages, self._body_s))
        return written(told, describe(self._serving.live, request))

    async def _statistics(
        self, asked: Any, told: Any, messages: Messages, context: Context
    ) -> bytes:
        request = parse(asked, await self.questions.read(messages, self._body_s))
        named = request.name
        model = find_model(self._serving.live, named, request.version) if named else None
        return written(told, await shared_statistics(self._serving, model))

    async def _infer(self, messages: Messages, context: Context) -> bytes:
        service = self._serving.take()
        scope = {"client": (context.peer(),), "method": "POST", "path": INFER}
        trace = current_trace.get()
        try:
            answer, clock = await self._counted(service, scope, messages, context)
        except BaseException as error:
            report_call(self._serving, scope, trace, error)
            raise

        def sent(_: Context) -> None:
            service.metrics.sent(time.perf_counter() - clock.end)
            report_call(self._serving, scope, trace, 200, len(answer))

        context.add_done_callback(sent)
        return answer

    async def _counted(
        self, service: Service, scope: Scope, messages: Messages, context: Context
    ) -> tuple[bytes, Clock]:
        cancelled = False
        try:
            with Counted(service.metrics, scope, INFER, DETECTOR, service.variant) as outcome:
                try:
                    return await self._answer(service, outcome, messages, context)
                except asyncio.CancelledError as error:  # by gRPC: no one waits for the answer
                    cancelled = True
                    raise self._too_late(context) or Abandoned from error
        except (Abandoned, DeadlineExceeded):
            if cancelled:
                raise asyncio.CancelledError from None
            raise

    @staticmethod
    def _too_late(context: Context) -> SeatrialError | None:
        """The error of a cancelled call whose deadline has passed; None where its client left."""
        left_s = context.time_remaining()
        if left_s is None or left_s > LATE_S:
            return None
        error = DeadlineExceeded("not answered before the deadline of the call")
        error.asked = True
        return error

    async def _answer(
        self, service: Service, outcome: Counted, messages: Messages, context: Context
    ) -> tuple[bytes, Clock]:
        """The way of one request: admission, message, inference, answer."""
        dispatcher = service.dispatcher
        self._connections.make_room()
        asked = read_call_asked(
            context.invocation_metadata(),
            context.time_remaining(),
            dispatcher.limits.longest_deadline_s,
            int(self._likely_bytes),
        )
        with dispatcher.admit(asked) as ticket:
            clock = admitted(ticket.clock)
            reading = self._bodies.read(messages, ticket.body_s)
            data = await dispatcher.bodies.receive(ticket, reading)
            body_bytes = len(data)
            self._likely_bytes += NEWEST * (body_bytes - self._likely_bytes)
            ticket.arrived(body_bytes)
            parsing = partial(read_request, data)
            del data
            message = await read_off_loop(body_bytes, parsing, MOST_BINARY_BYTES)
            del parsing
            request = open_request(service, outcome, message, body_bytes)
            del message  # its raw contents are in the request
            clock.lap("receive")
            answer, headers = await infer_request(
                self._serving, service, outcome, ticket, request, write_answer
            )
        trace = current_trace.get()
        context.set_trailing_metadata(
            (
                *((name.lower(), text) for name, text in headers.items()),
                *metadata_of(trace.headers() if trace else ()),
            )
        )
        return answer, clock


def _live(service: Service, request: Any) -> Mapping[str, Any]:
    return {"live": not service.health.failure}


def _ready(service: Service, request: Any) -> Mapping[str, Any]:
    return {"ready": not service.health.unready()}


def _model_ready(service: Service, request: Any) -> Mapping[str, Any]:
    try:
        find_model(service, request.name, request.version)
    except NotServed:
        return {"ready": False}
    return _ready(service, request)


def _server(service: Service, request: Any) -> Mapping[str, Any]:
    return model_description.server()


def _of_model(
    describe: Callable[[Service, Any], Mapping[str, Any]],
) -> Callable[[Service, Any], Mapping[str, Any]]:
    def described(service: Service, request: Any) -> Mapping[str, Any]:
        model = find_model(service, request.name, request.version)
        return describe(service, model)

    return described


def _configuration(service: Service, model: Any) -> Mapping[str, Any]:
    return {"config": model_description.configuration(service, model)}


def _index(service: Service, request: Any) -> Mapping[str, Any]:
    return {"models": model_description.index(service)}
