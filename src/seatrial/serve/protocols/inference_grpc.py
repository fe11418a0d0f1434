"""The Open Inference Protocol (version 2) over gRPC: the methods of ``GRPCInferenceService``.

A request is admitted by the metadata of its call: its message is read afterwards.

Source: the protocol's specification by KServe, and Triton's pages on its extensions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

import grpc

from seatrial.client.inference_messages import INFER, SERVICE, methods
from seatrial.deployment import Limits
from seatrial.engines.places import Abandoned
from seatrial.errors import (
    DeadlineExceeded,
    NotServed,
    Overloaded,
    SeatrialError,
    shortened,
)
from seatrial.serve.bodies_to_come import UNSEEN_GIVES_WAY_S
from seatrial.serve.outcome import Counted, admitted, answer_headers, error_headers
from seatrial.serve.protocols import model_description
from seatrial.serve.protocols.asked import read_call_asked
from seatrial.serve.protocols.error_answers import OTHER_ROUTE
from seatrial.serve.protocols.grpc_messages import Reception, parse
from seatrial.serve.protocols.inference import Call, TensorAnswer, infer
from seatrial.serve.protocols.inference_protobuf import (
    MessageForm,
    read_call,
    read_request,
    write_answer,
    written,
)
from seatrial.serve.protocols.served_models import ProtocolModel, find_model
from seatrial.serve.service import Service
from seatrial.serve.serving import Serving
from seatrial.serve.statistics import DETECTOR, GRAPH
from seatrial.serve.tickets import Admitted
from seatrial.serve.trace_context import Trace, current_trace, traced
from seatrial.serve.variants import LIVE

UNREAD_WAIT_S = 60.0  # the connections of those who do not read end after a while
# A client gives up by its own clock, which began when it sent: its word may be here before ours.
LATE_S = 0.1
QUESTION_BYTES = 64 * 1024  # longest message of the other methods
QUESTION_PLACES = 8  # of them that arrive at once
# Length of a message that nothing is known of yet, and the share of the newest in the mean.
FIRST_BYTES, NEWEST = 128 * 1024, 0.1
# Characters of a message of an error: clients take 8 KiB of metadata, and escape what is not ASCII.
MOST_DETAILS = 1000
Messages = AsyncIterator[bytes]
Context = Any  # grpc.aio.ServicerContext
Method = Callable[[Messages, Context], Awaitable[Any]]


class InferenceService:
    """The methods of the service, for a server of `grpc.aio`.

    Args:
        serving: Holds the service, of which each call takes its own.
        limits: Limits of the deployment.
    """

    def __init__(self, serving: Serving, limits: Limits) -> None:
        self._serving = serving
        self._body_s = limits.body_s
        # As many longest bodies as may be in flight.
        places = max(1, limits.bytes_in_flight // limits.body_bytes)
        longest = limits.body_bytes + QUESTION_BYTES
        self._bodies = Reception(places, longest, limits.queue, UNSEEN_GIVES_WAY_S)
        self._unread_bytes, self._most_unread_bytes = 0, limits.bytes_in_flight
        self._likely_bytes = float(min(FIRST_BYTES, limits.body_bytes))
        self.questions = Reception(QUESTION_PLACES, QUESTION_BYTES)

    def handlers(self) -> dict[str, Any]:
        """Method -> its handler, which takes messages that are not parsed and gives such."""
        questions: dict[str, Callable[[Service, Any], Mapping[str, Any]]] = {
            "ServerLive": _live,
            "ServerReady": _ready,
            "ModelReady": _model_ready,
            "ServerMetadata": _server,
            "ModelMetadata": _of_model(model_description.metadata),
            "ModelConfig": _of_model(_configuration),
            "ModelStatistics": _statistics,
            "RepositoryIndex": _index,
        }
        found: dict[str, Method] = {
            name: partial(self._ask, *methods()[name], describe)
            for name, describe in questions.items()
        }
        found["ModelInfer"] = self._infer
        return {
            name: grpc.stream_unary_rpc_method_handler(
                partial(answered, guarded(self._serving, f"/{SERVICE}/{name}", method))
            )
            for name, method in found.items()
        }

    async def _ask(
        self,
        asked: Any,
        told: Any,
        describe: Callable[[Service, Any], Mapping[str, Any]],
        messages: Messages,
        context: Context,
    ) -> bytes:
        request = parse(asked, await self.questions.read(messages, self._body_s))
        # Statistics read the files of other processes.
        fields = await asyncio.to_thread(describe, self._serving.live, request)
        return written(told, fields)

    async def _infer(self, messages: Messages, context: Context) -> bytes:
        service = self._serving.take()
        scope = {"client": (context.peer(),), "method": "POST", "path": INFER}
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
        return DeadlineExceeded("not answered before the deadline of the call")

    async def _answer(
        self, service: Service, outcome: Counted, messages: Messages, context: Context
    ) -> bytes:
        """The way of one request: admission, message, inference, answer."""
        dispatcher = service.dispatcher
        self._check_unread()
        asked = read_call_asked(
            context.invocation_metadata(),
            context.time_remaining(),
            dispatcher.limits.longest_deadline_s,
            int(self._likely_bytes),
        )
        with dispatcher.admit(asked) as ticket:
            admitted(ticket.clock)
            reading = self._bodies.read(messages, ticket.body_s)
            message = await dispatcher.bodies.receive(ticket, reading)
            body_bytes = len(message)
            self._likely_bytes += NEWEST * (body_bytes - self._likely_bytes)
            ticket.arrived(body_bytes)
            request = read_request(message)
            del message
            outcome.model = None
            model = find_model(service, request.model_name, request.model_version)
            outcome.model = model.kind
            call, form = read_call(request)
            del request  # its raw contents are in the call
            ticket.clock.lap("receive")
            if model.kind != GRAPH or service.variant == LIVE:
                return await self._inferred(service, ticket, model, call, form, context)
        # Tensors fit one graph; another artifact may have others. Only the message names the model.
        live = self._serving.live
        outcome.variant = LIVE
        model = find_model(live, model.name)
        with live.dispatcher.admit_from(ticket, body_bytes) as own:
            return await self._inferred(live, own, model, call, form, context)

    def _check_unread(self) -> None:
        """Refuse a call where the memory for answers that nobody takes is full.

        gRPC keeps an answer until its client takes it, and offers no way to give one up.
        """
        if self._unread_bytes >= self._most_unread_bytes:
            raise Overloaded(
                f"answers that their clients do not read take {self._unread_bytes} bytes",
                hint="try again in a minute",
                reason="bytes",
                wait_s=UNREAD_WAIT_S,
            )

    def _keep(self, answer: bytes, context: Context) -> bytes:
        """Count an answer until it was taken."""

        def taken(context: Context) -> None:
            self._unread_bytes -= len(answer)

        self._unread_bytes += len(answer)
        context.add_done_callback(taken)
        return answer

    async def _inferred(
        self,
        service: Service,
        ticket: Admitted,
        model: ProtocolModel,
        call: Call,
        form: MessageForm,
        context: Context,
    ) -> bytes:

        def encode(answer: TensorAnswer) -> bytes:
            return write_answer(answer, form)

        # A client that leaves cancels this task.
        gone = asyncio.get_running_loop().create_future()
        data, timing_ms = await infer(service, ticket, model, call, encode, gone)
        headers = answer_headers(service, timing_ms, ticket).items()
        trace = current_trace.get()
        context.set_trailing_metadata(
            (
                *((name.lower(), text) for name, text in headers),
                *_metadata(trace.headers() if trace else ()),
            )
        )
        return self._keep(data, context)


def _headers(context: Context) -> list[tuple[bytes, bytes]]:
    """The metadata of a call as headers over HTTP are."""
    return [
        (name.encode(), text.encode() if isinstance(text, str) else text)
        for name, text in context.invocation_metadata()
    ]


def _metadata(headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    return tuple((name.decode(), text.decode()) for name, text in headers)


def guarded(serving: Serving, path: str, method: Method) -> Method:
    """A method that only callers with a token reach, where the service has tokens.

    Args:
        serving: Holds the tokens.
        path: Path of the method.
        method: Answers.
    """

    async def checked(messages: Messages, context: Context) -> Any:
        if serving.tokens.required:
            try:
                serving.tokens.check(path, _headers(context))
            except SeatrialError as error:
                serving.metrics.count(OTHER_ROUTE, error.http_status)
                raise
        return await method(messages, context)

    return checked


async def answered(method: Method, messages: Messages, context: Context) -> Any:
    """The answer of a method; an error becomes the status of its kind.

    Args:
        method: Answers.
        messages: The messages of the call, not parsed.
        context: The call.
    """
    trace = Trace(_headers(context))
    try:
        with traced(trace):
            return await method(messages, context)
    except SeatrialError as error:
        text = f"{error.message}; {error.hint}" if error.hint else error.message
        failed = (grpc.StatusCode[error.grpc_status], shortened(text, MOST_DETAILS))
        metadata = error_metadata(error)
    except grpc.aio.BaseError:  # a method of a library ended the call
        raise
    except Exception:
        logging.getLogger(__name__).exception("a gRPC call failed")
        failed = (grpc.StatusCode.INTERNAL, "the server failed; see the server's log")
        metadata = ()
    try:
        await context.abort(*failed, trailing_metadata=(*metadata, *_metadata(trace.headers())))
    except grpc.aio.InternalError:  # gRPC has ended the call: its message was too long
        raise asyncio.CancelledError from None


def error_metadata(error: SeatrialError) -> tuple[tuple[str, str], ...]:
    """Trailing metadata of an error: its name, and when to try again, for clients that do so."""
    found = {"x-error-code": error.code}
    if isinstance(error, Overloaded):
        headers = {name.lower(): value for name, value in error_headers(error).items()}
        # The key that retries of gRPC's own obey (gRFC A6).
        pushback = {"grpc-retry-pushback-ms": f"{headers['retry-after']}000"}
        found |= {"x-refused-for": error.reason, **headers, **pushback}
    return tuple(found.items())


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


def _statistics(service: Service, request: Any) -> Mapping[str, Any]:
    if not request.name:
        return model_description.all_statistics(service)
    return _of_model(model_description.statistics)(service, request)


def _index(service: Service, request: Any) -> Mapping[str, Any]:
    return {"models": model_description.index(service)}
