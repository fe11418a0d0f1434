"""Lines of the log about requests: each one where that is asked for, and what failed.

Under overload each refusal would be a line, and the log the next overload; and who names a deadline
of a millisecond fails as often as they like. Of each kind, `MOST` are written in a second. While
there are more, it is one in a second, which says how many were left out.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict

from starlette.types import Scope

from seatrial.errors import DeadlineExceeded, SeatrialError
from seatrial.serve.log import Level, say
from seatrial.serve.trace_context import Trace, current_trace

MOST = 10  # lines of a kind in a second
FAULT_CODE = "InternalError"  # of an answer that a fault of the service takes the place of


class FewLines:
    """Lines of one kind, a few in a second; only one thread calls it.

    Attributes:
        left_out: Number of events that were no line, since the last line.
    """

    def __init__(self) -> None:
        self._until_s = 0.0  # end of a second
        self._left = 0  # lines that may be written until then
        self.left_out = 0

    def full_until_s(self) -> float:
        """When a line is written again, by `time.monotonic`; 0 where the next one is."""
        return 0.0 if self._left else self._until_s

    def next(self) -> dict[str, int] | None:
        """Facts of the line of an event; None: it is none, and is counted for the next one."""
        now_s = time.monotonic()
        if now_s < self.full_until_s():
            self.left_out += 1
            return None
        if now_s >= self._until_s:
            self._until_s, self._left = now_s + 1, 1 if self.left_out else MOST
        self._left -= 1
        left_out, self.left_out = self.left_out, 0
        return {"left_out": left_out} if left_out else {}


_failures: defaultdict[tuple[str, str], FewLines] = defaultdict(FewLines)  # by code and level


def log_request(scope: Scope, trace: Trace, status: int, size: int) -> None:
    """Write the line of a request that has its answer, of so many bytes."""
    client = scope.get("client")
    say(
        _level(trace.late_as_asked) if status >= 500 else "info",
        "request",
        f"{scope['method']} {scope['path']!r}: {status}",
        client=client[0] if client else "",
        method=scope["method"],
        path=scope["path"],
        bytes=size,
        **_facts(trace, status),
    )


def log_failure(scope: Scope, error: SeatrialError) -> None:
    """Write the line of a request that the service failed to answer, or count it for the next."""
    trace = current_trace.get() or Trace()
    trace.late_as_asked = isinstance(error, DeadlineExceeded) and error.asked
    level = _level(trace.late_as_asked)
    more = _failures[error.code, level].next()
    if more is not None:
        say(
            level,
            "request_failed",
            f"{scope['method']} {scope['path']!r} failed: {error.message}",
            **{**_facts(trace, error.http_status), "code": error.code, **more},
        )


def log_fault(scope: Scope, error: Exception) -> None:
    """Write the line of a request that a fault of the service ended, and the traceback behind it.

    Or count it for the next line: then there is no traceback either.
    """
    trace = current_trace.get() or Trace()
    trace.fault_told = True
    more = _failures[FAULT_CODE, "error"].next()
    if more is not None:
        say(
            "error",
            "request_failed",
            f"{scope['method']} {scope['path']!r} failed by a fault of the service",
            **{**_facts(trace, 500), "code": FAULT_CODE, **more},
        )
        logging.getLogger(__name__).error("the fault", exc_info=error)


def is_news(record: logging.LogRecord) -> bool:
    """Whether a record is no second traceback of a fault that `log_fault` was told of.

    The application raises a fault on, and its server logs each without a bound. A filter of
    `logging`, for the server's logger.
    """
    trace = current_trace.get()
    return record.exc_info is None or trace is None or not trace.fault_told


class RefusalLog(FewLines):
    """Lines about refusals.

    Attributes:
        requests: Whether refusals for other reasons than overload (503) are lines, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requests = False

    def __call__(self, trace: Trace, status: int, code: str, message: str, route: str = "") -> None:
        """Write the line of a request that was refused, or count it for the next line.

        Args:
            trace: The request.
            status: Status of its answer.
            code: Kind of the error.
            message: What was wrong.
            route: Label of its route; empty for what has none.
        """
        if status != 503 and not self.requests:
            return
        more = self.next()
        if more is None:
            return
        trace.route, trace.code = route or trace.route, code
        words = f"a request was refused: {message}"
        say("warning", "request_refused", words, **_facts(trace, status), **more)


log_refusal = RefusalLog()  # of this process


def _level(late_as_asked: bool) -> Level:
    """Level of a failure: a deadline that the request named is no fault of the service."""
    return "warning" if late_as_asked else "error"


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
