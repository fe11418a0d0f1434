"""How a request ends: its answer, or an error of ours as an answer; counted either way."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Scope

from seatrial.detect.clock import Clock
from seatrial.engines.lanes import Abandoned
from seatrial.errors import Overloaded, SeatrialError
from seatrial.serve.metrics import RequestMetrics
from seatrial.serve.request_log import log_failure
from seatrial.serve.service import Service
from seatrial.serve.trace_context import current_trace

DIGEST = "X-Model-Digest"
WAIT = "X-Predicted-Wait-Ms"
ADMISSION = "admission"
CLIENT_CLOSED_REQUEST = 499  # nginx's code: no client reads it, the metrics show it


async def counted(
    metrics: RequestMetrics,
    scope: Scope,
    route: str,
    model: str,
    answering: Awaitable[Response],
    error_response: Callable[[SeatrialError], Response],
) -> Response:
    """The answer, or what an error or a client that left makes of it.

    Args:
        metrics: Where the outcome is counted.
        scope: The request.
        route: Its label in the metrics; never a path that a client can choose.
        model: Its kind; see `seatrial.serve.statistics`.
        answering: Makes the answer.
        error_response: Makes an answer of an error.
    """
    begin = time.perf_counter()
    trace = current_trace.get()
    if trace is not None:
        trace.route = route

    def count(status: int) -> None:
        metrics.count(route, status, time.perf_counter() - begin)
        if status != 200:
            metrics.models.failed(model)

    try:
        response = await answering
    except SeatrialError as error:
        count(error.http_status)
        if trace is not None:
            trace.code, trace.message = error.code, error.message
        if isinstance(error, Overloaded):  # each a line: the log would be the next overload
            metrics.refuse(error.reason)
        elif error.http_status >= 500:
            log_failure(scope, error)
        return error_response(error)
    except (Abandoned, ClientDisconnect):
        count(CLIENT_CLOSED_REQUEST)
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    except asyncio.CancelledError:
        # Only the server's shutdown cancels a request: the time for answers is over.
        left = Overloaded(
            "the service ends, and the request took too long",
            hint="send it to another server, or again in a few seconds",
            reason="drain",
        )
        count(left.http_status)
        metrics.refuse(left.reason)
        if trace is not None:
            trace.code, trace.message = left.code, left.message
        return error_response(left)
    except Exception:
        count(500)
        raise
    count(200)
    return response


def admitted(clock: Clock) -> Clock:
    """Let a request's clock count from its headers on: that far, it was admission."""
    trace = current_trace.get()
    if trace is not None:
        clock.began(trace.began, ADMISSION)
        trace.clock = clock
    return clock


def error_headers(error: SeatrialError) -> dict[str, str]:
    """Headers that an error has beside its body."""
    headers = {}
    if error.http_status == 401:
        headers["WWW-Authenticate"] = "Bearer"  # RFC 6750, 3
    if error.http_status == 408:  # it says that the server ends the connection (RFC 9110, 15.5.9)
        headers["Connection"] = "close"
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(retry_after_s(error.wait_s))
        headers[WAIT] = f"{1e3 * error.wait_s:.0f}"
    return headers


def answer_headers(service: Service, timing_ms: Mapping[str, float]) -> dict[str, str]:
    """Headers of an answer: the digest of the artifact that gave it, and the time of each stage."""
    return {DIGEST: service.digest, "Server-Timing": server_timing(timing_ms)}


def retry_after_s(wait_s: float) -> int:
    """When those who are refused should come again: not together, as they were refused."""
    soonest_s = max(1, math.ceil(wait_s))
    return soonest_s + int(random.random() * (soonest_s + 1))  # noqa: S311


def server_timing(timing_ms: Mapping[str, float]) -> str:
    """The times in the form of W3C Server Timing, which browsers' developer tools show."""
    return ", ".join(f"{stage};dur={value:.3f}" for stage, value in timing_ms.items())
