"""Calls of a service as steps, without input or output: what to send, how long to wait, what to do.

Each call is a generator. It yields `Send` and is sent the `HttpAnswer` or the `Lost` that came of
it; it yields `Pause` and goes on when that has passed; it returns the result, or raises. So threads
and asyncio (`seatrial.client.transport`) share every decision.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, Literal, TypeAlias, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from seatrial import __version__
from seatrial.client.credentials import Credentials
from seatrial.client.retries import RetryBudget, pause_s, retry_after_s
from seatrial.client.wire import (
    MODEL_BYTES,
    DetectionReply,
    HttpAnswer,
    ServedModel,
    most_detections,
    read_model,
    read_reply,
    refusal,
    reply_bytes,
)
from seatrial.detect.detections import label_of
from seatrial.errors import DeadlineExceeded, InvalidConfig, InvalidInput, ServiceFailed
from seatrial.system.network import NOT_HTTP, no_answer

T = TypeVar("T")
Priority = Literal["live", "batch"]
PRIORITIES: tuple[Priority, ...] = ("live", "batch")
PROBE_S = 5.0  # longest wait for an answer to "are you ready?"
POLL_S = 0.1
# An image that ends the process which works on it must not end one after the other.
MOST_BREAKS = 2
MOST_CLASSES = 100_000
# What a service answers itself, at the end of an address, and nobody mounts a service at.
ROUTE = re.compile(
    r"/(?:detect(?:\.jpg)?|livez|readyz|healthz|openapi\.json|v2/(?:health|models)(?:/.*)?)$"
)


class Deadline(msgspec.Struct, frozen=True):
    """Until when a call has to be answered.

    Attributes:
        at: Moment by `time.monotonic`.
        seconds: Time from the beginning of the call until then.
        told: Whether the service is told of it.
    """

    at: float
    seconds: float
    told: bool = False


class Send(msgspec.Struct, frozen=True):
    """A request to send.

    Attributes:
        method: ``GET`` or ``POST``.
        target: Path and query.
        until: Moment by `time.monotonic` at which its answer has to be there.
        headers: Names and values.
        body: The body.
        most_bytes: Longest body of an answer with status 200.
    """

    method: str
    target: str
    until: float
    headers: Mapping[str, str] = {}
    body: bytes = b""
    most_bytes: int = MODEL_BYTES


class Pause(msgspec.Struct, frozen=True):
    """A time to wait.

    Attributes:
        seconds: How long.
    """

    seconds: float


class Lost(msgspec.Struct, frozen=True):
    """A request without an answer.

    Attributes:
        why: ``refused``: there was no connection, the service knows nothing of it. ``broken``: the
            connection ended before the answer. ``late``: its time is up. ``foreign``: there was no
            encrypted connection. ``unusable``: something answers, but not in HTTP, or with more
            than a service says, or encoded.
        reason: The same in words.
    """

    why: Literal["refused", "broken", "late", "foreign", "unusable"]
    reason: str


Call: TypeAlias = Generator[Send | Pause, Any, T]


class Calls:
    """The calls of one service. Thread-safe.

    Args:
        url: Scheme, host, port and, behind a proxy, a path: ``http://127.0.0.1:3000``.
        timeout_s: Longest time of a call that names no deadline, seconds.
        retries: Number of times that a request is sent again at most.
        budget: Bounds the retries of all calls together; None does not.
        token: Sent as bearer token.
        clock: Gives the time, seconds.

    Attributes:
        url: The address without a slash at its end.

    Raises:
        InvalidConfig: A value cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        retries: int,
        budget: RetryBudget | None = None,
        token: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url, self._path = address(url)
        self._timeout_s = positive("timeout_s", timeout_s)
        if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
            raise InvalidConfig(f"retries {retries!r} is not a whole number from 0 on")
        self._retries = retries
        self._budget = budget
        self._headers = {
            "Host": urlsplit(url).netloc,
            "User-Agent": f"seatrial/{__version__}",
            "Accept-Encoding": "identity",
            **Credentials(token).headers,
        }
        self._clock = clock
        self._model: ServedModel | None = None

    def deadline(self, deadline_s: float | None = None) -> Deadline:
        """The deadline of a call that begins now.

        Args:
            deadline_s: What the caller asks for; None takes the client's `timeout_s`, of which the
                service is not told.

        Raises:
            InvalidConfig: `deadline_s` is not a number above 0.
        """
        if deadline_s is None:
            return Deadline(self._clock() + self._timeout_s, self._timeout_s)
        seconds = positive("deadline_s", deadline_s)
        return Deadline(self._clock() + seconds, seconds, told=True)

    def detect(
        self, image: bytes, query: Mapping[str, Any], deadline: Deadline, priority: Priority | None
    ) -> Call[tuple[DetectionReply, tuple[str, ...]]]:
        """Find objects in an image.

        Args:
            image: The encoded file.
            query: Thresholds by name.
            deadline: See `deadline`.
            priority: None leaves it to the service.

        Returns:
            The answer, and the class names of the model.

        Raises:
            DeadlineExceeded: It was not answered in time.
            ServiceFailed: It was not answered, or not by a Seatrial service.
            SeatrialError: What the service raised.
        """
        if not image:
            raise InvalidInput("the image is empty (0 bytes)", hint="send the file's content")
        model = self._model or (yield from self.model(deadline))
        headers = {"Content-Type": "application/octet-stream"}
        if priority is not None:
            headers["X-Request-Priority"] = priority
        texts = {name: str(value).lower() for name, value in query.items()}
        path = f"/detect?{urlencode(texts)}" if texts else "/detect"
        most = most_detections(model, query.get("max_detections"))
        send = Send("POST", path, deadline.at, headers, image, reply_bytes(most))
        answer = yield from self.exchange(send, deadline)
        if answer.status != 200:
            raise refusal(f"{self.url}/detect", answer)
        reply = read_reply(self.url, answer, most)
        return reply, self._names(model.labels, reply)

    def model(self, deadline: Deadline, retries: int | None = None) -> Call[ServedModel]:
        """Ask what is served.

        Args:
            deadline: See `deadline`.
            retries: In place of those of all calls.

        Raises:
            DeadlineExceeded: There was no answer in time.
            ServiceFailed: There is no answer, or it is no description.
        """
        answer = yield from self.exchange(Send("GET", "/model", deadline.at), deadline, retries)
        if answer.status not in (200, 404):
            raise refusal(f"{self.url}/model", answer)
        self._model = read_model(self.url, answer)
        return self._model

    def is_ready(self) -> Call[bool]:
        """Whether the service answers that it is ready."""
        said = yield from self._probe(self._clock() + min(PROBE_S, self._timeout_s))
        return not said

    def wait_until_ready(self, timeout_s: float) -> Call[None]:
        """Ask until the service is ready.

        Raises:
            ServiceFailed: It is not, after that time.
        """
        until = self._clock() + positive("timeout_s", timeout_s)
        while said := (yield from self._probe(min(until, self._clock() + PROBE_S))):
            if self._clock() + POLL_S >= until:
                raise ServiceFailed(
                    f"the service at {self.url} is not ready after {timeout_s:g} s: {said}",
                    hint="look at its log, give it more time, or correct the address",
                )
            yield Pause(POLL_S)

    def _probe(self, until: float) -> Call[str]:
        """Why the service is not ready; empty where it is."""
        got: HttpAnswer | Lost = yield self._request(Send("GET", "/readyz", until))
        if isinstance(got, Lost):
            return got.reason
        return "" if got.status == 200 else f"GET /readyz answers {got.status}"

    def exchange(
        self, request: Send, deadline: Deadline, retries: int | None = None
    ) -> Call[HttpAnswer]:
        """Send a request, again where that is safe and useful, and give its answer.

        A detection changes nothing on the service: sending it twice does no harm.

        Args:
            request: The request; path and headers that all have are added.
            deadline: See `deadline`.
            retries: In place of those of all calls.

        Raises:
            DeadlineExceeded: There was no answer in time.
            ServiceFailed: There is no answer.
        """
        if self._budget:
            self._budget.request()
        retries = self._retries if retries is None else retries
        attempt = breaks = 0
        while (left_s := deadline.at - self._clock()) > 0:
            got: HttpAnswer | Lost = yield self._request(request, left_s if deadline.told else None)
            if isinstance(got, HttpAnswer) and got.status != 503:
                return got
            breaks += isinstance(got, Lost) and got.why == "broken"
            again = attempt < retries and breaks <= MOST_BREAKS
            wait_s = self._wait_s(got, attempt, deadline.at) if again else None
            if wait_s is not None:
                yield Pause(wait_s)
                attempt += 1
            elif isinstance(got, HttpAnswer):
                return got
            elif got.why == "late":
                break
            elif got.why == "unusable" and got.reason != NOT_HTTP:
                raise ServiceFailed(
                    f"{self.url} does not answer as a Seatrial service does: {got.reason}",
                    hint="look at the address, and at the proxy between, if there is one",
                )
            else:
                raise no_answer(self.url, got.reason)
        raise self._too_late(deadline)

    def _wait_s(self, got: HttpAnswer | Lost, attempt: int, until: float) -> float | None:
        """Seconds until a request is sent again; None where it is not."""
        if isinstance(got, Lost) and got.why in ("late", "foreign", "unusable"):
            return None
        asked_s = (
            retry_after_s(got.headers.get("retry-after")) if isinstance(got, HttpAnswer) else 0.0
        )
        wait_s = pause_s(attempt, asked_s)
        if self._clock() + wait_s >= until:
            return None
        # Where nobody listens, a retry is work for nobody.
        free = self._budget is None or (isinstance(got, Lost) and got.why == "refused")
        return wait_s if free or (self._budget and self._budget.take()) else None

    def _request(self, request: Send, deadline_s: float | None = None) -> Send:
        """The request with the path and the headers that all have."""
        headers = {**self._headers, **request.headers}
        if deadline_s is not None:
            headers["X-Request-Timeout-Ms"] = str(max(1, math.floor(1e3 * deadline_s)))
        return msgspec.structs.replace(request, target=self._path + request.target, headers=headers)

    def _too_late(self, deadline: Deadline) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"no answer from {self.url} within {deadline.seconds:g} s",
            hint="give it more time (deadline_s, timeout_s), or send less at a time",
        )

    def _names(self, known: tuple[str, ...], reply: DetectionReply) -> tuple[str, ...]:
        """The class names of the model that answered: it may be another one than before."""
        rows = zip(reply.detections.class_id.tolist(), reply.labels, strict=True)
        named = {number: name for number, name in rows if 0 <= number < MOST_CLASSES}
        if all(label_of(number, known) == name for number, name in named.items()):
            return known
        self._model = None  # asked for with the next image
        count = max(len(known), max(named) + 1)
        return tuple(named.get(number, label_of(number, known)) for number in range(count))


