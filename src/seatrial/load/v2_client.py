"""Load in the Open Inference Protocol over HTTP; see `seatrial.client.inference_wire`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from yarl import URL

from seatrial.client.inference_wire import ModelName, image_request
from seatrial.config import UNDECODABLE
from seatrial.load.http_client import ask, exchange, refusal
from seatrial.load.http_session import HttpSession
from seatrial.load.images import EncodedImage
from seatrial.load.inference import InferenceModel, ModelInput
from seatrial.load.samples import Reply, Sample
from seatrial.load.target import Body

SERVER = "/v2"
# Statuses by which servers say that they are not ready: Triton's, and that of the others.
UNREADY = (400, 503)


class _Named(msgspec.Struct):
    name: str
    version: str = ""


class V2Session:
    """Questions to a server over HTTP; see `seatrial.load.inference.InferenceServer`.

    Args:
        http: Its connections.
        base: ``http://HOST:PORT``.
    """

    def __init__(self, http: HttpSession, base: URL) -> None:
        self._http = http
        self._base = base
        self._endpoint = base

    async def ready(self) -> Reply:
        """Whether it takes requests."""
        reply = await ask(self._http, self._at("/v2/health/ready"))
        return Reply(503, reply.payload) if reply.status in UNREADY else reply

    async def server(self) -> str:
        """Name and version."""
        return await server_name(self._http, self._base)

    async def models(self) -> list[str] | Reply:
        """Names of its models, by the model repository extension."""
        nothing = Body(b"{}", {"Content-Type": "application/json"})
        reply = await ask(self._http, self._at("/v2/repository/index"), nothing)
        found = _told(reply, list[_Named])
        return reply if found is None else list(dict.fromkeys(one.name for one in found))

    async def metadata(self, model: ModelName) -> InferenceModel | Reply:
        """The description of a model."""
        reply = await ask(self._http, self._at(model.path))
        found = _told(reply, InferenceModel)
        return reply if found is None else found

    def prepare(
        self, model: ModelName, image_input: ModelInput, images: Sequence[EncodedImage]
    ) -> list[Body]:
        """The request of every image; they go to this model from now on."""
        self._endpoint = self._at(model.infer_path)
        return bodies(image_input, images)

    async def send(self, body: Body, due_ns: int | None = None) -> Sample:
        """Send one image."""
        return await exchange(self._http, self._endpoint, body, due_ns)

    async def refusal(self, body: Body) -> str:
        """Reason of a refusal."""
        return refusal(await ask(self._http, self._endpoint, body))

    def _at(self, path: str) -> URL:
        return self._base.join(URL(path, encoded=True))


async def server_name(http: HttpSession, base: URL) -> str:
    """Name and version of a server of the protocol; empty where it speaks another one."""
    found = _told(await ask(http, base.join(URL(SERVER))), _Named)
    return "" if found is None else f"{found.name} {found.version}".strip()


def bodies(image_input: ModelInput, images: Sequence[EncodedImage]) -> list[Body]:
    """Prepare the request of every image; all outputs are asked for, binary."""
    one = [1 for _ in image_input.shape]
    made = (image_request(image_input.name, one, image.data) for image in images)
    return [Body(body, headers) for headers, body in made]


def _told(reply: Reply, kind: Any) -> Any:
    """An answer as a struct; None where it is none."""
    if reply.status != 200:
        return None
    try:
        return msgspec.json.decode(reply.payload, type=kind)
    except UNDECODABLE:
        return None
