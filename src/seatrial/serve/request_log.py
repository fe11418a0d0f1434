"""Lines of the log about requests: each one where that is asked for, and what failed.

Under overload each refusal would be a line, and the log the next overload: of refusals, `MOST` are
written in a second. While there are more, it is one in a second, which says how many were left out.
"""

from __future__ import annotations

import time

from starlette.types import Scope

from seatrial.errors import SeatrialError
from seatrial.serve.log import say
from seatrial.serve.trace_context import Trace, current_trace

MOST = 10  # lines about refusals in a second


def log_request(scope: Scope, trace: Trace, status: int, size: int) -> None:
    """Write the line of a request that has its answer, of so many bytes."""
    client = scope.get("client")
    say(
        "error" if status >= 500 else "info",
        "request",
        f"{scope['method']} {scope['path']!r}: {status}",
        client=client[0] if client else "",
        method=scope["method"],
        path=scope["path"],
        bytes=size,
        **_facts(trace, status),
    )


def log_failure(scope: Scope, error: SeatrialError) -> None:
    """Write the line of a request that the service failed to answer."""
    trace = current_trace.get() or Trace()
    say(
        "error",
        "request_failed",
        f"{scope['method']} {scope['path']!r} failed: {error.message}",
        **{**_facts(trace, error.http_status), "code": error.code},
    )


def log_fault(scope: Scope) -> None:
    """Write the line of a request that a fault of the service ended; its traceback follows."""
    trace = current_trace.get() or Trace()
    say(
        "error",
        "request_failed",
        f"{scope['method']} {scope['path']!r} failed by a fault of the service",
        **{**_facts(trace, 500), "code": "InternalError"},
    )


class RefusalLog:
    """Lines about refusals, a few in a second; only the event loop calls it.

    Attributes:
        requests: Whether a refusal that is no fault of the service (4xx) is a line, too.
        left_out: Number of refusals that were no line, since the last line.
    """

    def __init__(self) -> None:
        self.requests = False
        self._until_s = 0.0  # end of a second
        self._left = 0  # lines that may be written until then
        self.left_out = 0

    def full_until_s(self) -> float:
        """When a line is written again, by `time.monotonic`; 0 where the next one is."""
        return 0.0 if self._left else self._until_s

    def __call__(self, trace: Trace, status: int, code: str, message: str, route: str = "") -> None:
        """Write the line of a request that was refused, or count it for the next line.

        Args:
            trace: The request.
            status: Status of its answer.
            code: Kind of the error.
            message: What was wrong.
            route: Label of its route; empty for what has none.
        """
        if status < 500 and not self.requests:
            return
        now_s = time.monotonic()
        if now_s < self.full_until_s():
            self.left_out += 1
            return
        if now_s >= self._until_s:
            self._until_s, self._left = now_s + 1, 1 if self.left_out else MOST
        self._left -= 1
        left_out, self.left_out = self.left_out, 0
        trace.route, trace.code = route or trace.route, code
        more = {"left_out": left_out} if left_out else {}
        words = f"a request was refused: {message}"
        say("warning", "request_refused", words, **_facts(trace, status), **more)


log_refusal = RefusalLog()  # of this process


def _facts(trace: Trace, status: int) -> dict[str, object]:
    facts: dict[str, object] = {
        "status": status,
        "route": trace.route,
        "request_id": trace.request_id,
        "trace_id": trace.trace_id,
        "duration_s": round(time.perf_counter() - trace.began, 6),
    }
    if trace.code:
        facts["code"] = trace.code
    if trace.clock is not None:
        stages = trace.clock.stages_ms
        facts["stages_s"] = {stage: round(ms / 1e3, 6) for stage, ms in stages.items()}
    return facts