def address(url: str) -> tuple[str, str]:
    """The address of a service without a slash at its end, and the path in it.

    Raises:
        InvalidConfig: Not an address of a service.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except (ValueError, AttributeError, TypeError):  # a wrong port; not a text
        usable = False
    if not usable or not (url.isascii() and url.isprintable()) or " " in url:
        raise InvalidConfig(
            f"{url!r} is not an http address",
            hint="give scheme, host and port, for example http://127.0.0.1:3000",
        )
    if parts.username is not None or parts.password is not None:
        raise InvalidConfig("the address holds a user name", hint="give a token instead")
    if parts.query or parts.fragment:
        raise InvalidConfig(
            f"{url!r} is more than the address of a service",
            hint="give scheme, host, port and path without ? and #",
        )
    path = parts.path.rstrip("/")
    if (found := ROUTE.search(path)) is not None:
        raise InvalidConfig(
            f"{url} is a path of a service: the client finds its paths itself",
            hint=f"give {parts.scheme}://{parts.netloc}{path[: found.start()]}",
        )
    return url.rstrip("/"), path


def positive(name: str, value: float) -> float:
    """A number of seconds above 0.

    Raises:
        InvalidConfig: It is none.
    """
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InvalidConfig(f"{name} {value!r} is not a number of seconds above 0")
    return seconds
