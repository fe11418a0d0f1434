"""Bounds of the memory that a ``ModelInferRequest`` takes, from its bytes alone.

protobuf makes objects of a message that can be a hundred times longer than its bytes: an empty
message in a message takes two bytes, and a number in a list one. All of it is made on the event
loop. So before a message is parsed, its outline is read: where each field begins and how long it
is, which costs a step for each field and not for each byte.

Source: the encoding of Protocol Buffers (protobuf.dev, "Encoding").
"""

from __future__ import annotations

from collections.abc import Iterator

from seatrial.errors import InvalidInput

# Fields of a request and of an input, by their numbers in open_inference.proto.
INPUT, RAW = 5, 7
CONTENTS = 5
ELEMENT = 8
# Bounds of a request that is not raw tensors or encoded images: names, shapes, parameters; and of
# numbers in lists, each of which takes up to eight times its length.
MOST_FIELDS = 4096
MOST_HEAD_BYTES = 64 * 1024
MOST_LISTED_BYTES = 4 * 2**20
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}


class _Outline:
    """Reads fields, and counts them."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = MOST_FIELDS

    def fields(self, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Number, 0 where its value is no bytes; begin of the field, begin and end of its value."""
        while at < end:
            if not self._left:
                raise InvalidInput(
                    f"the message has more than {MOST_FIELDS} fields",
                    hint="send tensors in raw_input_contents",
                )
            self._left -= 1
            begin = at
            tag, at = self._varint(at, end)
            kind = tag & 7
            if kind == _BYTES:
                length, at = self._varint(at, end)
            elif kind == _VARINT:
                _, after = self._varint(at, end)
                length = after - at
            elif kind in _FIXED:
                length = _FIXED[kind]
            else:
                raise InvalidInput(f"the message is no ModelInferRequest: field of kind {kind}")
            if length > end - at:
                raise InvalidInput("the message is no ModelInferRequest: a field is cut off")
            yield tag >> 3 if kind == _BYTES else 0, begin, at, at + length
            at += length

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                break
            byte = self._data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
        raise InvalidInput("the message is no ModelInferRequest: a number is cut off")


def check_size(data: bytes) -> None:
    """Check that a ``ModelInferRequest`` takes no more than a few times its length in memory.

    Args:
        data: The message, not parsed.

    Raises:
        InvalidInput: It has more fields, names and parameters or numbers in lists than a request
            needs, or is no such message.
    """
    outline = _Outline(data)
    head = listed = 0
    for number, begin, start, end in outline.fields(0, len(data)):
        if number == RAW:
            continue
        if number != INPUT:
            head += end - begin
            continue
        for inner, inner_begin, inner_start, inner_end in outline.fields(start, end):
            if inner != CONTENTS:
                head += inner_end - inner_begin
                continue
            for kind, one_begin, _, one_end in outline.fields(inner_start, inner_end):
                listed += 0 if kind == ELEMENT else one_end - one_begin
    if head > MOST_HEAD_BYTES:
        raise InvalidInput(
            f"names, shapes and parameters of the message take {head} bytes; "
            f"at most {MOST_HEAD_BYTES} are taken"
        )
    if listed > MOST_LISTED_BYTES:
        raise InvalidInput(
            f"numbers in lists take {listed} bytes; at most {MOST_LISTED_BYTES} are taken",
            hint="send large tensors in raw_input_contents",
        )
