"""One request over the wire, and the record of it."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterable, Mapping, Sequence
from time import perf_counter_ns
from types import MappingProxyType
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from seatrial.client.credentials import NONE, Credentials
from seatrial.client.inference_wire import JSON_BYTES
from seatrial.config import UNDECODABLE
from seatrial.load.samples import (
    ANSWER_BYTES,
    CONNECT,
    DISCONNECT,
    ENCODED,
    NUMBERS,
    PROTOCOL,
    TIMEOUT,
    TOO_LONG,
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


class _Unusable(Exception):
    """An answer that is not read, with the kind of failure."""


class _Output(msgspec.Struct):
    name: str
    shape: list[int] = []


class _Answer(msgspec.Struct):
    # Raw: the boxes are counted, not built; the client shares its cores with the service.
    detections: list[msgspec.Raw] | None = None
    timing_ms: dict[str, Any] | None = None
    outputs: list[_Output] | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


def http_session(
    connections: int, timeout_s: float, credentials: Credentials = NONE
) -> aiohttp.ClientSession:
    """A client that keeps its connections alive and does nothing else that costs time.

    Args:
        connections: Most connections at a time; 0: no limit.
        timeout_s: Longest time of one request.
        credentials: What the service wants to see.
    """
    tls: ssl.SSLContext | bool = True if credentials.ca_file is None else credentials.tls()
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, ttl_dns_cache=None, ssl=tls),
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        # Compressed answers would measure zlib on both sides, and unpack to any length.
        auto_decompress=False,
        headers={"Accept-Encoding": "identity", **credentials.headers},
    )


async def exchange(
    http: aiohttp.ClientSession, url: URL, body: Body, due_ns: int | None = None
) -> Sample:
    """Send one image and time the answer to its last byte."""
    end_ns, status, error, payload = 0, 0, "", b""
    headers = NO_HEADERS
    start_ns = perf_counter_ns()
    try:
        async with http.post(
            url, data=body.data, headers=body.headers, allow_redirects=False
        ) as response:
            payload = await _body(response, ANSWER_BYTES)
            end_ns, status, headers = perf_counter_ns(), response.status, response.headers
    except TimeoutError:
        error = TIMEOUT
    except aiohttp.ClientConnectorError:
        error = CONNECT
    except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError):
        error = DISCONNECT
    except aiohttp.ClientError:
        error = PROTOCOL
    except _Unusable as failure:
        error = str(failure)
    if not error and not 200 <= status < 300:
        error = f"http-{status}"
    detections, timing_ms = None, None
    try:
        if not error:
            detections, timing_ms = read_answer(payload, headers)
    except Impossible:
        error = NUMBERS
    return Sample(
        start_ns=start_ns,
        end_ns=end_ns or perf_counter_ns(),
        status=status,
        error=error,
        received_bytes=len(payload),
        detections=detections,
        timing_ms=timing_ms,
        due_ns=due_ns,
    )


async def _body(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body of an answer.

    Raises:
        _Unusable: It is longer than `most` bytes, or packed.
    """
    headers = response.headers
    if headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        response.close()
        raise _Unusable(ENCODED)
    length = response.content_length
    if length is not None and length <= most and "Transfer-Encoding" not in headers:
        return await response.read()
    body = bytearray()
    while len(body) <= most and (length or 0) <= most:
        part = await response.content.readany()
        if not part and response.content.at_eof():
            return bytes(body)
        body += part
    response.close()
    raise _Unusable(TOO_LONG)


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
        return None, None  # another service's shape of answer: it is timed all the same
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
    for entry in text.split(", "):
        stage, _, value = entry.partition(";dur=")
        with contextlib.suppress(ValueError):
            found.append((stage, float(value)))
    return _times(found)


async def ask(http: aiohttp.ClientSession, url: URL, body: Body | None = None) -> Reply:
    """Ask a service a question that is not timed: GET, or POST where a body is given."""
    method, sent = ("GET", {}) if body is None else ("POST", msgspec.structs.asdict(body))
    try:
        async with http.request(method, url, **sent) as response:
            return Reply(response.status, await _body(response, QUESTION_BYTES))
    except _Unusable as failure:
        return Reply(0, error=WORDS[str(failure)])
    except (aiohttp.ClientError, OSError) as error:  # a timeout is an OSError
        return Reply(0, error=network_reason(error))


def refusal(reply: Reply) -> str:
    """Reason that a service gives for a refused request: its own message, or the body's start."""
    if reply.error:
        return reply.error
    try:
        said = msgspec.json.decode(reply.payload)["error"]
        # The Open Inference Protocol has the message itself there.
        return (said if isinstance(said, str) else str(said["message"]))[:MESSAGE]
    except (*UNDECODABLE, KeyError, TypeError):
        return reply.payload[:200].decode("utf-8", "replace").strip()
