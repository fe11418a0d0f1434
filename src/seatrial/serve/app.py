"""The HTTP interface, as an ASGI application that any server can run.

POST /detect       an image -> boxes as JSON
POST /detect.jpg   an image -> the image with the boxes drawn
GET  /model        what is being served
GET  /openapi.json the description of all routes
     /v2           the Open Inference Protocol
GET  /             the list of routes
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import lru_cache, partial
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from seatrial.detect.answer import answer
from seatrial.detect.detector import Detected
from seatrial.detect.draw import annotated_jpeg
from seatrial.serve.companions import Companion
from seatrial.serve.connection_limit import MOST, most_encrypted, room, share
from seatrial.serve.connections import StopReading
from seatrial.serve.cross_origin import CrossOrigin
from seatrial.serve.direct_routes import DirectRoutes
from seatrial.serve.exchange import answer_now
from seatrial.serve.fault_answer import fault_answer
from seatrial.serve.health import PROBES, CloseWhileDraining
from seatrial.serve.metrics import Inferred
from seatrial.serve.open_connections import CONNECTIONS, Connections
from seatrial.serve.outcome import DIGEST, Afterwards, admitted, answer_headers, counted
from seatrial.serve.protocols import inference_v2
from seatrial.serve.protocols.asked import read_asked
from seatrial.serve.protocols.error_answers import (
    OTHER_ROUTE,
    error_answer,
    plain_answer,
)
from seatrial.serve.protocols.image_body import read_image
from seatrial.serve.protocols.openapi import document
from seatrial.serve.protocols.served_models import models
from seatrial.serve.protocols.thresholds import query_options
from seatrial.serve.refusals import Refusals
from seatrial.serve.reporting import Report, Reporting
from seatrial.serve.request_log import log_fault, log_refusal, log_request
from seatrial.serve.service import Service
from seatrial.serve.serving import Serving
from seatrial.serve.spans import Spans
from seatrial.serve.statistics import DETECTOR
from seatrial.serve.token_check import CheckTokens
from seatrial.serve.tokens import METRICS

# Makes the body of an answer from a result and the times until then.
Encode = Callable[[Detected, Mapping[str, float]], bytes]


def create_app(
    open_service: Callable[[], Service],
    *,
    on_start: Callable[[Serving], object] = lambda serving: None,
    probes: Sequence[Route] = (),
    around: Callable[[], AbstractAsyncContextManager[Any]] = contextlib.nullcontext,
    companions: Sequence[Companion] = (),
    log_requests: bool = False,
    spans: Spans | None = None,
) -> Starlette:
    """The application.

    Args:
        open_service: Called at start-up, before the first request; compiles and warms up.
        on_start: Called with what holds the service, in the event loop.
        probes: Routes of the runtime beside our own, such as ``/metrics``.
        around: Start-up and shutdown of the runtime; ours run inside.
        companions: Servers beside this one; see `seatrial.serve.companions`.
        log_requests: Write a line for each request, see `seatrial.serve.request_log`.
        spans: Makes spans of requests; closed at the end.
    """
    log_refusal.requests = log_requests
    reports: list[Report] = [log_request] if log_requests else []
    if spans is not None:
        reports.append(spans)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        async with around():
            serving = app.state.serving = Serving(open_service())
            serving.reports = reports
            on_start(serving)
            limits = serving.live.dispatcher.limits
            most = MOST
            if serving.tls is not None:
                reserved_bytes = serving.live.dispatcher.memory.tls_bytes
                most = most_encrypted(reserved_bytes, limits.connections)
            fit = room(limits.connections, len(companions), most)
            paths = frozenset(route.path for route in (*PROBES, *probes))
            refusals = Refusals(serving, DETECT)
            # What start-up made stays until the end: no collection needs to walk it again.
            gc.collect()
            gc.freeze()
            try:
                async with contextlib.AsyncExitStack() as beside:
                    for companion in companions:
                        await beside.enter_async_context(companion(serving, share(fit)))
                    # The protocol of each connection finds it there: `HttpProtocol`.
                    connections = Connections(
                        limits, fit, serving.metrics, paths, serving.tokens.check, serving.tls,
                        refusals, (lambda: serving.connections_beside) if companions else None,
                    )  # fmt: skip
                    yield {CONNECTIONS: connections}
            finally:
                if spans is not None:
                    spans.close()
                serving.close()

    routes = [
        *(Route(path, route, methods=["POST"]) for path, route in DETECT.items()),
        Route("/model", _model, methods=["GET"]),
        Route("/openapi.json", _openapi, methods=["GET"]),
        *inference_v2.routes(),
        *PROBES,
        *probes,
    ]
    listed = "".join(
        f"{'POST' if 'POST' in (route.methods or ()) else 'GET':<5}{route.path}\n"
        for route in routes
    )

    async def index(request: Request) -> Response:
        return Response(listed, media_type="text/plain")

    app = DirectRoutes(
        DETECT,
        routes=[*routes, Route("/", index, methods=["GET"])],
        lifespan=lifespan,
        middleware=[
            *([Middleware(Reporting, reports=reports)] if reports else []),
            Middleware(CloseWhileDraining),
            Middleware(StopReading),
            Middleware(CrossOrigin),
            Middleware(CheckTokens),
        ],
        exception_handlers={HTTPException: _http_error, Exception: _internal_error},
    )
    app.router.redirect_slashes = False  # it would redirect to whatever host the client names
    return app


async def _detect_json(request: Request) -> Response:
    service: Service = request.app.state.serving.take()
    labels = service.dispatcher.detector.artifact.manifest.labels

    def encode(result: Detected, timing_ms: Mapping[str, float]) -> bytes:
        return msgspec.json.encode(answer(result, labels, timing_ms))

    return await _detect(request, service, encode, "application/json")


async def _detect_jpeg(request: Request) -> Response:
    service: Service = request.app.state.serving.take()
    labels = service.dispatcher.detector.artifact.manifest.labels

    def encode(result: Detected, timing_ms: Mapping[str, float]) -> bytes:
        return annotated_jpeg(result.image, result.detections, labels)

    return await _detect(request, service, encode, "image/jpeg")


DETECT = {"/detect": _detect_json, "/detect.jpg": _detect_jpeg}


async def _detect(request: Request, service: Service, encode: Encode, media_type: str) -> Response:
    answering = _answer(request, service, encode, media_type)
    route = request.scope["path"]
    return await counted(
        service.metrics,
        request.scope,
        route,
        DETECTOR,
        answering,
        partial(error_answer, route),
        service.variant,
    )


async def _answer(request: Request, service: Service, encode: Encode, media_type: str) -> Response:
    """The way of one request: admission, body, detection, answer."""
    dispatcher, metrics = service.dispatcher, service.metrics
    # Before a byte of the body is asked for.
    asked = read_asked(request.scope["headers"], dispatcher.limits.longest_deadline_s)
    with dispatcher.admit(asked) as ticket:
        clock = admitted(ticket.clock)
        # It is empty mostly, and then there is nothing to parse.
        query = request.query_params.multi_items() if request.scope["query_string"] else ()
        limits = dispatcher.limits
        options = query_options(query, service.detection, limits.detections)
        ticket.arrives(0)
        reading = read_image(request, limits.body_bytes, ticket.body_s, ticket.arrives)
        data = await dispatcher.bodies.receive(ticket, reading)
        ticket.measured(asked, len(data))
        clock.lap("receive")

        def finish(result: Detected) -> Response:
            body = encode(result, clock.timing_ms())
            clock.lap("encode")
            height, width = result.image.shape[:2]
            found = len(result.detections)
            inferred = Inferred(found, result.lane_threads, len(data), width * height)
            timing_ms = clock.timing_ms()
            headers = answer_headers(service, timing_ms, ticket)
            note = Afterwards(partial(metrics.answered, timing_ms, inferred))
            return Response(body, media_type=media_type, headers=headers, background=note)

        return await dispatcher.run(
            ticket, data, options, finish, request.receive, answer_now(request.scope)
        )


async def _model(request: Request) -> Response:
    service: Service = request.app.state.serving.live
    return Response(
        msgspec.json.encode(service.description),
        media_type="application/json",
        headers={DIGEST: service.digest},
    )


async def _openapi(request: Request) -> Response:
    serving: Serving = request.app.state.serving
    service = serving.live
    limit = max(service.dispatcher.limits.detections, service.detection.max_detections)
    body = _described(
        tuple(model.name for model in models(service)),
        limit,
        token=serving.tokens.required,
        metrics=any(getattr(route, "path", "") == METRICS for route in request.app.routes),
        open_metrics=serving.server.open_metrics,
    )
    return Response(body, media_type="application/json")


@lru_cache(maxsize=2)
def _described(names: Sequence[str], limit: int, **options: bool) -> bytes:
    """Made once: it takes milliseconds."""
    return msgspec.json.encode(document(names, limit, **options))


async def _http_error(request: Request, error: Any) -> Response:
    # A path that is tried leaves no series behind; a wrong method may have a path of ours.
    path = request.scope["path"]
    ours = any(path == getattr(route, "path", None) for route in request.app.routes)
    route = path if error.status_code == 405 and ours else OTHER_ROUTE
    request.app.state.serving.metrics.count(route, error.status_code)
    status, headers = error.status_code, error.headers
    allowed = (headers or {}).get("Allow", "other methods")
    # No part of the path: it is as long as the client likes.
    hints = {404: "GET / lists the routes", 405: f"this route takes {allowed}"}
    hint = hints.get(status, "")
    return plain_answer(path, status, f"Http{status}", error.detail, hint, headers)


async def _internal_error(request: Request, error: Exception) -> Response:
    log_fault(request.scope, error)
    return fault_answer(request.scope["path"])
