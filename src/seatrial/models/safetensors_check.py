"""Content of a safetensors file, and a check that its weights are finite; without torch."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from pathlib import Path

import msgspec
import numpy as np

from seatrial.config import UNDECODABLE
from seatrial.errors import InvalidArtifact
from seatrial.system.extras import require
from seatrial.system.file_kinds import other_kind

# Floating point type -> integer of its width, and its exponent's bits: all ones are NaN or
# infinite. By bits, since numpy has no bfloat16, and `safe_open` for numpy reads none.
EXPONENTS = {
    "F64": (np.uint64, 0x7FF0_0000_0000_0000),
    "F32": (np.uint32, 0x7F80_0000),
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
}
CHUNK_BYTES = 1 << 24
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class StoredTensor(msgspec.Struct, frozen=True):
    """One tensor of a file.

    Attributes:
        dtype: Type in the format's own names, for example ``BF16``.
        shape: Size of each dimension.
        begin: Offset of the first byte in the file.
        end: Offset behind the last byte.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class _Index(msgspec.Struct, frozen=True):
    weight_map: dict[str, str]


def read_index(path: Path, present: Collection[str]) -> list[str]:
    """Names of the shards in a list such as ``model.safetensors.index.json``, in order.

    Args:
        path: The list.
        present: Names of the files that may be shards.

    Raises:
        InvalidArtifact: It cannot be read, names no file, or one that is not there.
    """
    try:
        shards = msgspec.json.decode(path.read_bytes(), type=_Index).weight_map.values()
    except (OSError, *UNDECODABLE) as error:
        raise InvalidArtifact(f"{path.name} is broken: {error}") from error
    if not shards:
        raise InvalidArtifact(
            f"{path.name} names no weights (weight_map is empty)",
            hint="model.save_pretrained(folder) in transformers writes a whole one",
        )
    for name in sorted(set(shards)):
        if name not in present or not _FILE_NAME.fullmatch(name):
            raise InvalidArtifact(
                f"{path.name} names {name!r}, which is not a file beside it",
                hint="fetch all shards again, or correct the list",
            )
    return sorted(set(shards))


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Names, types, shapes and places of a file's tensors.

    The library checks the header: its size, and that the tensors fill the file without gap or
    overlap. That is why their order and sizes tell where they are.

    Raises:
        InvalidArtifact: Cut off, or not a safetensors file.
        MissingExtra: safetensors is not installed.
    """
    safetensors = require("safetensors", extra="hub", purpose="reading checkpoints")
    tensors: dict[str, StoredTensor] = {}
    try:
        if (other := other_kind(path)) is not None:
            raise InvalidArtifact(f"{path.name} is {other[0]}", hint=other[1])
        with path.open("rb") as data:
            begin = 8 + int.from_bytes(data.read(8), "little")
        with safetensors.safe_open(path, framework="numpy") as file:
            for name in file.offset_keys():
                part = file.get_slice(name)
                dtype, shape = part.get_dtype(), tuple(part.get_shape())
                bits = int(found[0]) if (found := re.search(r"\d+", dtype)) else 8  # BOOL
                end = begin + math.prod(shape) * bits // 8
                tensors[name] = StoredTensor(dtype, shape, begin, end)
                begin = end
    except (OSError, safetensors.SafetensorError) as error:
        raise InvalidArtifact(
            f"{path.name} is not a whole safetensors file ({error})",
            hint="the download was cut off, or the file is another one: fetch it again",
        ) from error
    return tensors


def check_finite(path: Path, tensors: dict[str, StoredTensor]) -> None:
    """Check that all weights are numbers.

    Raises:
        InvalidArtifact: Some are infinite or NaN; the message names their tensors.
    """
    wrong = [name for name, tensor in tensors.items() if not _finite(path, tensor)]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise InvalidArtifact(
            f"{path.name} holds weights that are not numbers (NaN or infinite) in "
            f"{', '.join(wrong[:3])}{more}",
            hint="the training that wrote it diverged, or the file is damaged",
        )


def _finite(path: Path, tensor: StoredTensor) -> bool:
    if tensor.dtype not in EXPONENTS:
        return True
    kind, exponent = EXPONENTS[tensor.dtype]
    with path.open("rb") as file:
        file.seek(tensor.begin)
        for at in range(tensor.begin, tensor.end, CHUNK_BYTES):
            part = file.read(min(CHUNK_BYTES, tensor.end - at))
            bits = np.frombuffer(part, kind) & kind(exponent)
            if (bits == exponent).any():
                return False
    return True
