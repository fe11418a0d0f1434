"""The name of a request across services: its id, and its place in a trace.

Source: W3C Trace Context, sections 3.2 (traceparent) and 3.3 (tracestate). An answer repeats the
trace with a span of our own, so that a client without tracing can name the request as well, and the
state of the trace as it came.
"""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar

from seatrial.detect.clock import Clock

TRACEPARENT, TRACESTATE, REQUEST_ID = b"traceparent", b"tracestate", b"x-request-id"
# Version, trace, span, flags; a later version may have more behind another hyphen.
_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
# One member of the state: a key of a tracing system, and what that wants to read again.
_MEMBER = re.compile(rb"[a-z0-9][a-z0-9_\-*/@]{0,255}=[ -+\--<>-~]{0,255}[!-+\--<>-~]")
MOST_MEMBERS, MOST_STATE_BYTES = 32, 2048
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
SAMPLED = 1  # flag: the caller may have recorded the trace


class Roots:
    """Traces that begin here.

    Attributes:
        decide: Whether one is recorded, by its id; None: none is.
    """

    def __init__(self) -> None:
        self.decide: Callable[[str], bool] | None = None


roots = Roots()  # of this process


class Trace:
    """One request: what it is called, when it began, and what became of it.

    Attributes:
        trace_id: 32 hexadecimal digits; those of the caller where it sent some.
        parent_id: Span of the caller, 16 digits; empty where it sent none.
        span_id: Span of this request, 16 digits.
        flags: Flags of the trace, 0 to 255.
        state: State of the trace, as the caller's ``tracestate`` has it; empty where it has none.
        request_id: What the caller named the request, or else the trace.
        began: When the headers were here, by `time.perf_counter`.
        route: Label of the route in the metrics; empty for what has none.
        clock: Times of the request's stages; None until it is admitted.
        code: Kind of the error that is the answer; empty where there is none.
        message: The same in words, with what clients are not told.
        late_as_asked: Whether it was late by the deadline that it named itself.
        fault_told: Whether the log knows of the fault of the service that ended it.
    """

    __slots__ = (
        "began", "clock", "code", "fault_told", "flags", "late_as_asked", "message", "parent_id",
        "request_id", "route", "span_id", "state", "trace_id",
    )  # fmt: skip

    def __init__(self, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.began = time.perf_counter()
        self.route = self.code = self.message = self.state = ""
        self.clock: Clock | None = None
        self.late_as_asked = self.fault_told = False
        parent = given = caller = None
        parents = 0
        states: list[bytes] = []
        for name, value in headers:
            if name == TRACEPARENT:
                parents += 1
                parent = value
            elif name == TRACESTATE:
                states.append(value)
            elif name == REQUEST_ID and given is None:
                given = value
        # Ids are no secrets, and have to be different, not unforeseeable.
        ids = f"{random.getrandbits(192):048x}"
        self.span_id = ids[32:]
        if parent is not None and parents == 1:
            caller = parse_parent(parent)
        if caller is None:
            self.trace_id, self.parent_id = ids[:32], ""
            self.flags = 0 if roots.decide is None else int(roots.decide(self.trace_id))
        else:
            self.trace_id, self.parent_id, self.flags = caller
            if states:
                self.state = parse_state(states)
        known = given is not None and _REQUEST_ID.fullmatch(given)
        self.request_id = given.decode() if given is not None and known else self.trace_id

    @property
    def own(self) -> str:
        """The ``traceparent`` that names this request."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Headers of the answer."""
        found = [(REQUEST_ID, self.request_id.encode()), (TRACEPARENT, self.own.encode())]
        if self.state:
            found.append((TRACESTATE, self.state.encode()))
        return found

    def fields(self) -> bytes:
        """`headers` as they are sent."""
        parts = [part for field in self.headers() for part in field]
        return (b"%b: %b\r\n" * (len(parts) // 2)) % (*parts,)


def parse_parent(value: bytes) -> tuple[str, str, int] | None:
    """Trace, span and flags of a ``traceparent``; None where it is not valid.

    Flags that version 00 does not define are not passed on.
    """
    found = _PARENT.fullmatch(value)
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    if not trace.strip(b"0") or not span.strip(b"0"):
        return None
    return trace.decode(), span.decode(), int(flags, 16) & SAMPLED


def parse_state(values: Iterable[bytes]) -> str:
    """The state of a trace from the headers ``tracestate``, in one; empty where it is not valid.

    A state that is not valid is dropped whole, and the trace goes on without it.
    """
    whole = b",".join(values)
    members = [one for member in whole.split(b",") if (one := member.strip(b" \t"))]
    if len(whole) > MOST_STATE_BYTES or len(members) > MOST_MEMBERS:
        return ""
    keys = {one.partition(b"=")[0] for one in members}
    if len(keys) < len(members) or not all(_MEMBER.fullmatch(one) for one in members):
        return ""
    return b",".join(members).decode()


# Of the request that a task answers; the log and the JSON of errors name it.
current_trace: ContextVar[Trace | None] = ContextVar("current_trace", default=None)


def current_request_id() -> str:
    """Id of the request that this task answers; empty outside of one."""
    trace = current_trace.get()
    return "" if trace is None else trace.request_id


@contextlib.contextmanager
def traced(trace: Trace) -> Iterator[Trace]:
    """Have what happens in the block belong to a request."""
    token = current_trace.set(trace)
    try:
        yield trace
    finally:
        current_trace.reset(token)
