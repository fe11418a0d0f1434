"""Reading a safetensors file without torch: what is in it, and whether it is whole and sound.

Format: 8 bytes of header length (little-endian), a JSON header of name -> dtype, shape and byte
range, then the tensors' bytes. Source: https://github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.errors import InvalidArtifact

LARGEST_HEADER = 100_000_000  # bytes; the reference implementation's limit
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1,
         "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "U32": 4, "U64": 8}  # fmt: skip
FLOATS = {"F64": np.float64, "F32": np.float32, "F16": np.float16}
BF16_EXPONENT = np.uint16(0x7F80)  # all ones: infinite or not a number
CHUNK = 1 << 22  # values looked at in one go


class Tensor(msgspec.Struct, frozen=True):
    """One tensor: numpy-like dtype in the format's own names, shape, and its range of bytes."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def read_header(path: Path) -> dict[str, Tensor]:
    """Names, dtypes and shapes; the file's length must be what they need.

    Raises:
        InvalidArtifact: Cut off, or not a safetensors file.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= LARGEST_HEADER:
                raise _damaged(path, f"a header of {length} bytes")
            header = file.read(length)
    except OSError as error:
        raise _damaged(path, str(error.strerror)) from error
    try:
        table = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        tensors = {
            name: msgspec.json.decode(raw, type=Tensor)
            for name, raw in table.items()
            if name != "__metadata__"
        }
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _damaged(path, f"its header: {error}") from error
    for name, tensor in tensors.items():
        begin, end = tensor.data_offsets
        wanted = int(np.prod(tensor.shape, dtype=np.int64)) * SIZES.get(tensor.dtype, 0)
        if end - begin != wanted:
            raise _damaged(path, f"{name} of {tensor.dtype} {list(tensor.shape)} in {end - begin}")
    whole = 8 + length + max((t.data_offsets[1] for t in tensors.values()), default=0)
    if path.stat().st_size != whole:
        raise _damaged(path, f"{path.stat().st_size} bytes where {whole} are needed")
    return tensors


def check_finite(path: Path, tensors: dict[str, Tensor]) -> None:
    """See that all weights are numbers.

    Args:
        path: The file.
        tensors: From `read_header`.

    Raises:
        InvalidArtifact: Naming the tensors that hold infinite values or no numbers.
    """
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
    data = np.memmap(path, np.uint8, "r", offset=start) if tensors else np.zeros(0, np.uint8)
    wrong = [name for name, tensor in tensors.items() if not _finite(data, tensor)]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise InvalidArtifact(
            f"{path.name} holds weights that are no numbers (NaN or infinite) in "
            f"{', '.join(wrong[:3])}{more}",
            hint="the training that wrote it diverged, or the file is damaged",
        )


def _finite(data: NDArray[np.uint8], tensor: Tensor) -> bool:
    begin, end = tensor.data_offsets
    width = SIZES[tensor.dtype]
    for at in range(begin, end, CHUNK * width):
        # Copied: the header may leave the data off the boundary that the dtype needs.
        part = bytes(data[at : min(end, at + CHUNK * width)])
        if tensor.dtype == "BF16":
            bits = np.frombuffer(part, np.uint16)
            if ((bits & BF16_EXPONENT) == BF16_EXPONENT).any():
                return False
        elif tensor.dtype in FLOATS and not _all_finite(np.frombuffer(part, FLOATS[tensor.dtype])):
            return False
    return True


def _all_finite(values: NDArray[Any]) -> bool:
    return bool(np.isfinite(values).all())


def _damaged(path: Path, what: str) -> InvalidArtifact:
    return InvalidArtifact(
        f"{path.name} is not a whole safetensors file ({what})",
        hint="the download was cut off, or the file is another one: fetch it again",
    )
