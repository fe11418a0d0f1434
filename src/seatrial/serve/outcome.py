"""How a request ends: its answer, or an error of ours as an answer; counted either way."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Scope

from seatrial.detect.clock import Clock
from seatrial.engines.places import Abandoned, Place
from seatrial.errors import Overloaded, SeatrialError, UnsupportedCoding
from seatrial.serve.metrics import RequestMetrics
from seatrial.serve.request_log import log_failure, log_refusal
from seatrial.serve.service import Service
from seatrial.serve.trace_context import Trace, current_trace
from seatrial.serve.variants import LIVE
from seatrial.system.frames import release_frames

DIGEST = "X-Model-Digest"
WAIT = "X-Predicted-Wait-Ms"
ADMISSION = "admission"
CLIENT_CLOSED_REQUEST = 499  # nginx's code: no client reads it, the metrics show it


class Afterwards(BackgroundTask):
    """Calls on the event loop as soon as an answer is written, and before anything else.

    Nobody who has the answer can ask this process sooner, so what it counts is there for them.

    Attributes:
        calls: What is called, in this order.
    """

    def __init__(self, *calls: Callable[[], object]) -> None:
        self.calls = [*calls]

    async def __call__(self) -> None:
        """Do it."""
        for call in self.calls:
            call()


class Counted:
    """Counts how a request ends, as a context manager around its way; errors pass through.

    Args:
        metrics: Where the outcome is counted.
        scope: The request, for the log: its client, method and path.
        route: Its label in the metrics; never a path that a client can choose.
        model: Its kind; see `seatrial.serve.statistics`. None where it is of no model.
        variant: That of the service which answers.

    Attributes:
        model: The same; it may become known on the way.
        variant: The same; a request may go on to another service.
        afterwards: What is done when the answer is written, so that it can be counted then; None:
            it is counted before.
    """

    def __init__(
        self,
        metrics: RequestMetrics,
        scope: Scope,
        route: str,
        model: str | None,
        variant: str = LIVE,
    ) -> None:
        self.model = model
        self.variant = variant
        self.afterwards: Afterwards | None = None
        self._metrics, self._scope, self._route = metrics, scope, route
        self._begin = time.perf_counter()
        self._trace = current_trace.get()
        if self._trace is not None:
            self._trace.route = route

    def __enter__(self) -> Counted:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            release_frames(error)  # they hold the body
        if error is None:
            self._answered()
        elif isinstance(error, SeatrialError):
            self._count(error.http_status)
            if self._trace is not None:
                self._trace.code, self._trace.message = error.code, error.message
            if isinstance(error, Overloaded):
                self._metrics.refuse(error.reason)
                named = self._trace or Trace()
                log_refusal(named, error.http_status, error.code, error.message, self._route)
            elif error.http_status >= 500:
                log_failure(self._scope, error)
        elif isinstance(error, Abandoned | ClientDisconnect):
            self._count(CLIENT_CLOSED_REQUEST)
        elif isinstance(error, Exception):
            self._count(500)

    def _answered(self) -> None:
        seconds = time.perf_counter() - self._begin
        if self.afterwards is None:
            self._note(200, seconds)
        else:
            self.afterwards.calls.append(partial(self._note, 200, seconds))

    def _count(self, status: int) -> None:
        self._note(status, time.perf_counter() - self._begin)

    def _note(self, status: int, seconds: float) -> None:
        self._metrics.count(self._route, status, seconds)
        self._metrics.variants.count(self.variant, status, seconds)
        if status != 200 and self.model is not None:
            self._metrics.models.failed(self.model)


async def counted(
    metrics: RequestMetrics,
    scope: Scope,
    route: str,
    model: str,
    answering: Awaitable[Response],
    error_response: Callable[[SeatrialError], Response],
    variant: str = LIVE,
) -> Response:
    """The answer, or what an error or a client that left makes of it; counted: see `Counted`.

    Args:
        metrics: See `Counted`.
        scope: See `Counted`.
        route: See `Counted`.
        model: See `Counted`.
        answering: Makes the answer.
        error_response: Makes an answer of an error.
        variant: That of the service which answers.
    """
    try:
        with Counted(metrics, scope, route, model, variant) as outcome:
            try:
                response = await answering
            except asyncio.CancelledError as error:
                # Only the server's shutdown cancels a request: the time for answers is over.
                raise cut_off() from error
            if isinstance(response.background, Afterwards):
                outcome.afterwards = response.background
            return response
    except SeatrialError as error:
        return error_response(error)
    except (Abandoned, ClientDisconnect):
        return Response(status_code=CLIENT_CLOSED_REQUEST)


def cut_off() -> Overloaded:
    """The error of a request that was not answered before the process had to end."""
    return Overloaded(
        "the service ends, and the request took too long",
        hint="send it to another server, or again in a few seconds",
        reason="drain",
    )


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
    if isinstance(error, UnsupportedCoding):
        headers["Accept-Encoding"] = "gzip, deflate"  # RFC 9110, 15.5.16
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(retry_after_s(error.wait_s))
        headers[WAIT] = f"{1e3 * error.wait_s:.0f}"
    return headers


def answer_headers(
    service: Service, timing_ms: Mapping[str, float], place: Place
) -> dict[str, str]:
    """Headers of an answer: the digest of the artifact that gave it, and the time of each stage.

    Where runs of the engine may be shared, the number of images of the run is there as well.
    """
    timing = server_timing(timing_ms)
    if place.share is not None:
        timing += f', batch;desc="{place.share.size}"'
    return {DIGEST: service.digest, "Server-Timing": timing}


def retry_after_s(wait_s: float) -> int:
    """When those who are refused should come again: not together, as they were refused."""
    first_s = soonest_s(wait_s)
    return first_s + int(random.random() * (first_s + 1))  # noqa: S311


def soonest_s(wait_s: float) -> int:
    """When the first of them should come again."""
    return max(1, math.ceil(wait_s))


def server_timing(timing_ms: Mapping[str, float]) -> str:
    """The times in the form of W3C Server Timing, which browsers' developer tools show."""
    return ", ".join(f"{stage};dur={value:.3f}" for stage, value in timing_ms.items())
