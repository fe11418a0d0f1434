"""Tensors as they were sent: sizes that lie, in binary."""

from __future__ import annotations

import base64
import json
import struct
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_inference import GRAPH, INFER, body_of, error_of, post
from seatrial.errors import InvalidInput
from seatrial.serve.protocols import tensors as module
from seatrial.serve.protocols.tensors import (
    DATATYPES,
    DTYPES,
    Binary,
    Given,
    Json,
    Signature,
    _check_nesting,
)

Running = Any

pytestmark = pytest.mark.usefixtures("time_limit")


BODIES = st.tuples(
    st.integers(-2, 3000), st.lists(st.integers(-3, 2**70), max_size=3), st.binary(max_size=300)
)


@given(BODIES, st.sampled_from(["BYTES", "UINT8", "FP32", "BF16"]), st.sampled_from([INFER, GRAPH]))
@settings(max_examples=150)
def test_any_binary_data(
    running: Running, drawn: tuple[int, list[int], bytes], datatype: str, path: str
) -> None:
    size, shape, data = drawn
    tensor = {"name": "image", "datatype": datatype, "shape": shape}
    tensor["parameters"] = {"binary_data_size": size}
    response = post(running, body_of([tensor], [data]), path)
    assert 400 <= response.status_code < 500
    error_of(response)


@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=40)), max_size=6), st.data()
)
@settings(max_examples=150)
def test_elements_that_lie_about_their_sizes(
    running: Running, drawn: list[tuple[int, bytes]], more: Any
) -> None:
    data = b"".join(struct.pack("<I", size) + content for size, content in drawn)
    data = data[: more.draw(st.integers(0, len(data)))]
    tensor = {
        "name": "image", "datatype": "BYTES", "shape": [more.draw(st.integers(1, 32))],
        "parameters": {"binary_data_size": len(data)},
    }  # fmt: skip
    response = post(running, body_of([tensor], [data]))
    assert 400 <= response.status_code < 500
    error_of(response)


@pytest.mark.parametrize("shape", [(4,), (2, 2), (1, 4), (2, 1, 2)])
@pytest.mark.parametrize("dtype", sorted(DTYPES.values()))
def test_every_type_by_both_ways(dtype: str, shape: tuple[int, ...]) -> None:
    wanted = np.array([0, 1, 1, 0], dtype).reshape(shape)
    listed = [wanted.tolist(), wanted.ravel().tolist(), [wanted.ravel().tolist()]]
    nested = [Json(as_json(one), shape) for one in listed]
    for content in (Binary(memoryview(wanted.tobytes())), *nested):
        signature = Signature("x", DATATYPES[dtype], (-1,) * len(shape))
        found = Given("x", DATATYPES[dtype], shape, content).array(signature)
        assert found.dtype == wanted.dtype
        assert (found == wanted).all()
        assert found.flags.aligned
        assert found.flags.c_contiguous


def as_json(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        ("uint8", [256]), ("uint8", [-1]), ("uint8", [0.5]), ("int64", [2**63]),
        ("float32", [1e39]), ("float16", [70000.0]), ("bool", [1]), ("float32", ["1"]),
        ("float32", [None]), ("float32", [True]), ("float32", [{}]), ("float32", "1"),
    ],
)  # fmt: skip
def test_numbers_that_the_type_has_not(dtype: str, data: object) -> None:
    with pytest.raises(InvalidInput):
        Json(as_json(data)).numbers(np.dtype(dtype), 1)


@pytest.mark.parametrize("data", [[], [[]], [[], []], [1, 2], [[1], [2]], [[[1, 2]]], [[1, []]]])
def test_numbers_that_are_more_or_fewer(data: object) -> None:
    with pytest.raises(InvalidInput):
        Json(as_json(data)).numbers(np.dtype("float32"), 1)


@pytest.mark.parametrize(
    ("shape", "nested"),
    [((2, 3), (3, 2)), ((1, 3, 4), (1, 4, 3)), ((3, 8), (6, 4)), ((4,), (2, 2))],
)
def test_numbers_that_are_nested_otherwise_than_the_shape(
    shape: tuple[int, ...], nested: tuple[int, ...]
) -> None:
    """Without their brackets they would change places."""
    data = np.zeros(nested).tolist()
    with pytest.raises(InvalidInput, match=f"lists of the data have {nested[-1]} numbers each"):
        Json(as_json(data), shape).numbers(np.dtype("float32"), int(np.prod(shape)))


@pytest.mark.parametrize(
    "nested",
    [
        (24,),
        (1, 24),
        (1, 2, 12),
        (1, 2, 4, 3),
        (2, 4, 3),
        (8, 3),
        (1, 8, 3),
        (24, 1),
        (1, 1, 2, 4, 3),
    ],
)
def test_a_list_may_hold_dimensions_that_follow_one_another(nested: tuple[int, ...]) -> None:
    for sent in (np.arange(24), np.zeros(24, int), np.full(24, -(10**9))):
        given = Json(as_json(sent.reshape(nested).tolist()), (1, 2, 4, 3))
        assert given.numbers(np.dtype("int64"), 24).tolist() == sent.tolist()


