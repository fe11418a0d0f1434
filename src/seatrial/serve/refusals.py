"""Refusals by the headers of a request, before the application sees it: they have to be cheap."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable

from seatrial.errors import Overloaded, SeatrialError, Unauthorized
from seatrial.serve.open_connections import Headers
from seatrial.serve.outcome import WAIT, retry_after_s
from seatrial.serve.protocols.asked import read_asked
from seatrial.serve.protocols.error_answers import OTHER_ROUTE, error_answer
from seatrial.serve.protocols.error_body import MEDIA_TYPE, error_body
from seatrial.serve.request_log import log_refusal
from seatrial.serve.serving import Serving
from seatrial.serve.statistics import DETECTOR
from seatrial.serve.trace_context import Trace, traced

# Refusals are counted here, and in the metrics after so long: these are files in shared memory,
# and four of them for each refusal would cost as much as all the rest of it.
COUNTED_EVERY_S = 0.1
ANSWER = (
    f"retry-after: %d\r\n{WAIT.lower()}: %.0f\r\n"
    f"content-type: {MEDIA_TYPE}\r\ncontent-length: %d\r\n\r\n%b"
).encode()


class Refusals:
    """Refuses requests that the service has no time for.

    Only the event loop calls it.

    Args:
        serving: What they would be served by.
        routes: Paths of the requests that it may refuse; all others the application answers.
    """

    def __init__(self, serving: Serving, routes: Iterable[str]) -> None:
        self._serving = serving
        self._routes = {route.encode(): route for route in routes}
        self._uncounted: Counter[tuple[str, int, str]] = Counter()

    def __call__(self, target: bytes, headers: Headers) -> tuple[int, bytes] | None:
        """Refuse a request.

        Args:
            target: Its path and query, as they were sent.
            headers: Names in lower case, and values.

        Returns:
            Status, and header fields and body as they are sent; None where the application answers
            it.
        """
        serving = self._serving
        route = self._routes.get(target.partition(b"?")[0])
        if route is None or serving.health.draining:  # then the connection ends with its answer
            return None
        if serving.server.cors_origins and any(name == b"origin" for name, _ in headers):
            return None  # a browser keeps what is not marked for the page from it
        dispatcher = serving.live.dispatcher
        try:
            serving.tokens.check(route, headers)
            dispatcher.check(read_asked(headers, dispatcher.limits.longest_deadline_s))
        except Overloaded as error:
            if not self._uncounted:
                asyncio.get_running_loop().call_later(COUNTED_EVERY_S, self.count)
            self._uncounted[route, error.http_status, error.reason] += 1
            trace = Trace(headers)
            log_refusal(trace, error.http_status, error.code, error.message, route)
            return error.http_status, _answer(error, trace)
        except Unauthorized as error:
            serving.metrics.count(OTHER_ROUTE, error.http_status)
            with traced(Trace(headers)) as trace:
                answer = error_answer(route, error)
                log_refusal(trace, error.http_status, error.code, error.message, route)
            fields = b"".join(b"%b: %b\r\n" % field for field in answer.raw_headers)
            return answer.status_code, trace.fields() + fields + b"\r\n" + bytes(answer.body)
        except SeatrialError:  # of the headers: the application says so
            return None
        return None

    def count(self) -> None:
        """Count in the metrics what was refused since the last call."""
        metrics = self._serving.metrics
        for (route, status, reason), times in self._uncounted.items():
            metrics.refuse_early(route, status, reason, times)
            metrics.models.failed(DETECTOR, times)
        self._uncounted.clear()


def _answer(error: Overloaded, trace: Trace) -> bytes:
    """`error_answer` in one piece."""
    body = error_body(error.code, error.message, error.hint, error.reason, trace.request_id)
    again_s, wait_ms = retry_after_s(error.wait_s), 1e3 * error.wait_s
    return trace.fields() + ANSWER % (again_s, wait_ms, len(body), body)
