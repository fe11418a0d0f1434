"""Calls from messages and answers to them, without a service."""

from __future__ import annotations

import base64
import contextlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpc_calls import images_request
from seatrial.client.inference_messages import ModelInferRequest, ModelInferResponse
from seatrial.errors import InvalidInput
from seatrial.serve.protocols.inference import Output, TensorAnswer
from seatrial.serve.protocols.inference_protobuf import (
    LISTS,
    Listed,
    MessageForm,
    Named,
    read_call,
    read_request,
    write_answer,
)
from seatrial.serve.protocols.tensors import DATATYPES, Signature


def listed(field: str, values: Any) -> Listed:
    request = ModelInferRequest()
    contents = request.inputs.add().contents
    getattr(contents, field).extend(values)
    return Listed(contents)


@pytest.mark.parametrize("dtype", [*LISTS])
def test_numbers_come_out_of_the_list_of_their_type(dtype: str) -> None:
    values = np.array([0, 1, 1]).astype(dtype)
    found = listed(LISTS[dtype], values.tolist()).numbers(np.dtype(dtype), 3)
    assert found.dtype == dtype
    assert (found == values).all()


@pytest.mark.parametrize(
    ("field", "values", "dtype", "count", "text"),
    [
        ("uint_contents", [256], "uint8", 1, "out of the range of UINT8"),
        ("int_contents", [-129], "int8", 1, "out of the range of INT8"),
        ("uint_contents", [1, 2], "uint8", 3, "have 2 elements, and the shape 3"),
        ("int_contents", [1], "uint8", 1, "are in int_contents, and belong into uint_contents"),
        ("fp32_contents", [1.0], "float16", 1, "FP16 has no list"),
    ],
)
def test_numbers_that_do_not_fit(
    field: str, values: list[Any], dtype: str, count: int, text: str
) -> None:
    with pytest.raises(InvalidInput, match=text):
        listed(field, values).numbers(np.dtype(dtype), count)


def test_an_empty_list_has_no_numbers() -> None:
    assert listed("uint_contents", []).numbers(np.dtype("uint8"), 0).shape == (0,)


def test_elements_of_bytes() -> None:
    found = listed("bytes_contents", [b"a", b""]).elements(2)
    assert [bytes(one) for one in found] == [b"a", b""]
    with pytest.raises(InvalidInput, match="have 2 elements"):
        listed("bytes_contents", [b"a", b""]).elements(1)


def test_a_request_becomes_a_call() -> None:
    request = images_request(
        b"x", id="seven", parameters={"confidence": 0.5, "priority": 2, "multi_label": True}
    )
    request.outputs.add(name="boxes")
    call, form = read_call(read_request(request.SerializeToString()))
    assert form == MessageForm("tiny", "seven", True)
    assert call.outputs == ["boxes"]
    assert call.parameters == {"confidence": 0.5, "priority": 2, "multi_label": True}
    assert [(one.name, one.datatype, one.shape) for one in call.inputs] == [
        ("image", "BYTES", (1,))
    ]
    assert [bytes(one) for one in call.inputs[0].content.elements(1)] == [b"x"]


def test_what_triton_clients_say_of_streams_means_nothing_here() -> None:
    request = images_request(b"x", parameters={"triton_enable_empty_final_response": False})
    assert read_call(request)[0].parameters == {}


def test_what_kserve_writes_beside_raw_contents() -> None:
    """Its client for gRPC writes the length of each, as its client for HTTP has to."""
    request = images_request(b"x")
    length = request.inputs[0].parameters["binary_data_size"]
    length.int64_param = 5
    request.outputs.add(name="boxes").parameters["binary_data"].bool_param = True
    call, form = read_call(request)
    assert [bytes(one) for one in call.inputs[0].content.elements(1)] == [b"x"]
    assert form.raw
    length.int64_param = 4
    with pytest.raises(InvalidInput, match=r"said to have 4 bytes .* raw_input_contents have 5"):
        read_call(request)
    listed = images_request(b"x", raw=False)
    listed.inputs[0].parameters["binary_data_size"].int64_param = 1
    with pytest.raises(InvalidInput, match="there are no raw_input_contents"):
        read_call(listed)


