"""One request over the wire, and the record of it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from time import perf_counter_ns
from types import MappingProxyType
from typing import Any

import msgspec
from yarl import URL

from seatrial.client.inference_wire import JSON_BYTES
from seatrial.config import UNDECODABLE
from seatrial.load.http_session import (
    MOVED,
    Broken,
    HttpSession,
    NotHttp,
    Unreachable,
    UnreadAnswer,
)
from seatrial.load.samples import (
    ANSWER_BYTES,
    CONNECT,
    DISCONNECT,
    ENCODED,
    NUMBERS,
    PROTOCOL,
    TIMEOUT,
    TOO_LONG,
    UNREADABLE,
    Reply,
    Sample,
)
from seatrial.load.target import Body
from seatrial.system.network import network_reason

SCORES = "scores"  # the output with an element for each detection
# A longer JSON is timed and not read: one of commas would become a hundred times its size.
READ_BYTES = 8 * 2**20
MESSAGE = 2000  # characters of the reason of a refusal; `seatrial.client.wire` needs numpy
QUESTION_BYTES = 8 * 2**20  # of the answer to a question; a description has names of classes
MOST_COUNTED, MOST_MS = 2**31, 1e9
WORDS = {
    ENCODED: "its answer is packed, which was not asked for",
    TOO_LONG: f"its answer is longer than {QUESTION_BYTES // 2**20} MiB",
}
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Impossible(Exception):
    """An answer has numbers that no service counts or measures."""


class _Output(msgspec.Struct):
    name: str
    shape: list[int] = []


class _Answer(msgspec.Struct):
    # Raw: the boxes are counted, not built; the client shares its cores with the service.
    detections: list[msgspec.Raw] | None = None
    timing_ms: dict[str, Any] | None = None
    outputs: list[_Output] | None = None


_ANSWER = msgspec.json.Decoder(_Answer)
# A quoted string of a header (RFC 9110, 5.6.4), and what it must not be cut at.
_QUOTED, _MARKS = re.compile(r'"((?:[^"\\]|\\.)*)"'), str.maketrans("", "", ",;=")


async def exchange(http: HttpSession, url: URL, body: Body, due_ns: int | None = None) -> Sample:
    """Send one image and time the answer to its last byte."""
    status, error, payload, detections, timing_ms, retried = 0, "", b"", None, None, False
    start_ns = perf_counter_ns()
    try:
        found = await http.send("POST", url, body, ANSWER_BYTES)
        end_ns, status, payload = found.end_ns, found.status, found.payload
        retried = found.retried
        if 200 <= status < 300:
            detections, timing_ms = read_answer(payload, found.headers)
            # A longer one is not read at all.
            if detections is None and body.readable and len(payload) <= READ_BYTES:
                error = UNREADABLE
        else:
            error = f"http-{status}"
    except Impossible:
        error = NUMBERS
    except UnreadAnswer as failure:
        error = str(failure)
    except TimeoutError:
        error = TIMEOUT
    except Unreachable:
        error = CONNECT
    except Broken:
        error = DISCONNECT
    except NotHttp:
        error = PROTOCOL
    return Sample(
        start_ns=start_ns,
        end_ns=end_ns if status else perf_counter_ns(),
        status=status,
        error=error,
        received_bytes=len(payload),
        detections=detections,
        timing_ms=timing_ms,
        due_ns=due_ns,
        retried=retried,
    )


def read_answer(
    payload: bytes, headers: Mapping[str, str] = NO_HEADERS
) -> tuple[int | None, dict[str, float] | None]:
    """Number of detections and stage times (milliseconds) of an answer, where it has them.

    Args:
        payload: Our answer, or one of the Open Inference Protocol.
        headers: Headers of the answer; names in any case.

    Raises:
        Impossible: It has numbers that cannot be.
    """
    length = headers.get(JSON_BYTES, "")  # where binary tensors follow the JSON
    try:
        told = payload[: int(length)] if length else payload
        if len(told) > READ_BYTES:
            return None, server_timing(headers.get("Server-Timing", ""))
        answer = _ANSWER.decode(told)
    except UNDECODABLE:
        # Another service's shape of answer: it is timed all the same.
        return None, server_timing(headers.get("Server-Timing", ""))
    count = None if answer.detections is None else len(answer.detections)
    if answer.outputs is not None:
        count = scores_count((one.name, one.shape) for one in answer.outputs)
    if answer.timing_ms is None:
        return count, server_timing(headers.get("Server-Timing", ""))
    return count, _times(
        (stage, value)
        for stage, value in answer.timing_ms.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    )


def _times(told: Iterable[tuple[str, float]]) -> dict[str, float] | None:
    """Stage times; one below 0 is left out, as clocks are rounded and compared.

    Raises:
        Impossible: One is beyond any time: the mean of several would be no number.
    """
    found: dict[str, float] = {}
    for stage, value in told:
        if not abs(value) <= MOST_MS:  # so that NaN is one too
            raise Impossible(stage)
        if value >= 0:
            found[stage] = float(value)
    return found or None


def scores_count(outputs: Iterable[tuple[str, Sequence[int]]]) -> int | None:
    """Number of detections by the outputs' names and shapes; None where they do not say.

    Raises:
        Impossible: It is below 0, or more than there can be.
    """
    found = [shape for name, shape in outputs if name == SCORES]
    if not found or len(found[0]) != 1:
        return None
    count = int(found[0][0])
    if not 0 <= count < MOST_COUNTED:
        raise Impossible(SCORES)
    return count


def server_timing(text: str) -> dict[str, float] | None:
    """Stage times (milliseconds) in the form of W3C Server Timing.

    Raises:
        Impossible: One is beyond any time, or not a number.
    """
    found: list[tuple[str, float]] = []
    for entry in _QUOTED.sub(lambda one: one[1].translate(_MARKS), text).split(","):
        stage, *parameters = (part.strip() for part in entry.split(";"))
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip().lower() == "dur":
                with contextlib.suppress(ValueError):
                    found.append((stage, float(value)))
    return _times(found)


async def ask(http: HttpSession, url: URL, body: Body | None = None) -> Reply:
    """Ask a service a question that is not timed: GET, or POST where a body is given."""
    try:
        if body is None:
            found = await http.get(url, QUESTION_BYTES)
        else:
            found = await http.send("POST", url, body, QUESTION_BYTES)
    except UnreadAnswer as failure:
        return Reply(0, error=WORDS[str(failure)])
    except (Unreachable, Broken, NotHttp, TimeoutError) as error:
        return Reply(0, error=network_reason(error))
    moved = found.headers.get("location", "") if found.status in MOVED else ""
    return Reply(found.status, found.payload, location=moved)


def refusal(reply: Reply) -> str:
    """Reason that a service gives for a refused request: its own message, or the body's start.

    Of a redirect it is the place, where one is named.
    """
    if reply.error:
        return reply.error
    if reply.location:
        return f"the new place is {reply.location[:MESSAGE]}"
    try:
        said = msgspec.json.decode(reply.payload)["error"]
        # The Open Inference Protocol has the message itself there.
        return (said if isinstance(said, str) else str(said["message"]))[:MESSAGE]
    except (*UNDECODABLE, KeyError, TypeError):
        return reply.payload[:200].decode("utf-8", "replace").strip()
