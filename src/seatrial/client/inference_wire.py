"""Requests of the Open Inference Protocol over HTTP, with the binary tensor data extension.

An image travels as it lies on disk behind a short JSON; `seatrial.client.inference_tensors` reads
what comes back, for which it needs numpy. Source: the protocol's specification by KServe, and
Triton's page on binary tensor data.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

JSON_BYTES = "Inference-Header-Content-Length"
BYTES = "BYTES"
LENGTH = struct.Struct("<I")  # before each element of BYTES


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
