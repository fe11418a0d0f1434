"""Models of the Open Inference Protocol as a load meets them, whatever carries the requests.

A session over HTTP and one over gRPC answer the same questions; what is sent is one encoded image
as one element of BYTES.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from seatrial.client.inference_wire import BYTES, ModelName
from seatrial.load.images import EncodedImage
from seatrial.load.samples import Reply, Sample
from seatrial.load.target import DETECT, Body


class ModelInput(msgspec.Struct, frozen=True):
    """An input as the model describes it; -1 in the shape is any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class InferenceModel(msgspec.Struct, frozen=True):
    """A model as the server describes it."""

    name: str
    platform: str = ""
    inputs: tuple[ModelInput, ...] = ()

    def image_input(self) -> ModelInput | None:
        """The only input, where that takes one encoded image; None where the model takes others."""
        if len(self.inputs) != 1:
            return None
        (one,) = self.inputs
        fits = one.datatype == BYTES and all(size in (-1, 1) for size in one.shape)
        return one if fits else None


class InferenceServer(Protocol):
    """A session with a server of the protocol."""

    async def ready(self) -> Reply:
        """Whether the server takes requests: status 200 if so, 503 if not yet, 0 if none answers.

        Any other status says that it does not answer this question.
        """

    async def server(self) -> str:
        """Name and version of the server; empty where it does not say."""

    async def models(self) -> list[str] | Reply:
        """Names of its models, or the answer in their place."""

    async def metadata(self, model: ModelName) -> InferenceModel | Reply:
        """The description of a model, or the answer in its place."""

    def prepare(
        self, model: ModelName, image_input: ModelInput, images: Sequence[EncodedImage]
    ) -> list[Body]:
        """The request of every image."""

    async def send(self, body: Body, due_ns: int | None = None) -> Sample:
        """Send one image, and time the answer to its last byte."""

    async def refusal(self, body: Body) -> str:
        """Reason that the server gives for refusing a request."""


def named_model(path: str) -> ModelName | None:
    """The model that a target names: alone, or by the path of its inference; None for none."""
    return None if path == DETECT else ModelName.of(path)
