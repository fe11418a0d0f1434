"""Tensors of the Open Inference Protocol: names of types, and arrays from what was sent."""

from __future__ import annotations

import base64
import contextlib
import math
import re
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.errors import InvalidInput
from seatrial.manifest import TensorSpec

# Name in the protocol -> numpy's name. BYTES has elements of any length.
DTYPES = {
    "BOOL": "bool",
    "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64",
    "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64",
    "FP16": "float16", "FP32": "float32", "FP64": "float64",
}  # fmt: skip
DATATYPES = {dtype: name for name, dtype in DTYPES.items()}
BYTES = "BYTES"
LENGTH = struct.Struct("<I")  # before each element of BYTES
DATA_URL_WITHIN = 64  # bytes of the JSON that are looked at for one
# Base64 is decoded in such pieces, each of whole groups of four: a thread that reads a large body
# lets the event loop go on between them.
PIECE_CHARACTERS = 256 * 1024
# Numbers in JSON become objects of Python, under its lock: so much text takes about a millisecond.
# Of all requests together one piece is decoded at a time, and between two pieces of a text other
# threads, the event loop above all, get Python's lock.
PIECE_OF_NUMBERS = 64 * 1024
BETWEEN_S = 5e-5
_one_piece = threading.Lock()
_WHITE_SPACE = b" \t\r\n\v\f"
_NO_MARKS = bytes(one for one in range(256) if one not in b"[],")
_PLACE = re.compile(r"(.*) - at `\$\[(\d+)\]`")  # msgspec's, of an element of a list
# Kind of a numpy type -> its elements in JSON.
_LISTS: dict[str, Any] = {"b": list[bool], "f": list[float], "i": list[int], "u": list[int]}


class Signature(NamedTuple):
    """One input or output of a model: its name, type in the protocol and shape, -1 for any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, spec: TensorSpec, shape: tuple[int, ...]) -> Signature:
        """The signature of a graph's tensor."""
        return cls(spec.name, DATATYPES.get(spec.dtype, spec.dtype.upper()), shape)


