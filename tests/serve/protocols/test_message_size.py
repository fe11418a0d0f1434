"""The memory of a message is bounded by its outline, before it is parsed."""

from __future__ import annotations

import time

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from grpc_calls import field, images_request, varint
from seatrial.client.inference_messages import ModelInferRequest
from seatrial.errors import InvalidInput
from seatrial.serve.protocols.message_size import (
    MOST_FIELDS,
    MOST_HEAD_BYTES,
    MOST_LISTED_BYTES,
    check_size,
)

INPUT, OUTPUT, RAW = 5, 6, 7


def test_requests_as_clients_send_them_pass() -> None:
    check_size(b"")
    check_size(images_request(b"x" * 2**20).SerializeToString())
    images = images_request(*[b"x" * 2**18] * 32, raw=False).SerializeToString()
    assert len(images) > MOST_LISTED_BYTES  # they are no numbers
    check_size(images)
    tensor = ModelInferRequest(model_name="tiny.graph")
    one = tensor.inputs.add(name="image", datatype="UINT8", shape=[1, 640, 640, 3])
    one.contents.uint_contents.extend([255] * (640 * 640 * 3))
    check_size(tensor.SerializeToString())


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (field(INPUT, b"") * (MOST_FIELDS + 1), "more than 4096 fields"),
        (field(OUTPUT, b"") * (MOST_FIELDS + 1), "more than 4096 fields"),
        (field(INPUT, field(5, field(8, b"") * (MOST_FIELDS + 1))), "more than 4096 fields"),
        (field(INPUT, field(5, b"\x08\x01" * (MOST_FIELDS + 1))), "more than 4096 fields"),
        (field(INPUT, field(5, field(3, b"\x00" * (MOST_LISTED_BYTES + 1)))), "in lists take"),
        (field(INPUT, field(3, b"\x00" * (MOST_HEAD_BYTES + 1))), "names, shapes and parameters"),
        (field(4, field(1, b"x" * MOST_HEAD_BYTES)), "names, shapes and parameters"),
        (field(OUTPUT, field(2, b"") * 40_000), "names, shapes and parameters"),
        (field(99, b"x" * MOST_HEAD_BYTES), "names, shapes and parameters"),
        (b"\x0b", "field of kind 3"),
        (b"\xff" * 11, "a number is cut off"),
        (b"\x3a\x05abc", "a field is cut off"),
        (b"\x3a\xff\xff\xff\xff\x0f", "a field is cut off"),
        (b"\x0d\x00", "a field is cut off"),
    ],
)
def test_what_would_take_more_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        check_size(data)


def test_the_cost_is_of_fields_and_not_of_bytes() -> None:
    long = field(RAW, bytes(2**24))
    begin = time.process_time()
    check_size(long)
    assert time.process_time() - begin < 0.05


def test_the_worst_that_passes_takes_a_few_times_its_length() -> None:
    """Of each kind of list the one that grows most: eight bytes for one."""
    data = field(INPUT, field(5, field(3, b"\x00" * (MOST_LISTED_BYTES - 8))))
    check_size(data)
    assert len(ModelInferRequest.FromString(data).inputs[0].contents.int64_contents) < 2**22


@given(st.binary(max_size=200))
def test_what_parses_has_an_outline(data: bytes) -> None:
    """Whatever protobuf accepts, apart from groups, passes or is refused for its size."""
    try:
        check_size(data)
    except InvalidInput as error:
        if "of kind 3" in error.message or "of kind 4" in error.message:
            return
        with pytest.raises(DecodeError):
            ModelInferRequest.FromString(data)


@given(st.integers(0, 2**64 - 1), st.integers(1, 2**20))
def test_numbers_of_any_size_are_read(value: int, number: int) -> None:
    check_size(varint(number << 3) + varint(value))
