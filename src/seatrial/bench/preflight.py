"""The first questions to a service: is it ready, what does it say it is, does it take an image."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Any

import msgspec
from yarl import URL

from seatrial.client.credentials import NONE, Credentials, needs_token
from seatrial.client.inference_wire import GRPC, is_inference_path
from seatrial.config import UNDECODABLE
from seatrial.errors import ServiceFailed, Unauthorized
from seatrial.load.http_client import ask, exchange, refusal
from seatrial.load.http_session import MOVED, HttpSession
from seatrial.load.samples import (
    CONNECT,
    DISCONNECT,
    ENCODED,
    PROTOCOL,
    TIMEOUT,
    ProtocolName,
    Reply,
    Sample,
)
from seatrial.load.target import DETECT, Body, Target, base_url, endpoint
from seatrial.load.v2_client import server_name
from seatrial.system.network import SPEAKS_TLS, no_answer

# One image may be at fault; if the service refuses as many, the request is.
TRIES = 3
POLL_S = 0.2
# 4xx statuses that come and go with the load; the others are the request's fault for good.
PASSING = (408, 425, 429)
UNREADY = 503
NO_ROUTE = (400, 404, 405)  # of servers that do not know the path
UNAUTHORIZED = 401
# Failures of the first answer that each further one would have.
UNREADABLE = {
    PROTOCOL: "with something that is not HTTP/1.1",
    ENCODED: "packed (Content-Encoding), which was not asked for",
}
FOR_GOOD = (501, 505)  # 5xx statuses that no later request changes: the method is not known


class ProbedService(msgspec.Struct, frozen=True):
    """Facts that a service reports about itself, and how it is measured.

    Attributes:
        target: The service with its protocol, and the path that images go to.
        model: Its answer to GET /model, or what it says of its model in the Open Inference
            Protocol; None where it says nothing.
        readable: Whether detections could be read in its first answer to an image.
    """

    target: Target
    model: dict[str, Any] | None
    readable: bool = False


def token_hidden(model: dict[str, Any] | None, token: str | None) -> dict[str, Any] | None:
    """A description without the token, which a service that echoes headers tells in it."""
    if model is None or token is None:
        return model
    told = msgspec.json.encode(model).decode()
    for secret in (token, msgspec.json.encode(token).decode()[1:-1]):
        told = told.replace(secret, "...")
    found: dict[str, Any] = msgspec.json.decode(told, type=dict[str, Any])
    return found


async def recognise(
    target: Target, timeout_s: float, credentials: Credentials = NONE
) -> ProtocolName:
    """The protocol in which a service is measured.

    What is named holds: a protocol, the scheme of gRPC, a path. Otherwise a service that has our
    probes is sent images, and one that has only the Open Inference Protocol is measured by that.

    Raises:
        InvalidConfig: See `seatrial.load.target.base_url`.
        ServiceFailed: The service does not answer.
    """
    url = base_url(target)
    if target.protocol is not None:
        return target.protocol
    if url.scheme in GRPC:
        return "grpc"
    if is_inference_path(target.path):
        return "v2"
    if target.path != DETECT or target.field is not None or target.params:
        return "http"
    async with HttpSession(1, timeout_s, credentials) as http:
        reply = await ask(http, url.join(URL(target.ready_path)))
        if reply.error:
            raise no_answer(target.url, reply.error)
        if reply.status in (200, UNREADY):
            return "http"
        return "v2" if await server_name(http, url) else "http"


async def probe(
    target: Target,
    prepared: Sequence[Body],
    ready_s: float,
    timeout_s: float,
    credentials: Credentials = NONE,
) -> ProbedService:
    """Wait until the service is ready, ask what it is, and send it an image.

    Raises:
        ServiceFailed: The service does not answer, does not get ready, redirects or refuses every
            image, or answers with what cannot be read.
        Unauthorized: It wants a token.
    """
    target = msgspec.structs.replace(target, protocol="http")
    async with HttpSession(1, timeout_s, credentials) as http:
        url = base_url(target).join(URL(target.ready_path))
        hint = f"GET {url.path} answers {UNREADY}; see its log"
        await wait_until_ready(target, partial(ask, http, url), ready_s, hint)
        model = await describe(http, target)
        sample = await _try_images(http, target, prepared[:TRIES], timeout_s)
    return ProbedService(target, model, sample.detections is not None)


async def describe(http: HttpSession, target: Target) -> dict[str, Any] | None:
    """The service's own description; None where it gives none, as another kind of service does."""
    model = await ask(http, base_url(target).join(URL(target.model_path)))
    if model.status != 200:
        return None
    try:
        found: dict[str, Any] = msgspec.json.decode(model.payload, type=dict[str, Any])
    except UNDECODABLE:
        return None
    return found