class Content(Protocol):
    """The elements of a tensor, as a transport carries them."""

    def numbers(self, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
        """So many numbers, (count,), the caller's own.

        Raises:
            InvalidInput: There are more or fewer, or others.
        """

    @property
    def text_bytes(self) -> int:
        """Length of what `elements` has to decode; 0 where it only divides."""

    def elements(self, count: int) -> list[memoryview]:
        """So many elements of BYTES.

        Raises:
            InvalidInput: There are more or fewer.
        """


class Elements(Content, Protocol):
    """Content whose elements are as they were sent."""

    @property
    def element_bytes(self) -> int:
        """Length of the elements of BYTES together, about."""


class Given(NamedTuple):
    """One tensor of a request."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    content: Content

    def array(self, wanted: Signature) -> NDArray[Any]:
        """The tensor as a graph takes it.

        Raises:
            InvalidInput: It is of another type or shape, or its content does not fit them.
        """
        if self.datatype != wanted.datatype:
            raise InvalidInput(
                f"input {self.name!r} is {self.datatype[:40]}, and the model takes "
                f"{wanted.datatype}"
            )
        fits = len(self.shape) == len(wanted.shape) and all(
            have == size or (size == -1 and have > 0)
            for have, size in zip(self.shape, wanted.shape, strict=True)
        )
        if not fits:
            raise InvalidInput(
                f"input {self.name!r} has the shape {list(self.shape)}, and the model takes "
                f"{list(wanted.shape)}"
            )
        numbers = self.content.numbers(np.dtype(DTYPES[wanted.datatype]), math.prod(self.shape))
        return numbers.reshape(self.shape)


class Binary(NamedTuple):
    """Content as the binary extension has it: little-endian, row by row, without gaps."""

    data: memoryview

    def numbers(self, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
        """See `Content.numbers`."""
        if len(self.data) != count * dtype.itemsize:
            raise InvalidInput(
                f"{len(self.data)} bytes are no {count} elements of {DATATYPES[dtype.name]}"
            )
        found = np.frombuffer(self.data, dtype.newbyteorder("<"))
        if dtype.kind == "b" and (found.view(np.uint8) > 1).any():
            raise InvalidInput("an element of BOOL is neither 0 nor 1")
        return np.array(found, dtype)  # aligned, and not part of the body

    @property
    def text_bytes(self) -> int:
        """See `Content.text_bytes`."""
        return 0

    def elements(self, count: int) -> list[memoryview]:
        """See `Content.elements`."""
        found: list[memoryview] = []
        at = 0
        for _ in range(count):
            if at + LENGTH.size > len(self.data):
                raise InvalidInput(f"the data end after {len(found)} of {count} elements of BYTES")
            (size,) = LENGTH.unpack_from(self.data, at)
            at += LENGTH.size
            if size > len(self.data) - at:
                raise InvalidInput(
                    f"element {len(found)} of BYTES says that it has {size} bytes; "
                    f"{len(self.data) - at} are left",
                    hint="write the length of each element as 4 bytes, little-endian, before it",
                )
            found.append(self.data[at : at + size])
            at += size
        if at < len(self.data):
            raise InvalidInput(f"{len(self.data) - at} bytes are behind the {count} of BYTES")
        return found

    @property
    def element_bytes(self) -> int:
        """See `Elements.element_bytes`."""
        return len(self.data)


class Whole(NamedTuple):
    """Content that is one element of BYTES, without a length before it."""

    data: memoryview

    def numbers(self, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
        """See `Content.numbers`."""
        raise InvalidInput("the data are one element of BYTES, and no numbers")

    @property
    def text_bytes(self) -> int:
        """See `Content.text_bytes`."""
        return 0

    def elements(self, count: int) -> list[memoryview]:
        """See `Content.elements`."""
        return [self.data]


class Json(NamedTuple):
    """Content as JSON: numbers, nested as the shape or flat; bytes as base64."""

    data: msgspec.Raw
    shape: tuple[int, ...] = ()

    def numbers(self, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
        """See `Content.numbers`."""
        text = bytes(self.data)
        _check_count(text, count)
        _check_nesting(text, self.shape)
        # Nested or flat: without its brackets it is the same.
        flat = text.translate(None, b"[]")
        array = np.empty(count, dtype)
        found = 0
        for piece in _pieces(flat):
            try:
                numbers = _decoded_numbers(piece, dtype)
            except (ValueError, OverflowError, FloatingPointError) as error:
                wrong = _what_is_wrong(piece, dtype, found, error)
                raise InvalidInput(
                    f"the data are not {DATATYPES[dtype.name]} in JSON: {wrong}"
                ) from error
            array[found : found + len(numbers)] = numbers
            found += len(numbers)
        if found != count:
            raise InvalidInput(f"the data have {found} elements, and the shape {count}")
        return array

    @property
    def text_bytes(self) -> int:
        """See `Content.text_bytes`."""
        return memoryview(self.data).nbytes

    def elements(self, count: int) -> list[memoryview]:
        """See `Content.elements`."""
        text = bytes(self.data)
        if b'"data:' in text[:DATA_URL_WITHIN]:
            raise InvalidInput("the data are a data URL", hint="send what is behind its comma")
        _check_count(text, count)
        try:
            if text.replace(b" ", b"", 8).startswith(b"[["):
                texts = [one for (one,) in msgspec.json.decode(text, type=list[tuple[str]])]
            else:
                texts = msgspec.json.decode(text, type=list[str])
            return [memoryview(_decoded(one.encode("ascii"))) for one in texts]
        except (msgspec.MsgspecError, ValueError) as error:
            raise InvalidInput(
                "the data are not BYTES in JSON",
                hint="write each element as a string of base64 (RFC 4648, 4), or use the binary "
                "extension",
            ) from error


class Base64(NamedTuple):
    """Content whose elements of BYTES are base64, or files as they are, as MLServer reads them.

    No JPEG, PNG or WebP file is base64: each has bytes that base64 has not.
    """

    content: Elements

    @property
    def text_bytes(self) -> int:
        """See `Content.text_bytes`."""
        return self.content.element_bytes

    def numbers(self, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
        """See `Content.numbers`."""
        return self.content.numbers(dtype, count)

    def elements(self, count: int) -> list[memoryview]:
        """See `Content.elements`."""
        found = self.content.elements(count)
        for index, one in enumerate(found):
            with contextlib.suppress(ValueError):
                found[index] = memoryview(_decoded(bytes(one)))
        return found


def _decoded(text: bytes) -> bytes | bytearray:
    """The bytes of a string of base64; line ends in it are passed over, as MIME has them.

    Its time and memory are a few times the length of the text, whatever is in it.
    """
    packed = text.translate(None, _WHITE_SPACE)
    if len(packed) <= PIECE_CHARACTERS:
        return base64.b64decode(packed, validate=True)
    found = bytearray()
    for begin in range(0, len(packed), PIECE_CHARACTERS):
        if len(found) * 4 != begin * 3:
            raise ValueError("base64 goes on behind its end")
        found += base64.b64decode(packed[begin : begin + PIECE_CHARACTERS], validate=True)
    return found


def _pieces(flat: bytes) -> Iterator[bytes]:
    """Numbers with commas between, in pieces of about `PIECE_OF_NUMBERS`."""
    begin = 0
    while (end := flat.find(b",", begin + PIECE_OF_NUMBERS)) >= 0:
        yield flat[begin:end]
        begin = end + 1
        time.sleep(BETWEEN_S)
    yield flat[begin:]


def _decoded_numbers(piece: bytes, dtype: np.dtype[Any]) -> NDArray[Any]:
    with _one_piece, np.errstate(over="raise"):
        numbers: list[Any] = msgspec.json.decode(b"[%b]" % piece, type=_LISTS[dtype.kind])
        if dtype == np.uint8:  # images; a third of the time
            return np.frombuffer(bytes(numbers), np.uint8)
        return np.array(numbers, dtype)


def _what_is_wrong(piece: bytes, dtype: np.dtype[Any], before: int, error: Exception) -> str:
    """The first wrong number of a piece, by its place among all numbers: `before` precede it."""
    if said := _PLACE.fullmatch(str(error)):
        return f"element {before + int(said[2])}: {said[1]}"
    try:
        with _one_piece, np.errstate(over="ignore"):
            numbers: list[Any] = msgspec.json.decode(b"[%b]" % piece, type=_LISTS[dtype.kind])
            if dtype.kind == "f":
                over = np.isinf(np.array(numbers, np.float64).astype(dtype)).tolist()
            else:
                least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
                over = [not least <= number <= most for number in numbers]
    except msgspec.MsgspecError:  # a text with a comma, which was divided there
        return f"element {before} or one behind it is not a number"
    first = over.index(True)
    return f"element {before + first}: {numbers[first]} is out of range"


def _check_count(text: bytes, count: int) -> None:
    """Count before anything is decoded: a number of Python is far larger than its digits."""
    found = text.count(b",") + 1 if text.strip(b" \t\r\n[]") else 0
    if found != count:
        raise InvalidInput(f"the data have {found} elements, and the shape {count}")


def _check_nesting(text: bytes, shape: tuple[int, ...]) -> None:
    """Refuse lists that divide the numbers otherwise than the shape does, at any level.

    Their brackets are not read, so that such numbers would change places without a word: rows of
    colours in a tensor of planes, for example. A list may hold several dimensions that follow one
    another, such as all of them, and one more list may be around all of it.

    Its time and memory are a small part of what decoding takes: how the text divides the numbers
    is written once as its first lists would have it, and compared.

    Args:
        text: JSON with as many commas as `shape` needs.
        shape: Sizes; a single number may have any brackets.
    """
    marks = text.translate(None, _NO_MARKS)
    depth = len(marks) - len(marks.lstrip(b"["))
    total = math.prod(shape)
    if not shape or not depth or not total:
        return
    hint = "nest the numbers as the shape says, or send them in one list"
    shown = list(shape)[:8]
    if depth > len(shape) + 1:
        raise InvalidInput(
            f"the lists of the data are {depth} deep, which does not fit the shape {shown}",
            hint=hint,
        )
    # Numbers in the first list of each level, the innermost first; a list may hold one number.
    held = [marks.count(b",", 0, marks.find(b"]" * up)) + 1 for up in range(1, depth + 1)]
    rows = iter([math.prod(shape[at:]) for at in range(len(shape) + 1)])
    wrong = next((one for one in reversed(held) if one != total and one not in rows), None)
    if wrong is not None:
        raise InvalidInput(
            f"the lists of the data have {wrong} numbers each, which does not fit the shape "
            f"{shown}",
            hint=hint,
        )
    # Before it is written: few marks may ask for far more.
    same = marks.count(b"[") == sum(held[-1] // count for count in held)
    if not same or marks != _marks(held):
        raise InvalidInput(
            f"the lists of the data differ in their lengths, which does not fit the shape {shown}",
            hint=hint,
        )


def _marks(held: Sequence[int]) -> bytes:
    """Brackets and commas of nested lists.

    Args:
        held: Numbers in a list of each level, the innermost first; each divides the next.
    """
    marks, inner = b"", 1
    for count in held:
        marks = b"[" + (marks + b",") * (count // inner - 1) + marks + b"]"
        inner = count
    return marks


def bytes_tensor(elements: Sequence[bytes]) -> bytes:
    """Elements of BYTES as the binary extension has them."""
    return b"".join(part for one in elements for part in (LENGTH.pack(len(one)), one))
