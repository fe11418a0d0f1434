"""Refusals by the headers of a request, before the application sees it: they have to be cheap.

Between two of them, others have used the processor's caches: most of what a refusal costs is the
time in which code and data come from memory. So it is little code, and the next one is the same.
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Iterable

from seatrial.errors import Overloaded, SeatrialError, Unauthorized
from seatrial.serve.admission import Dispatcher, Refusal
from seatrial.serve.open_connections import Headers
from seatrial.serve.outcome import WAIT, soonest_s
from seatrial.serve.protocols.asked import read_asked
from seatrial.serve.protocols.error_answers import OTHER_ROUTE, error_answer
from seatrial.serve.protocols.error_body import MEDIA_TYPE, error_body
from seatrial.serve.protocols.plain_head import PlainHead
from seatrial.serve.request_log import log_refusal
from seatrial.serve.serving import Serving
from seatrial.serve.statistics import DETECTOR
from seatrial.serve.tokens import Tokens
from seatrial.serve.trace_context import REQUEST_ID, TRACEPARENT, Trace, roots, traced

STATUS, CODE = Overloaded.http_status, Overloaded.__name__
# As `error_answer` has them. No text of ours has a character that JSON would write otherwise.
ANSWER = (
    f"{REQUEST_ID.decode()}: %%s\r\n{TRACEPARENT.decode()}: %%s\r\nretry-after: %%d\r\n"
    f"{WAIT.lower()}: %.0f\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: %%d\r\n\r\n%s"
)
BODY = error_body(CODE, "%s", "%s", "%s", "%%s").decode()
# A decision stands for so long at most. It is made anew as soon as a request has ended; this is for
# what changes otherwise, such as a lane that is replaced.
STANDS_S = 0.1


class Standing:
    """A decision that stands for a while: for plain requests of one path and one class of sizes.

    Args:
        dispatcher: Made it.
        departures: Its `Dispatcher.departures` before.
        path: The path, as it is sent.
        kind: Class of sizes: number of bits of the declared length; None: it is for none.
        refusal: The decision.
        count: Counts one refusal.

    Attributes:
        until_s: When it ends, by `time.monotonic`.
        tokens: Checks the token of each request; None where none is needed.
    """

    __slots__ = (
        "_body_bytes", "_soonest_s", "_text", "count", "departures", "dispatcher", "kind", "path",
        "tokens", "until_s",
    )  # fmt: skip

    def __init__(
        self,
        dispatcher: Dispatcher,
        departures: int,
        path: bytes,
        kind: int | None,
        refusal: Refusal,
        count: Callable[[], None],
    ) -> None:
        self.dispatcher, self.departures = dispatcher, departures
        self.path, self.kind = path, kind
        self.count = count
        self.until_s = 0.0
        self.tokens: Tokens | None = None
        words = (refusal.message, refusal.hint, refusal.reason)
        body = BODY % tuple(text.replace("%", "%%") for text in words)
        self._text = ANSWER % (1e3 * refusal.wait_s, body)
        self._body_bytes = len(body % "")
        self._soonest_s = soonest_s(refusal.wait_s)

    def answer(self, request_id: str, traceparent: str, chance: int) -> bytes:
        """Header fields and body of a refusal, as they are sent.

        Args:
            request_id: Id of the request.
            traceparent: Its place in a trace.
            chance: Any large number: those who are refused together do not come again together.
        """
        again_s = self._soonest_s + chance % (self._soonest_s + 1)
        length = self._body_bytes + len(request_id)
        return (self._text % (request_id, traceparent, again_s, length, request_id)).encode()


class Refusals:
    """Refuses requests that the service has no time for.

    Only the event loop calls it.

    Args:
        serving: What they would be served by.
        routes: Paths of the requests that it may refuse; all others the application answers.
    """

    def __init__(self, serving: Serving, routes: Iterable[str]) -> None:
        self._serving = serving
        self._health = serving.health
        self._routes = {route.encode(): route for route in routes}
        self._standing: Standing | None = None
        self._count = functools.cache(
            lambda route, reason: serving.metrics.refused_early(route, STATUS, reason, DETECTOR)
        )

    def again(self, head: PlainHead) -> tuple[int, bytes] | None:
        """Refuse a plain request by the decision that stands; None: there is none for it."""
        standing = self._standing
        if (
            standing is None
            or time.monotonic() >= standing.until_s
            or standing.departures != standing.dispatcher.departures
            or standing.kind != head.body_bytes.bit_length()
            or standing.path != head.path
            or head.asks
            or self._serving.live.dispatcher is not standing.dispatcher
            or self._health.draining
        ):
            return None
        if standing.tokens is not None:
            try:
                standing.tokens.check(head.path.decode(), head.fields)
            except Unauthorized:
                return None
        standing.count()
        log_refusal.left_out += 1
        chance = random.getrandbits(192)
        if head.fields or roots.decide is not None:
            trace = Trace(head.fields)
            return STATUS, standing.answer(trace.request_id, trace.own, chance)
        ids = f"{chance:048x}"
        return STATUS, standing.answer(ids[:32], f"00-{ids[:32]}-{ids[32:]}-00", chance)

    def __call__(self, path: bytes, headers: Headers) -> tuple[int, bytes] | None:
        """Refuse a request.

        Args:
            path: Its path, as it was sent.
            headers: Names in lower case, and values: all, or those of a `PlainHead`.

        Returns:
            Status, and header fields and body as they are sent; None where the application answers
            it.
        """
        serving = self._serving
        route = self._routes.get(path)
        if route is None or serving.health.draining:  # then the connection ends with its answer
            return None
        if serving.server.cors_origins and any(name == b"origin" for name, _ in headers):
            return None  # a browser keeps what is not marked for the page from it
        dispatcher = serving.live.dispatcher
        if dispatcher.idle and not serving.tokens.required:
            return None  # there is time for the first
        try:
            serving.tokens.check(route, headers)
            asked = read_asked(headers, dispatcher.limits.longest_deadline_s)
        except Unauthorized as error:
            return self._unauthorized(route, headers, error)
        except SeatrialError:  # of the headers: the application says so
            return None
        departures = dispatcher.departures
        refusal = dispatcher.refusal(asked)
        if refusal is None:
            return None
        kind = None
        if asked.body_bytes is not None and asked.deadline_s is None and not asked.batch:
            # It stands for others; not of bytes, of which fewer may fit.
            kind = None if refusal.reason == "bytes" else asked.body_bytes.bit_length()
        count = self._count(route, refusal.reason)
        standing = Standing(dispatcher, departures, path, kind, refusal, count)
        count()
        trace = Trace(headers)
        log_refusal(trace, STATUS, CODE, refusal.message, route)
        if kind is not None:
            standing.until_s = min(time.monotonic() + STANDS_S, log_refusal.full_until_s())
            standing.tokens = serving.tokens if serving.tokens.required else None
            self._standing = standing
        return STATUS, standing.answer(trace.request_id, trace.own, random.getrandbits(64))

    def give_place(self) -> bool:
        """See `seatrial.serve.bodies_to_come.BodiesToCome.give_place`."""
        return self._serving.live.dispatcher.bodies.give_place()

    def _unauthorized(self, route: str, headers: Headers, error: Unauthorized) -> tuple[int, bytes]:
        self._serving.metrics.count(OTHER_ROUTE, error.http_status)
        with traced(Trace(headers)) as trace:
            answer = error_answer(route, error)
            log_refusal(trace, error.http_status, error.code, error.message, OTHER_ROUTE)
        fields = b"".join(b"%b: %b\r\n" % field for field in answer.raw_headers)
        return answer.status_code, trace.fields() + fields + b"\r\n" + bytes(answer.body)
