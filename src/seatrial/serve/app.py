"""The HTTP interface, as an ASGI application that any server can run.

POST /detect       an image -> boxes as JSON
POST /detect.jpg   an image -> the image with the boxes drawn
GET  /model        what is being served
GET  /             the list of routes
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from seatrial.deployment import Thresholds
from seatrial.detect.answer import answer
from seatrial.detect.detector import Detected
from seatrial.detect.draw import annotated_jpeg
from seatrial.engines.lanes import Abandoned
from seatrial.errors import SeatrialError
from seatrial.serve.admission import Dispatcher
from seatrial.serve.connections import StopReading
from seatrial.serve.metrics import RequestMetrics
from seatrial.serve.protocols.image_body import read_image
from seatrial.serve.protocols.thresholds import query_options

CLIENT_CLOSED_REQUEST = 499  # nginx's code: no client reads it, the metrics show it
OTHER_ROUTE = "other"  # label of requests for unknown paths
# Makes the body of an answer from a result and the times until then.
Encode = Callable[[Detected, Mapping[str, float]], bytes]


class Service(msgspec.Struct, frozen=True):
    """The parts that a running process serves with.

    Attributes:
        dispatcher: Takes requests.
        detection: Thresholds where a request names none.
        description: The JSON of ``GET /model``.
        metrics: Where requests are counted.
    """

    dispatcher: Dispatcher
    detection: Thresholds
    description: dict[str, Any]
    metrics: RequestMetrics


def create_app(
    open_service: Callable[[], Service],
    *,
    probes: Sequence[Route] = (),
    around: Callable[[], AbstractAsyncContextManager[Any]] = contextlib.nullcontext,
) -> Starlette:
    """The application.

    Args:
        open_service: Called at start-up, before the first request; compiles and warms up.
        probes: Routes of the runtime beside our own, such as ``/readyz``.
        around: Start-up and shutdown of the runtime; ours run inside.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with around():
            app.state.service = open_service()
            # What start-up made stays until the end: no collection needs to walk it again.
            gc.collect()
            gc.freeze()
            try:
                yield
            finally:
                app.state.service.dispatcher.close()

    routes = [
        Route("/detect", _detect_json, methods=["POST"]),
        Route("/detect.jpg", _detect_jpeg, methods=["POST"]),
        Route("/model", _model, methods=["GET"]),
        *probes,
    ]
    listed = "".join(
        f"{'POST' if 'POST' in (route.methods or ()) else 'GET':<5}{route.path}\n"
        for route in routes
    )

    async def index(request: Request) -> Response:
        return Response(listed, media_type="text/plain")

    app = Starlette(
        routes=[*routes, Route("/", index, methods=["GET"])],
        lifespan=lifespan,
        middleware=[Middleware(StopReading)],
        exception_handlers={HTTPException: _http_error, Exception: _internal_error},
    )
    app.router.redirect_slashes = False  # it would redirect to whatever host the client names
    return app


async def _detect_json(request: Request) -> Response:
    service: Service = request.app.state.service
    labels = service.dispatcher.detector.artifact.manifest.labels

    def encode(result: Detected, timing_ms: Mapping[str, float]) -> bytes:
        return msgspec.json.encode(answer(result, labels, timing_ms))

    return await _detect(request, service, encode, "application/json")


async def _detect_jpeg(request: Request) -> Response:
    service: Service = request.app.state.service
    labels = service.dispatcher.detector.artifact.manifest.labels

    def encode(result: Detected, timing_ms: Mapping[str, float]) -> bytes:
        return annotated_jpeg(result.image, result.detections, labels)

    return await _detect(request, service, encode, "image/jpeg")


async def _detect(request: Request, service: Service, encode: Encode, media_type: str) -> Response:
    """The way of one request: admission, body, detection, answer."""
    dispatcher, metrics = service.dispatcher, service.metrics
    route = request.scope["path"]
    try:
        # Before a byte of the body is asked for.
        with dispatcher.admit() as ticket:
            clock = ticket.clock
            options = query_options(request.query_params.multi_items(), service.detection)
            data = await read_image(request, dispatcher.limits.body_bytes, ticket)
            clock.lap("receive")

            def finish(result: Detected) -> tuple[bytes, dict[str, float]]:
                body = encode(result, clock.timing_ms())
                clock.lap("encode")
                timing_ms = clock.timing_ms()
                metrics.observe(timing_ms, len(result.detections), result.lane_threads)
                return body, timing_ms

            body, timing_ms = await dispatcher.run(ticket, data, options, finish, request.receive)
    except SeatrialError as error:
        metrics.count(route, error.http_status)
        return error_response(error)
    except (Abandoned, ClientDisconnect):
        metrics.count(route, CLIENT_CLOSED_REQUEST)
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    except Exception:
        metrics.count(route, 500)
        raise
    metrics.count(route, 200)
    return Response(
        body, media_type=media_type, headers={"Server-Timing": _server_timing(timing_ms)}
    )


async def _model(request: Request) -> Response:
    service: Service = request.app.state.service
    return Response(msgspec.json.encode(service.description), media_type="application/json")


def _server_timing(timing_ms: Mapping[str, float]) -> str:
    """The times in the form of W3C Server Timing, which browsers' developer tools show."""
    return ", ".join(f"{stage};dur={value:.3f}" for stage, value in timing_ms.items())


def error_response(error: SeatrialError) -> Response:
    """An error as JSON, with the status of its kind."""
    # A 408 says that the server ends the connection (RFC 9110, 15.5.9).
    headers = {503: {"Retry-After": "1"}, 408: {"Connection": "close"}}.get(error.http_status, {})
    return _error(error.http_status, error.code, error.message, error.hint, headers)


async def _http_error(request: Request, error: Any) -> Response:
    # A path that is tried leaves no series behind; a wrong method has a path of ours.
    route = request.scope["path"] if error.status_code == 405 else OTHER_ROUTE
    request.app.state.service.metrics.count(route, error.status_code)
    return _error(
        error.status_code, f"Http{error.status_code}", error.detail, "", error.headers or {}
    )


async def _internal_error(request: Request, error: Exception) -> Response:
    return _error(500, "InternalError", "the server failed", "see the server's log", {})


def _error(status: int, code: str, message: str, hint: str, headers: Mapping[str, str]) -> Response:
    body = {"error": {"code": code, "message": message, "hint": hint}}
    return Response(msgspec.json.encode(body), status, dict(headers), media_type="application/json")
