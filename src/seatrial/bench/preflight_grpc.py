"""The first questions to a service over gRPC; see `seatrial.bench.preflight`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from time import perf_counter
from typing import Any

from seatrial.bench.preflight import POLL_S, TRIES, ProbedService, first_taken, is_refused
from seatrial.client.credentials import NONE, Credentials
from seatrial.errors import ServiceFailed
from seatrial.load.grpc_client import GrpcSession, bodies, grpc_session
from seatrial.load.images import EncodedImage
from seatrial.load.target import DETECT, Body, Target, base_url
from seatrial.system.network import no_answer

ENGINE = "seatrial_"  # before the engine's name, as a service of ours names its platform


async def probe_grpc(
    target: Target,
    images: Sequence[EncodedImage],
    ready_s: float,
    timeout_s: float,
    credentials: Credentials = NONE,
) -> tuple[ProbedService, list[Body]]:
    """Wait until the service is ready, ask which models it has, and send one of them an image.

    Returns:
        What the service says of its model, and the prepared request of every image.

    Raises:
        ServiceFailed: The service does not answer, does not get ready, has no model, or refuses
            every image.
    """
    async with grpc_session(base_url(target), 1, timeout_s, credentials) as session:
        await _wait_until_ready(session, target, ready_s)
        named = target.path != DETECT
        name = target.path.strip("/") if named else await _first_model(session, target)
        told, reply = await session.ask("ModelMetadata", name=name)
        if told is None:
            raise ServiceFailed(
                f"the service at {target.url} does not describe the model {name!r}: {reply.error}",
                hint="--path names another model; the service has to have the one that is named",
            )
        prepared = bodies(name, images)
        sample = await first_taken(
            target, [partial(session.send, body) for body in prepared[:TRIES]], timeout_s
        )
        if is_refused(sample):
            said = await session.refusal(prepared[0])
            raise ServiceFailed(
                f"ModelInfer of {name!r} is refused ({sample.error}): {said or 'no reason given'}",
                hint="the image was sent as one element of BYTES in the input 'image'; does the "
                "model take that?",
            )
    return ProbedService(_description(told)), prepared


async def _wait_until_ready(session: GrpcSession, target: Target, ready_s: float) -> None:
    deadline = perf_counter() + ready_s
    while True:
        told, reply = await session.ask("ServerReady")
        if told is None and not reply.status:
            raise no_answer(target.url, reply.error)
        if told is not None and told.ready:
            return
        if perf_counter() > deadline:
            message = f"the service at {target.url} is not ready after {ready_s:.0f} s"
            raise ServiceFailed(message, hint="ServerReady says so; see its log")
        await asyncio.sleep(POLL_S)


async def _first_model(session: GrpcSession, target: Target) -> str:
    told, reply = await session.ask("RepositoryIndex")
    names = [one.name for one in told.models] if told is not None else []
    if not names:
        raise ServiceFailed(
            f"the service at {target.url} lists no model {reply.error}".rstrip(),
            hint="name the model with --path",
        )
    return str(names[0])


def _description(metadata: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"name": metadata.name}
    if metadata.platform.startswith(ENGINE):
        found["engine"] = metadata.platform.removeprefix(ENGINE)
    return found