async def wait_until_ready(
    target: Target, ready: Callable[[], Awaitable[Reply]], ready_s: float, hint: str
) -> None:
    """Ask a service until it says that it is ready.

    Args:
        target: The service, for messages.
        ready: Asks it. Anything but "unavailable" is an answer, 404 of a foreign service too.
        ready_s: Longest wait.
        hint: Hint of the error.

    Raises:
        ServiceFailed: It does not answer, or is not ready in time.
    """
    deadline = perf_counter() + ready_s
    while True:
        reply = await ready()
        if reply.error:
            raise no_answer(target.url, reply.error)
        if reply.status != UNREADY:
            return
        if perf_counter() > deadline:
            message = f"the service at {target.url} is not ready after {ready_s:.0f} s"
            raise ServiceFailed(message, hint=hint)
        await asyncio.sleep(POLL_S)


async def _try_images(
    http: HttpSession, target: Target, prepared: Sequence[Body], timeout_s: float
) -> Sample:
    url = endpoint(target)
    sample = await first_taken(
        target, [partial(exchange, http, url, body) for body in prepared], timeout_s
    )
    if is_refused(sample):
        said = http.hidden(refusal(await ask(http, url, prepared[0])))
        if sample.status == UNAUTHORIZED:
            raise without_token(target, said)
        if said.startswith(SPEAKS_TLS):
            raise no_answer(target.url, said)
        if sample.status in MOVED:
            raise redirected(f"POST {url.path}", sample.status, said)
        other = sample.status in NO_ROUTE and await server_name(http, base_url(target))
        sent = "the raw body" if target.field is None else f"the multipart field {target.field!r}"
        raise ServiceFailed(
            f"POST {url.path} is refused with {sample.status}: {said or 'no reason given'}",
            hint=f"the image was sent as {sent} to {target.path}; do path and field fit the "
            "service?" + (" It speaks the Open Inference Protocol: --protocol v2" if other else ""),
        )
    return sample


def redirected(request: str, status: int, said: str) -> ServiceFailed:
    """The error for a service that redirects images.

    Args:
        request: What was sent.
        status: HTTP status.
        said: Where to, see `seatrial.load.http_client.refusal`; empty where it says nothing.
    """
    return ServiceFailed(
        f"{request} is redirected with {status}: {said or 'no place is named'}",
        hint="images are sent to the place that is named alone: name the new one by --url and "
        "--path",
    )


def without_token(target: Target, said: str = "") -> Unauthorized:
    """The error for a service that wants a token.

    Args:
        target: The service.
        said: Its own words; empty where it has none.
    """
    return needs_token(target.url, said)


async def first_taken(
    target: Target, tries: Sequence[Callable[[], Awaitable[Sample]]], timeout_s: float
) -> Sample:
    """Send images until one is taken; the record of the last.

    Raises:
        ServiceFailed: The service does not answer, or its answer cannot be read.
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
    if how := UNREADABLE.get(sample.error):
        message = f"the service at {target.url} answers an image {how}"
        raise ServiceFailed(message, hint="correct --url or --path, or see its log")
    return sample


def is_refused(sample: Sample) -> bool:
    """Whether a service refuses such a request for good."""
    return sample.status in FOR_GOOD or (
        300 <= sample.status < 500 and sample.status not in PASSING
    )
