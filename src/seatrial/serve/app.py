"""The HTTP interface, as an ASGI application that any server can run.

POST /detect       a picture -> boxes as JSON
POST /detect.jpg   a picture -> the picture with the boxes drawn
GET  /model        what is being served
GET  /             this list
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from seatrial.deployment import Thresholds
from seatrial.detect.answer import answer
from seatrial.detect.detector import Detected
from seatrial.detect.draw import annotated_jpeg
from seatrial.errors import SeatrialError
from seatrial.serve.admission import Disconnected, Dispatcher
from seatrial.serve.metrics import RequestMetrics
from seatrial.serve.protocols.image_body import read_image
from seatrial.serve.protocols.thresholds import query_options

CLIENT_CLOSED_REQUEST = 499  # nginx's code; nobody reads the response, the log and metrics do


class Service(msgspec.Struct, frozen=True):
    """What a running process serves from.

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


def create_app(open_service: Callable[[], Service]) -> Starlette:
    """The application.

    Args:
        open_service: Called at start-up, before the first request; compiles and warms up.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.service = open_service()
        # What start-up made stays until the end: no collection needs to walk it again.
        gc.collect()
        gc.freeze()
        try:
            yield
        finally:
            app.state.service.dispatcher.close()

    return Starlette(
        routes=[
            Route(path, handler, methods=[method]) for path, (method, handler) in ROUTES.items()
        ],
        lifespan=lifespan,
        exception_handlers={HTTPException: _http_error},
    )


async def _detect_json(request: Request) -> Response:
    service: Service = request.app.state.service
    labels = service.dispatcher.detector.artifact.manifest.labels

    def finish(result: Detected, timing_ms: Mapping[str, float]) -> bytes:
        return msgspec.json.encode(answer(result, labels, timing_ms))

    return await _detect(request, service, finish, "application/json")


async def _detect_jpeg(request: Request) -> Response:
    service: Service = request.app.state.service
    labels = service.dispatcher.detector.artifact.manifest.labels

    def finish(result: Detected, timing_ms: Mapping[str, float]) -> bytes:
        return annotated_jpeg(result.image, result.detections, labels)

    return await _detect(request, service, finish, "image/jpeg")


async def _detect(
    request: Request,
    service: Service,
    encode: Callable[[Detected, Mapping[str, float]], bytes],
    media_type: str,
) -> Response:
    start = time.perf_counter()
    route = request.url.path
    try:
        options = query_options(request.query_params.multi_items(), service.detection)
        limits = service.dispatcher.limits
        data = await read_image(request, limits.body_bytes, limits.deadline_s)
        received = time.perf_counter()

        def finish(result: Detected) -> tuple[bytes, dict[str, float]]:
            # The pool's own queue is waiting too: all that is not work or receiving.
            work_ms = sum(result.stages_ms.values())
            total_ms = 1e3 * (time.perf_counter() - start)
            receive_ms = 1e3 * (received - start)
            pool_ms = max(0.0, total_ms - receive_ms - work_ms)
            stages = dict(result.stages_ms, queue=result.stages_ms["queue"] + pool_ms)
            timing_ms = {"receive": receive_ms, **stages, "total": total_ms}
            service.metrics.observe(timing_ms, len(result.detections), result.lane_threads)
            return encode(result, timing_ms), timing_ms

        with service.metrics.present.track_inprogress():
            body, timing_ms = await service.dispatcher.run(data, options, finish, request.receive)
    except SeatrialError as error:
        service.metrics.requests.labels(route, error.http_status).inc()
        return error_response(error)
    except (Disconnected, ClientDisconnect):
        service.metrics.requests.labels(route, CLIENT_CLOSED_REQUEST).inc()
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    service.metrics.requests.labels(route, 200).inc()
    return Response(
        body, media_type=media_type, headers={"Server-Timing": _server_timing(timing_ms)}
    )


async def _model(request: Request) -> Response:
    service: Service = request.app.state.service
    return Response(msgspec.json.encode(service.description), media_type="application/json")


def error_response(error: SeatrialError) -> Response:
    """An error as JSON, with the status of its kind."""
    body = {"error": {"code": error.code, "message": error.message, "hint": error.hint}}
    headers = {"Retry-After": "1"} if error.http_status == 503 else {}
    return Response(
        msgspec.json.encode(body), error.http_status, headers, media_type="application/json"
    )


async def _http_error(request: Request, error: Any) -> Response:
    body = {"error": {"code": f"Http{error.status_code}", "message": error.detail, "hint": ""}}
    return Response(
        msgspec.json.encode(body),
        error.status_code,
        dict(error.headers or {}),
        media_type="application/json",
    )


def _server_timing(timing_ms: Mapping[str, float]) -> str:
    """W3C Server Timing: what browsers' developer tools show."""
    return ", ".join(f"{stage};dur={value:.3f}" for stage, value in timing_ms.items())


class Endpoint:
    """A handler as a bare ASGI application: runs below Starlette's router, or without it.

    Args:
        handler: Finds the service in ``request.app.state``.
    """

    def __init__(self, handler: Callable[[Request], Awaitable[Response]]) -> None:
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        response = await self._handler(Request(scope, receive, send))
        await response(scope, receive, send)


async def _index(request: Request) -> Response:
    # In the place of BentoML's page, whose script asks a host outside.
    lines = "".join(f"{method:<5}{path}\n" for path, (method, _) in ROUTES.items())
    probes = "GET  /livez\nGET  /readyz\nGET  /metrics\n"
    return Response(lines + probes, media_type="text/plain")


# In one place: the service around this application asks which paths are ours.
ROUTES = {
    "/detect": ("POST", Endpoint(_detect_json)),
    "/detect.jpg": ("POST", Endpoint(_detect_jpeg)),
    "/model": ("GET", Endpoint(_model)),
    "/": ("GET", Endpoint(_index)),
}