@pytest.mark.parametrize(
    ("raw", "of_request", "of_outputs", "answer_raw"),
    [
        (True, None, [], True), (False, None, [], False),
        (True, False, [], False), (False, True, [], True),
        (True, None, [None, None], True), (True, None, [False, False], False),
        (True, False, [None, True], True), (False, True, [False, False], False),
        (False, None, [None, True], True), (True, None, [False, None], True),
    ],
)  # fmt: skip
def test_answers_are_raw_where_it_is_said(
    raw: bool, of_request: bool | None, of_outputs: list[bool | None], answer_raw: bool
) -> None:
    request = images_request(b"x", raw=raw)
    if of_request is not None:
        request.parameters["binary_data_output"].bool_param = of_request
    for name, binary in zip(("boxes", "scores"), of_outputs, strict=False):
        output = request.outputs.add(name=name)
        if binary is not None:
            output.parameters["binary_data"].bool_param = binary
    call, form = read_call(request)
    assert form.raw == answer_raw
    assert call.parameters == {}


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("level", ["input", "request"])
def test_what_mlserver_says_of_its_elements(raw: bool, level: str) -> None:
    """Its codec packs files as base64 and says so; what is none is a file as it is."""
    photo = b"\xff\xd8\xff"
    request = images_request(base64.b64encode(photo), photo, raw=raw)
    at = request.inputs[0] if level == "input" else request
    at.parameters["content_type"].string_param = "base64"
    if raw:
        request.inputs[0].contents.SetInParent()  # it writes empty ones as well
    content = read_call(request)[0].inputs[0].content
    assert [bytes(one) for one in content.elements(2)] == [photo, photo]
    assert content.text_bytes >= 7
    for name in ("str", "np"):
        at.parameters["content_type"].string_param = name
        with pytest.raises(InvalidInput, match=f"content_type '{name}' is not read") as refused:
            read_call(request)
        assert refused.value.hint == "BYTES is read as base64"
    numbers = ModelInferRequest()
    numbers.inputs.add(name="image", datatype="UINT8", shape=[1]).contents.uint_contents.append(7)
    numbers.parameters["content_type"].string_param = "np"
    assert read_call(numbers)[0].inputs[0].content.numbers(np.dtype("uint8"), 1) == [7]


def test_an_id_is_as_long_as_an_answer_repeats() -> None:
    assert read_call(ModelInferRequest(id="x" * 1000))[1].id == "x" * 1000
    with pytest.raises(InvalidInput, match="the id has 1001 characters"):
        read_call(ModelInferRequest(id="x" * 1001))
    told = Named.of(ModelInferRequest(id="i" * 5000, model_name="m" * 5000, model_version="7"))
    assert told == ("i" * 1000, "m" * 1000, "7")


def test_what_contradicts_itself_is_refused() -> None:
    negative = images_request(b"x")
    negative.inputs[0].shape[0] = -1
    unset = images_request(b"x")
    unset.parameters["confidence"].SetInParent()
    of_output = images_request(b"x")
    of_output.outputs.add(name="boxes").parameters["classification"].int64_param = 3
    kind = images_request(b"x")
    kind.inputs[0].parameters["binary_data_size"].string_param = "5"
    of_input = images_request(b"x")
    of_input.inputs[0].parameters["confidence"].double_param = 0.5
    nothing = images_request(b"x")
    nothing.inputs[0].parameters["content_type"].SetInParent()
    for request, text in (
        (negative, "a size is out of range"),
        (unset, "'confidence' has no value"),
        (of_output, "'classification' is not served"),
        (kind, "binary_data_size must be a whole number"),
        (of_input, "'confidence' is not served"),
        (nothing, "input 'image': 'content_type' has no value"),
    ):
        with pytest.raises(InvalidInput, match=text):
            read_call(request)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("dtype", [*LISTS])
def test_answers_are_raw_or_in_lists(dtype: str, raw: bool) -> None:
    data = np.array([[0, 1, 1]]).astype(dtype)
    answer = TensorAnswer(
        [
            Output(Signature("x", DATATYPES[dtype], (1, 3)), data),
            Output(Signature("labels", "BYTES", (-1,)), [b"cat", "übel".encode()]),
        ],
        ["odd"],
    )
    found = ModelInferResponse.FromString(write_answer(answer, MessageForm("m", "1", raw)))
    assert (found.model_name, found.model_version, found.id) == ("m", "1", "1")
    assert found.parameters["warnings"].string_param == "odd"
    assert len(found.raw_output_contents) == (2 if raw else 0)
    if raw:
        assert found.raw_output_contents[0] == data.tobytes()
        assert found.raw_output_contents[1] == b"\x03\0\0\0cat\x05\0\0\0\xc3\xbcbel"
    else:
        assert getattr(found.outputs[0].contents, LISTS[dtype]) == data.ravel().tolist()
        assert list(found.outputs[1].contents.bytes_contents) == [b"cat", "übel".encode()]


def test_half_precision_is_raw_whatever_was_asked() -> None:
    half = Output(Signature("x", "FP16", (2,)), np.array([1, 2], np.float16))
    found = ModelInferResponse.FromString(
        write_answer(TensorAnswer([half]), MessageForm("m", "", False))
    )
    assert found.raw_output_contents[0] == np.array([1, 2], "<f2").tobytes()


@given(st.binary(max_size=300))
def test_garbage_is_an_error_of_ours(data: bytes) -> None:
    with contextlib.suppress(InvalidInput):
        read_call(read_request(data))
