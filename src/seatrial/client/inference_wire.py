"""Bodies of the Open Inference Protocol over HTTP, with the binary tensor data extension.

An image travels as it lies on disk behind a short JSON, and the answer's tensors do so as well.
Source: the protocol's specification by KServe, and Triton's page on binary tensor data.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.config import UNDECODABLE
from seatrial.errors import ServiceFailed

JSON_BYTES = "Inference-Header-Content-Length"
BYTES = "BYTES"
LENGTH = struct.Struct("<I")  # before each element of BYTES
DTYPES: dict[str, np.dtype[Any]] = {
    "FP32": np.dtype("<f4"),
    "INT64": np.dtype("<i8"),
    "INT32": np.dtype("<i4"),
}


class _Sized(msgspec.Struct):
    binary_data_size: int


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: _Sized


class _Answer(msgspec.Struct):
    outputs: tuple[_Output, ...]


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


def read_tensors(
    where: str, headers: Mapping[str, str], body: bytes, wanted: Sequence[str]
) -> list[NDArray[Any]]:
    """Outputs of an answer, all of which are binary.

    Args:
        where: Address that was asked, for messages.
        headers: Headers of the answer, names in lower case.
        body: Its body.
        wanted: Names of outputs of numbers.

    Returns:
        The array of each, in the order of `wanted`.

    Raises:
        ServiceFailed: They are not in it.
    """
    try:
        # Triton sends no such header where no tensor has an element: all is JSON.
        begin = int(headers.get(JSON_BYTES.lower(), len(body)))
        told = msgspec.json.decode(body[:begin], type=_Answer)
        found = {}
        for one in told.outputs:
            end = begin + one.parameters.binary_data_size
            if one.name in wanted:
                array = np.frombuffer(body[begin:end], DTYPES[one.datatype])
                found[one.name] = array.reshape(one.shape)
            begin = end
        return [found[name] for name in wanted]
    except (*UNDECODABLE, KeyError) as error:
        raise ServiceFailed(
            f"{where} does not answer with the tensors {', '.join(wanted)}: {error!r}",
            hint="name a model that takes images and answers with boxes, as seatrial package "
            "triton writes it",
        ) from error
