"""The first questions to a service: is it ready, what does it say it is, does it take an image."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from seatrial.client.credentials import NONE, Credentials
from seatrial.config import UNDECODABLE
from seatrial.errors import ServiceFailed
from seatrial.load.http_client import ask, exchange, http_session, refusal
from seatrial.load.samples import CONNECT, DISCONNECT, TIMEOUT, Sample
from seatrial.load.target import Body, Target, base_url, endpoint
from seatrial.system.network import no_answer

# One image may be at fault; if the service refuses as many, the request is.
TRIES = 3
POLL_S = 0.2
# 4xx statuses that come and go with the load; the others are the request's fault for good.
PASSING = (408, 425, 429)
FOR_GOOD = (501, 505)  # 5xx statuses that no later request changes: the method is not known


class ProbedService(msgspec.Struct, frozen=True):
    """Facts that a service reports about itself.

    Attributes:
        model: Its answer to GET /model; None where it gives none.
    """

    model: dict[str, Any] | None


async def probe(
    target: Target,
    prepared: Sequence[Body],
    ready_s: float,
    timeout_s: float,
    credentials: Credentials = NONE,
) -> ProbedService:
    """Wait until the service is ready, ask what it is, and send it an image.

    Raises:
        ServiceFailed: The service does not answer, does not get ready, or refuses every image.
    """
    async with http_session(1, timeout_s, credentials) as http:
        await _wait_until_ready(http, target, ready_s)
        model = await ask(http, base_url(target).join(URL(target.model_path)))
        await _try_images(http, target, prepared[:TRIES], timeout_s)
    if model.status != 200:
        return ProbedService(None)
    try:
        return ProbedService(msgspec.json.decode(model.payload, type=dict[str, Any]))
    except UNDECODABLE:
        return ProbedService(None)  # another kind of service: it is measured as "unknown"


async def _wait_until_ready(http: aiohttp.ClientSession, target: Target, ready_s: float) -> None:
    url = base_url(target).join(URL(target.ready_path))
    deadline = perf_counter() + ready_s
    while True:
        reply = await ask(http, url)
        if reply.error:
            raise no_answer(target.url, reply.error)
        # Anything but "unavailable" is an answer, 404 of a foreign service too.
        if reply.status != 503:
            return
        if perf_counter() > deadline:
            message = f"the service at {target.url} is not ready after {ready_s:.0f} s"
            raise ServiceFailed(message, hint=f"GET {url.path} answers 503; see its log")
        await asyncio.sleep(POLL_S)


async def _try_images(
    http: aiohttp.ClientSession, target: Target, prepared: Sequence[Body], timeout_s: float
) -> None:
    url = endpoint(target)
    sample = await first_taken(
        target, [partial(exchange, http, url, body) for body in prepared], timeout_s
    )
    if is_refused(sample):
        said = refusal(await ask(http, url, prepared[0]))
        sent = "the raw body" if target.field is None else f"the multipart field {target.field!r}"
        raise ServiceFailed(
            f"POST {url.path} is refused with {sample.status}: {said or 'no reason given'}",
            hint=f"the image was sent as {sent} to {target.path}; do path and field fit the "
            "service?",
        )


async def first_taken(
    target: Target, tries: Sequence[Callable[[], Awaitable[Sample]]], timeout_s: float
) -> Sample:
    """Send images until one is taken; the record of the last.

    Raises:
        ServiceFailed: The service does not answer.
    """
    for send in tries:
        sample = await send()
        if not is_refused(sample) or sample.status < 400:
            break
    if sample.error in (CONNECT, DISCONNECT):
        raise no_answer(target.url, "the connection broke at the first image")
    if sample.error == TIMEOUT:
        message = f"the service at {target.url} did not answer an image within {timeout_s:g} s"
        raise ServiceFailed(message, hint="allow it a longer timeout, or see its log")
    return sample


def is_refused(sample: Sample) -> bool:
    """Whether a service refuses such a request for good."""
    return sample.status in FOR_GOOD or (
        300 <= sample.status < 500 and sample.status not in PASSING
    )
