"""One request over the wire and what is kept of it."""

from __future__ import annotations

from time import perf_counter_ns
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from seatrial.load.target import Body

# Failures before any byte of an answer; the others are `http-<status>`.
CONNECT, DISCONNECT, TIMEOUT, PROTOCOL = "connect", "disconnect", "timeout", "protocol"


class Sample(msgspec.Struct, frozen=True, gc=False):
    """What one request gave.

    Attributes:
        start_ns: `perf_counter_ns` before the send.
        end_ns: After the last byte of the answer, or at the failure.
        status: HTTP status; 0 where there was no whole answer.
        error: Empty for a good answer, else a kind: `connect`, `timeout`, `http-503`, ...
        detections: How many the answer holds; None where it does not say.
        timing_ms: The server's own stage times; None where it gives none.
    """

    start_ns: int
    end_ns: int
    status: int
    error: str = ""
    received_bytes: int = 0
    detections: int | None = None
    timing_ms: dict[str, float] | None = None

    @property
    def latency_ms(self) -> float:
        """From before the send to after the last byte."""
        return (self.end_ns - self.start_ns) / 1e6


class _Answer(msgspec.Struct):
    # Raw: the boxes are counted, not built; the client shares its cores with the service.
    detections: list[msgspec.Raw] | None = None
    timing_ms: dict[str, Any] | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


def http_session(sessions: int, timeout_s: float) -> aiohttp.ClientSession:
    """A client with one keep-alive connection per session and nothing that costs time."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=sessions, ttl_dns_cache=None),
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        # Compressed answers would measure zlib on both sides.
        headers={"Accept-Encoding": "identity"},
    )


async def exchange(http: aiohttp.ClientSession, url: URL, body: Body) -> Sample:
    """Send one image and time the answer to its last byte."""
    start_ns = perf_counter_ns()
    try:
        async with http.post(
            url, data=body.data, headers=body.headers, allow_redirects=False
        ) as response:
            payload = await response.read()
            end_ns, status = perf_counter_ns(), response.status
    except TimeoutError:
        return Sample(start_ns, perf_counter_ns(), 0, TIMEOUT)
    except aiohttp.ClientConnectorError:
        return Sample(start_ns, perf_counter_ns(), 0, CONNECT)
    except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError):
        return Sample(start_ns, perf_counter_ns(), 0, DISCONNECT)
    except aiohttp.ClientError:
        return Sample(start_ns, perf_counter_ns(), 0, PROTOCOL)
    if not 200 <= status < 300:
        return Sample(start_ns, end_ns, status, f"http-{status}", len(payload))
    count, timing = read_answer(payload)
    return Sample(start_ns, end_ns, status, "", len(payload), count, timing)


def read_answer(payload: bytes) -> tuple[int | None, dict[str, float] | None]:
    """Number of detections and stage times (milliseconds) of an answer, where it tells them."""
    try:
        answer = _ANSWER.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None, None  # another service's shape of answer: timed all the same
    count = None if answer.detections is None else len(answer.detections)
    if answer.timing_ms is None:
        return count, None
    timing = {
        stage: float(value)
        for stage, value in answer.timing_ms.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    }
    return count, timing or None


async def read_error(http: aiohttp.ClientSession, url: URL, body: Body) -> str:
    """What the service says about a refused request: its own message, or the answer's start."""
    try:
        async with http.post(url, data=body.data, headers=body.headers) as response:
            payload = await response.read()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return str(error) or type(error).__name__
    try:
        return str(msgspec.json.decode(payload)["error"]["message"])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        return payload[:200].decode("utf-8", "replace").strip()
