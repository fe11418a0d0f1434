"""Tensors in an answer of the Open Inference Protocol over HTTP, binary behind a short JSON.

Source: see `seatrial.client.inference_wire`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.client.inference_wire import JSON_BYTES
from seatrial.config import UNDECODABLE
from seatrial.errors import ServiceFailed

FARTHEST = 2.0**31
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
                if array.dtype.kind == "f" and not (np.abs(array) <= FARTHEST).all():
                    raise ValueError(f"{one.name} has numbers beyond any image")
                found[one.name] = array.reshape(one.shape)
            begin = end
        return [found[name] for name in wanted]
    except (*UNDECODABLE, KeyError, OverflowError) as error:
        raise ServiceFailed(
            f"{where} does not answer with the tensors {', '.join(wanted)}: {error!r}",
            hint="name a model that takes images and answers with boxes, as seatrial package "
            "triton writes it",
        ) from error
