"""The first look at a service: is it ready, what does it say it is, does it take a picture."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from seatrial.errors import ServiceFailed
from seatrial.load.http_client import (
    CONNECT,
    DISCONNECT,
    Sample,
    exchange,
    http_session,
    read_error,
)
from seatrial.load.target import Body, Target, base_url, endpoint

# One picture may be at fault; if the service refuses as many, the request is.
TRIES = 3
POLL_S = 0.2
# The caller's fault for good; 408, 425 and 429 come and go with the load.
PASSING = (408, 425, 429)


class ProbedService(msgspec.Struct, frozen=True):
    """What the service says about itself; `model` is None where it says nothing."""

    model: dict[str, Any] | None


async def look(
    target: Target, prepared: Sequence[Body], ready_s: float, timeout_s: float
) -> ProbedService:
    """Wait until the service is ready, ask what it is, and send it a picture.

    Raises:
        ServiceFailed: Nobody answers, it does not get ready, or it refuses every picture.
    """
    async with http_session(1, timeout_s) as http:
        await _wait_until_ready(http, target, ready_s)
        model = await _ask_model(http, base_url(target).join(URL(target.model_path)))
        await _try_pictures(http, target, prepared[:TRIES], timeout_s)
    return ProbedService(model)


async def _wait_until_ready(http: aiohttp.ClientSession, target: Target, ready_s: float) -> None:
    url = base_url(target).join(URL(target.ready_path))
    deadline = perf_counter() + ready_s
    while True:
        try:
            async with http.get(url) as response:
                await response.read()
                # Anything but "unavailable" is an answer, 404 of a foreign service too.
                if response.status != 503:
                    return
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _no_answer(target, str(error) or "no answer in time") from error
        if perf_counter() > deadline:
            message = f"the service at {target.url} is not ready after {ready_s:.0f} s"
            raise ServiceFailed(message, hint=f"GET {url.path} answers 503; see its log")
        await asyncio.sleep(POLL_S)


async def _ask_model(http: aiohttp.ClientSession, url: URL) -> dict[str, Any] | None:
    try:
        async with http.get(url) as response:
            payload = await response.read()
            if response.status != 200:
                return None
        return msgspec.json.decode(payload, type=dict[str, Any])
    except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError, UnicodeDecodeError):
        return None  # another service: it is measured as "unknown"


async def _try_pictures(
    http: aiohttp.ClientSession, target: Target, prepared: Sequence[Body], timeout_s: float
) -> None:
    url = endpoint(target)
    sample = Sample(0, 0, 0)
    for body in prepared:
        sample = await exchange(http, url, body)
        if not 400 <= sample.status < 500 or sample.status in PASSING:
            break
    if sample.error in (CONNECT, DISCONNECT):
        raise _no_answer(target, "the connection broke at the first picture")
    if sample.error == "timeout":
        message = f"the service at {target.url} did not answer a picture within {timeout_s:g} s"
        raise ServiceFailed(message, hint="allow it a longer timeout, or see its log")
    if 300 <= sample.status < 500 and sample.status not in PASSING:
        said = await read_error(http, url, prepared[0])
        message = f"POST {url.path} is refused with {sample.status}: {said or 'no reason given'}"
        raise ServiceFailed(message, hint=_request_hint(target))


def _no_answer(target: Target, why: str) -> ServiceFailed:
    message = f"nothing answers at {target.url}: {why}"
    return ServiceFailed(message, hint="start it first, or correct the address")


def _request_hint(target: Target) -> str:
    sent = "the raw body" if target.field is None else f"the multipart field {target.field!r}"
    return f"the picture was sent as {sent} to {target.path}; do path and field fit the service?"