FIRST_RIGHT = ",".join(str(number) for number in range(3, 24))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        # Rows and columns in each other's place: the innermost lists are of one length.
        (np.zeros((1, 4, 2, 3)).tolist(), "have 6 numbers each"),
        (np.zeros((4, 2, 3)).tolist(), "have 6 numbers each"),
        (np.zeros((1, 1, 1, 2, 4, 3)).tolist(), "are 6 deep"),
        # The first lists are right, and others are not.
        (f"[[[[0,1,2]]],{FIRST_RIGHT}]", "have 3 numbers each"),
        (f"[[[[0,1,2],{FIRST_RIGHT}]]]", "differ in their lengths"),
        (f"[[[[[[[[[0,1,2]]]]]]]],{FIRST_RIGHT}]", "are 9 deep"),
        ([[[[0] * 3] * 4, [[0] * 3, [0] * 2, [0] * 4, [0] * 3]]], "differ in their lengths"),
        ([[[[0] * 3] * 4, [[0] * 3] * 3 + [[[0], [0], [0]]]]], "differ in their lengths"),
        ([[[[0] * 3] * 4, [[0] * 3] * 3, [[0] * 3]]], "differ in their lengths"),
        (np.zeros((2, 1, 4, 3)).tolist(), "have 12 numbers each"),
        ([[[0, 0, 0]], *[0] * 21], "have 3 numbers each"),
        ([[0, 0, 0], *[0] * 21], "differ in their lengths"),
    ],
)
def test_lists_are_as_the_shape_at_all_levels(data: Any, said: str) -> None:
    text = data.encode() if isinstance(data, str) else msgspec.json.encode(data)
    for spaced in (text, text.replace(b",", b" ,\n").replace(b"[", b"\t[ ")):
        with pytest.raises(InvalidInput, match=said):
            Json(msgspec.Raw(spaced), (1, 2, 4, 3)).numbers(np.dtype("float32"), 24)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 10**6 + b"]" * 10**6,
        # The first list asks for many more marks than there are.
        b"[[[[1]]]" + b",1" * (10**6 - 1) + b"]",
        b"[" + b"[1]," * (10**6 - 1) + b"1]",
    ],
)
def test_brackets_take_memory_as_their_length(text: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput, match="lists of the data"):
            _check_nesting(text, (1, 1, 1, 1, 1, 10**6, 1, 1))
        assert tracemalloc.get_traced_memory()[1] < 4 * len(text)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data", [["Y["], ["Y]Q=="], ["YQ"], [["YQ==", "YQ=="]], [[["YQ=="]]], "YQ=="]
)
def test_strings_that_are_no_base64(data: object) -> None:
    with pytest.raises(InvalidInput):
        Json(as_json(data)).elements(1)


def test_strings_of_base64() -> None:
    for data in (["YQ==", "YmM="], [["YQ=="], ["YmM="]], ["Y\r\nQ==\n", " YmM= "]):
        assert [bytes(one) for one in Json(as_json(data)).elements(2)] == [b"a", b"bc"]


