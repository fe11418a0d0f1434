"""The first questions to a service in the Open Inference Protocol, over HTTP or gRPC.

See `seatrial.bench.preflight`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec

from seatrial.bench.preflight import (
    TRIES,
    UNAUTHORIZED,
    ProbedService,
    describe,
    first_taken,
    is_refused,
    redirected,
    wait_until_ready,
    without_token,
)
from seatrial.client.credentials import NONE, Credentials
from seatrial.client.inference_wire import BYTES, GRPC, ModelName
from seatrial.errors import ServiceFailed
from seatrial.load.http_client import refusal
from seatrial.load.http_session import MOVED, HttpSession
from seatrial.load.images import EncodedImage
from seatrial.load.inference import (
    InferenceModel,
    InferenceServer,
    ModelInput,
    named_model,
)
from seatrial.load.samples import Reply
from seatrial.load.target import Body, Target, base_url
from seatrial.load.v2_client import V2Session
from seatrial.system.extras import require

ENGINE = "seatrial_"  # before the engine's name, as a service of ours names its platform


async def probe_inference(
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
        ServiceFailed: The service does not answer, does not get ready, has no model that takes an
            encoded image, or refuses every image.
        Unauthorized: It wants a token.
        MissingExtra: It is asked by gRPC, and that is not installed.
    """
    async with _session(target, timeout_s, credentials) as (server, http):
        hint = "it says so when it is asked for its health; see its log"
        await wait_until_ready(target, server.ready, ready_s, hint)
        model, metadata, image_input = await _model(server, target)
        prepared = server.prepare(model, image_input, images)
        sample = await first_taken(
            target, [partial(server.send, body) for body in prepared[:TRIES]], timeout_s
        )
        if is_refused(sample):
            said = await server.refusal(prepared[0])
            if sample.status == UNAUTHORIZED:
                raise without_token(target, said)
            if sample.status in MOVED:
                raise redirected(f"the inference of {model.name!r}", sample.status, said)
            raise ServiceFailed(
                f"the inference of {model.name!r} is refused ({sample.error}): "
                f"{said or 'no reason given'}",
                hint=f"the image was sent as one element of {BYTES} in the input "
                f"{image_input.name!r}; does the model take that?",
            )
        told = None if http is None else await describe(http, target)
        described = told or await _description(server, metadata)
    path = model.infer_path if http is not None else f"/{model.name}"
    protocol = "grpc" if http is None else "v2"
    target = msgspec.structs.replace(target, path=path, protocol=protocol)
    return ProbedService(target, described, sample.detections is not None), prepared


@asynccontextmanager
async def _session(
    target: Target, timeout_s: float, credentials: Credentials
) -> AsyncIterator[tuple[InferenceServer, HttpSession | None]]:
    """A session, and its connections where they are HTTP's."""
    url = base_url(target)
    if url.scheme in GRPC:
        require("grpc", extra="grpc", purpose="measuring a service over gRPC")
        from seatrial.load.grpc_client import grpc_session

        async with grpc_session(url, 1, timeout_s, credentials) as session:
            yield session, None
        return
    async with HttpSession(1, timeout_s, credentials) as http:
        yield V2Session(http, url), http


async def _model(
    server: InferenceServer, target: Target
) -> tuple[ModelName, InferenceModel, ModelInput]:
    """The model that the target names, or the first that takes an encoded image."""
    named = named_model(target.path)
    others = []
    for model in [named] if named is not None else await _models(server, target):
        told = await server.metadata(model)
        if isinstance(told, Reply):
            if told.status == UNAUTHORIZED:
                raise without_token(target, refusal(told))
            if named is None:
                continue  # of the index, and not loaded
            raise ServiceFailed(
                f"the service at {target.url} does not describe the model {model.name!r}: "
                f"{refusal(told) or f'status {told.status}'}",
                hint="--path names another model; the service has to have the one that is named",
            )
        if found := told.image_input():
            return model, told, found
        others.append(f"{model.name} takes {_in_words(told)}")
    raise ServiceFailed(
        f"the service at {target.url} has no model that takes an encoded image: "
        + ("; ".join(others) or "it describes none"),
        hint=f"such a model has one input, of {BYTES}; --path names a model",
    )


async def _models(server: InferenceServer, target: Target) -> list[ModelName]:
    names = await server.models()
    if isinstance(names, Reply) or not names:
        said = refusal(names) if isinstance(names, Reply) else ""
        if isinstance(names, Reply) and names.status == UNAUTHORIZED:
            raise without_token(target, said)
        raise ServiceFailed(
            f"the service at {target.url} lists no model {said}".rstrip(),
            hint="name the model with --path",
        )
    return [ModelName(name) for name in names]


def _in_words(told: InferenceModel) -> str:
    inputs = (f"{one.name} {one.datatype} {list(one.shape)}" for one in told.inputs)
    return ", ".join(inputs) or "nothing"


async def _description(server: InferenceServer, told: InferenceModel) -> dict[str, Any]:
    found: dict[str, Any] = {"name": told.name}
    if told.platform.startswith(ENGINE):
        found["engine"] = told.platform.removeprefix(ENGINE)
    if said := await server.server():
        found["server"] = said
    return found
