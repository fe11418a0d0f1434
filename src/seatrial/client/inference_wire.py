"""Requests of the Open Inference Protocol over HTTP, with the binary tensor data extension.

An image travels as it lies on disk behind a short JSON; `seatrial.client.inference_tensors` reads
what comes back, for which it needs numpy. Source: the protocol's specification by KServe, and
Triton's page on binary tensor data.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

import msgspec

JSON_BYTES = "Inference-Header-Content-Length"
BYTES = "BYTES"
LENGTH = struct.Struct("<I")  # before each element of BYTES
GRPC = ("grpc", "grpcs")  # schemes of addresses; the second is encrypted
_PATH = re.compile(r"/?v2/models/([^/]+)(?:/versions/([^/]+))?/infer/?")


class ModelName(msgspec.Struct, frozen=True):
    """Name of a model, and its version; an empty version is the server's choice."""

    name: str
    version: str = ""

    @classmethod
    def of(cls, path: str) -> ModelName:
        """The model that a name, or the path of its inference, means."""
        found = _PATH.fullmatch(path)
        if found is None:
            return cls(path.strip("/"))
        return cls(unquote(found[1]), unquote(found[2] or ""))

    @property
    def path(self) -> str:
        """Path of the model over HTTP."""
        version = f"/versions/{quote(self.version, safe='')}" if self.version else ""
        return f"/v2/models/{quote(self.name, safe='')}{version}"

    @property
    def infer_path(self) -> str:
        """Path of its inference over HTTP."""
        return f"{self.path}/infer"


def is_inference_path(path: str) -> bool:
    """Whether a path over HTTP is that of a model's inference."""
    return _PATH.fullmatch(path) is not None


def element(data: bytes) -> bytes:
    """Bytes as one raw element of BYTES."""
    return LENGTH.pack(len(data)) + data


def image_request(
    name: str,
    shape: Sequence[int],
    image: bytes,
    *,
    outputs: Sequence[str] = (),
    parameters: Mapping[str, Any] = {},
) -> tuple[dict[str, str], bytes]:
    """Headers and body of a request of one image.

    Args:
        name: Input that takes it.
        shape: Shape of the input: one element.
        image: The encoded file.
        outputs: Wanted outputs; none: all of them.
        parameters: Parameters of the request.
    """
    data = element(image)
    tensor = {
        "name": name,
        "datatype": BYTES,
        "shape": list(shape),
        "parameters": {"binary_data_size": len(data)},
    }
    asked: dict[str, Any] = {"inputs": [tensor]}
    if outputs:
        binary = {"binary_data": True}
        asked["outputs"] = [{"name": one, "parameters": binary} for one in outputs]
        asked["parameters"] = dict(parameters)
    else:
        asked["parameters"] = {**parameters, "binary_data_output": True}
    head = json.dumps(asked).encode()
    headers = {"Content-Type": "application/octet-stream", JSON_BYTES: str(len(head))}
    return headers, head + data