@pytest.mark.parametrize("between", [" ", "\n", "\t\r\n"])
def test_base64_in_pieces_takes_memory_as_its_length(between: str) -> None:
    """One string of Python for each piece would take thirty times as much, and seconds."""
    count = 400_000
    text = ("AA" + between) * (2 * count)
    content = Json(as_json([text]))
    tracemalloc.start()
    try:
        assert content.elements(1) == [memoryview(bytes(3 * count))]
        assert tracemalloc.get_traced_memory()[1] < 6 * len(memoryview(content.data))
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("end", ["", "AA==", "AAA="])
def test_base64_that_is_long_is_decoded_in_pieces(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE_CHARACTERS", 8)
    for length in range(0, 40, 4):
        text = "YWJj" * (length // 4) + end
        assert Json(as_json([text])).elements(1) == [memoryview(base64.b64decode(text))]
    for wrong in ("YWJjAA==YWJj", "YWJjYWJjY", "YWJjYWJj=", "YWJjYWJj====YWJj"):
        with pytest.raises(InvalidInput, match="not BYTES in JSON"):
            Json(as_json([wrong])).elements(1)


def test_numbers_are_counted_before_they_are_decoded() -> None:
    """A list of Python is far larger than its JSON."""
    content = Json(msgspec.Raw(b"[" + b"0.5," * 2_000_000 + b"0.5]"))
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput, match="the data have 2000001 elements, and the shape 5"):
            content.numbers(np.dtype("float32"), 5)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000  # of text; the list would take 80
    finally:
        tracemalloc.stop()


def test_a_bool_of_another_byte_is_refused() -> None:
    with pytest.raises(InvalidInput, match="neither 0 nor 1"):
        Binary(memoryview(b"\x02")).numbers(np.dtype("bool"), 1)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_numbers_in_json_are_decoded_in_short_pieces_one_at_a_time(
    monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    """Each piece holds Python's lock; those of all requests together are in one row."""
    count = 50_000
    wanted = (np.arange(count) % 251).astype(dtype)
    text = as_json(wanted.tolist())
    lengths: list[int] = []
    going = threading.Semaphore(1)
    real = msgspec.json.decode

    def decode(data: bytes, **options: Any) -> Any:
        assert going.acquire(blocking=False)
        lengths.append(len(data))
        time.sleep(1e-3)  # others come meanwhile
        found = real(data, **options)
        going.release()
        return found

    monkeypatch.setattr(msgspec.json, "decode", decode)
    with ThreadPoolExecutor(4) as pool:
        made = [pool.submit(Json(text, (count,)).numbers, np.dtype(dtype), count) for _ in range(4)]
        for one in made:
            assert (one.result() == wanted).all()
    assert max(lengths) < module.PIECE_OF_NUMBERS + 32
    assert len(lengths) >= 4 * memoryview(text).nbytes // (module.PIECE_OF_NUMBERS + 32)


@pytest.mark.parametrize(
    ("dtype", "text", "said"),
    [
        ("float32", b"null", "Expected `float`, got `null`"),
        ("float32", b"1e39", "1e+39 is out of range"),
        ("float16", b"65520", "65520.0 is out of range"),
        ("uint8", b"256", "256 is out of range"),
        ("uint8", b"-1", "-1 is out of range"),
        ("uint8", b"1.5", "Expected `int`, got `float`"),
        ("int32", b"2147483648", "2147483648 is out of range"),
        ("bool", b"3", "Expected `bool`, got `int`"),
    ],
)
@pytest.mark.parametrize("before", [0, 10, 60_000])
def test_a_wrong_number_is_named_by_its_place_in_the_tensor(
    dtype: str, text: bytes, said: str, before: int
) -> None:
    """Also far behind the first piece, and where lists are nested."""
    plain = b"false" if dtype == "bool" else b"1"
    numbers = [plain] * before + [text, plain]
    rows = b"],[".join(b",".join(numbers[at : at + 2]) for at in range(0, len(numbers), 2))
    for data, shape in ((b"[%b]" % b",".join(numbers), (before + 2,)),
                        (b"[[%b]]" % rows, (before // 2 + 1, 2))):  # fmt: skip
        with pytest.raises(InvalidInput, match="in JSON: ") as refusal:
            Json(msgspec.Raw(data), shape).numbers(np.dtype(dtype), before + 2)
        assert refusal.value.message.endswith(f"element {before}: {said}")


def test_a_text_among_numbers_is_said_to_be_none() -> None:
    for text in (b'"1"', b'"1,2"'):
        data = b"[%b]" % b",".join([b"1"] * 40_000 + [text])
        with pytest.raises(InvalidInput, match=r"element 40000: Expected `int`, got `str`"):
            Json(msgspec.Raw(data)).numbers(np.dtype("int32"), data.count(b",") + 1)
    with pytest.raises(InvalidInput, match=r"element \d+ or one behind it is not a number"):
        data = b'["%b"]' % b",".join([b"1"] * 80_000)
        Json(msgspec.Raw(data)).numbers(np.dtype("int32"), 80_000)


@pytest.mark.parametrize("piece", [0, 1, 3, 7])
@pytest.mark.parametrize(
    ("text", "count"),
    [(b"[1,2,3]", 3), (b"[1,2,]", 3), (b"[,1,2]", 3), (b"[1,,2]", 3), (b"[1,2 3]", 2), (b"[]", 0),
     (b"[1,256]", 2), (b"[1,-1]", 2), (b"[1,2.5]", 2), (b"[ 1 , 2 ]", 2), (b"[1,true]", 2)],
)  # fmt: skip
def test_pieces_are_what_the_whole_is(
    monkeypatch: pytest.MonkeyPatch, piece: int, text: bytes, count: int
) -> None:
    monkeypatch.setattr(module, "PIECE_OF_NUMBERS", piece)
    try:
        wanted = np.array(json.loads(text), np.uint8)
        bad = text in (b"[1,2.5]", b"[1,true]")
    except (ValueError, OverflowError):
        bad = True
    content = Json(msgspec.Raw(text), (count,))
    if not bad:
        assert (content.numbers(np.dtype(np.uint8), count) == wanted).all()
        return
    with pytest.raises(InvalidInput, match=r"UINT8 in JSON|2 elements, and the shape 3"):
        content.numbers(np.dtype(np.uint8), count)
