"""The Open Inference Protocol (version 2) over HTTP, with Triton's extensions.

Source: the protocol's specification by KServe, and Triton's pages on its extensions: binary tensor
data, model configuration, statistics, schedule policy, parameters.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from seatrial.errors import InvalidInput, SeatrialError
from seatrial.serve.asked import watched
from seatrial.serve.outcome import admitted, answer_headers, counted
from seatrial.serve.protocols import model_description
from seatrial.serve.protocols.asked import read_asked
from seatrial.serve.protocols.body import read_unpacked_body
from seatrial.serve.protocols.error_answers import PROTOCOL, error_answer, plain_answer
from seatrial.serve.protocols.inference import TensorAnswer, infer
from seatrial.serve.protocols.inference_forms import ModelReady, ServerLive, ServerReady
from seatrial.serve.protocols.inference_json import read_call, read_whole, write_answer
from seatrial.serve.protocols.model_description import shared_statistics
from seatrial.serve.protocols.off_loop import MOST_TEXT_BYTES, read_off_loop
from seatrial.serve.protocols.served_models import ProtocolModel, find_model
from seatrial.serve.service import Service
from seatrial.serve.serving import Serving
from seatrial.serve.statistics import GRAPH

INFER = "/v2/models/infer"  # label in the metrics, whatever the model's name
JSON_BYTES = "Inference-Header-Content-Length"
MODEL = "/v2/models/{model}"
VERSIONED = "/v2/models/{model}/versions/{version}"


def routes() -> list[Route]:
    """The routes, in the order in which they are tried."""
    of_model: dict[str, Callable[[Service, ProtocolModel], Any]] = {
        "": model_description.metadata,
        "/config": model_description.configuration,
    }
    return [
        Route(PROTOCOL, _told(lambda service: model_description.server()), methods=["GET"]),
        Route("/v2/health/live", _live, methods=["GET"]),
        Route("/v2/health/ready", _ready, methods=["GET"]),
        *(Route(path + "/ready", _model_ready, methods=["GET"]) for path in (MODEL, VERSIONED)),
        Route("/v2/models/stats", _statistics, methods=["GET"]),
        Route("/v2/repository/index", _told(model_description.index), methods=["POST"]),
        *(
            Route(path + end, _told_of_model(describe), methods=["GET"])
            for end, describe in of_model.items()
            for path in (MODEL, VERSIONED)
        ),
        *(Route(path + "/stats", _statistics, methods=["GET"]) for path in (MODEL, VERSIONED)),
        *(Route(path + "/infer", _infer, methods=["POST"]) for path in (MODEL, VERSIONED)),
    ]


def _error_answer(error: SeatrialError) -> Response:
    return error_answer(PROTOCOL, error)


def _told(describe: Callable[[Service], Any]) -> Callable[[Request], Awaitable[Response]]:
    """A handler that answers with JSON."""

    async def handler(request: Request) -> Response:
        return _json(describe(request.app.state.serving.live))

    return handler


def _told_of_model(
    describe: Callable[[Service, ProtocolModel], Any],
) -> Callable[[Request], Awaitable[Response]]:
    async def handler(request: Request) -> Response:
        service: Service = request.app.state.serving.live
        try:
            return _json(describe(service, _model(request, service)))
        except SeatrialError as error:
            return _error_answer(error)

    return handler


async def _statistics(request: Request) -> Response:
    serving: Serving = request.app.state.serving
    try:
        model = _model(request, serving.live) if request.path_params else None
        return _json(await shared_statistics(serving, model))
    except SeatrialError as error:
        return _error_answer(error)


def _json(told: Any) -> Response:
    return Response(msgspec.json.encode(told), media_type="application/json")


def _model(request: Request, service: Service) -> ProtocolModel:
    given = request.path_params
    return find_model(service, given["model"], given.get("version", ""))


def _state(failed: str, told: Any) -> Response:
    if failed:
        return plain_answer(PROTOCOL, 503, "", failed)
    return Response(msgspec.json.encode(told), media_type="application/json")


async def _live(request: Request) -> Response:
    return _state(request.app.state.serving.health.failure, ServerLive())


async def _ready(request: Request) -> Response:
    return _state(request.app.state.serving.health.unready(), ServerReady())


async def _model_ready(request: Request) -> Response:
    service: Service = request.app.state.serving.live
    try:
        model = _model(request, service)
    except SeatrialError as error:
        return _error_answer(error)
    return _state(service.health.unready(), ModelReady(model.name))


async def _infer(request: Request) -> Response:
    serving: Serving = request.app.state.serving
    service = serving.take()
    try:
        model = _model(request, service)
        if model.kind == GRAPH and service is not serving.live:
            # Tensors fit one graph; another artifact may have others.
            service = serving.live
            model = _model(request, service)
    except SeatrialError as error:  # of no model
        service.metrics.count(INFER, error.http_status)
        return _error_answer(error)
    answering = _answer(request, service, model)
    return await counted(
        service.metrics,
        request.scope,
        INFER,
        model.kind,
        answering,
        _error_answer,
        service.variant,
    )


async def _answer(request: Request, service: Service, model: ProtocolModel) -> Response:
    """The way of one request: admission, body, inference, answer."""
    dispatcher = service.dispatcher
    limits = dispatcher.limits
    # Before a byte of the body is asked for.
    asked = read_asked(request.scope["headers"], limits.longest_deadline_s)
    json_bytes = _json_bytes(request)
    free_bytes = _free_bytes(model, json_bytes)
    if asked.most_bytes is not None:
        most_bytes = int(min(max(asked.most_bytes, free_bytes), limits.body_bytes))
        asked = msgspec.structs.replace(asked, most_bytes=most_bytes)
    with dispatcher.admit(asked) as ticket:
        admitted(ticket.clock)
        ticket.arrives(0)
        reading = read_unpacked_body(
            request,
            limits.body_bytes,
            ticket.body_s,
            on_arrival=ticket.arrives,
            free_bytes=free_bytes,
        )
        body = await dispatcher.bodies.receive(ticket, reading)
        ticket.measured(asked, len(body))
        if json_bytes == 0:
            call, form = read_whole(body, model)
        else:
            length = len(body) if json_bytes is None else json_bytes
            reading_json = partial(read_call, body, json_bytes, model.name)
            call, form = await read_off_loop(length, reading_json)
        del body
        ticket.clock.lap("receive")

        def encode(answer: TensorAnswer) -> tuple[bytes, int | None]:
            return write_answer(answer, form)

        with watched(request.receive) as gone:
            (written, length), timing_ms = await infer(service, ticket, model, call, encode, gone)
    headers = answer_headers(service, timing_ms, ticket)
    if length is None:
        return Response(written, media_type="application/json", headers=headers)
    headers[JSON_BYTES] = str(length)
    return Response(written, media_type="application/octet-stream", headers=headers)


def _free_bytes(model: ProtocolModel, json_bytes: int | None) -> float:
    """Length that a body may have unpacked, however short it is packed, bytes.

    Tensors may be all zeros: as binary data they cost no more than others. A number in JSON costs
    as much time as a hundred of them.
    """
    if model.kind != GRAPH:
        return 0
    if json_bytes is None or json_bytes > MOST_TEXT_BYTES:
        return MOST_TEXT_BYTES
    return json_bytes + model.data_bytes


def _json_bytes(request: Request) -> int | None:
    text = request.headers.get(JSON_BYTES)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise InvalidInput(f"{JSON_BYTES}: {text[:40]!r} is not a number of bytes")
    return int(text)
