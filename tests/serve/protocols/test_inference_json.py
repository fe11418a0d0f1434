"""Bodies of the Open Inference Protocol: whatever is wrong with one is the fault of its sender."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_inference import (
    GRAPH,
    INFER,
    JSON_BYTES,
    body_of,
    detected,
    error_of,
    images_body,
    post,
    rows,
    tensors,
)
from seatrial.errors import InvalidInput
from seatrial.serve.protocols.inference import Output, TensorAnswer
from seatrial.serve.protocols.inference_json import Form, read_whole, write_answer
from seatrial.serve.protocols.served_models import ProtocolModel
from seatrial.serve.protocols.tensors import Signature

Running = Any

pytestmark = pytest.mark.usefixtures("time_limit")


IMAGES = {"name": "image", "datatype": "BYTES", "shape": [1]}
TENSOR = {"name": "image", "datatype": "UINT8", "shape": [1, 64, 64, 3]}
WRONG: dict[str, tuple[str, Any, str]] = {
    "a long id": (
        INFER, {"inputs": [{**IMAGES, "data": ["AA=="]}], "id": "x" * 1001},
        "the id has 1001 characters; at most 1000",
    ),
    "no JSON": (INFER, b"nonsense", "the request cannot be read"),
    "empty": (INFER, b"", "the request cannot be read"),
    "an image": (INFER, b"\x89PNG{{" * 99, "send Inference-Header-Content-Length: 0"),
    "data behind": (INFER, b'{"inputs": []}' + b"{" * 99, "is the length of the JSON before"),
    "deep": (INFER, b'{"inputs": ' + b"[" * 100_000, "the request cannot be read"),
    "deep data": (
        GRAPH, json.dumps({"inputs": [{**TENSOR, "data": 0}]}).encode()
        .replace(b'"data": 0', b'"data": ' + b"[" * 50_000 + b"]" * 50_000), "the request cannot",
    ),
    "a misspelt key": (INFER, {"inputs": [], "output": []}, "the request cannot be read"),
    "no inputs": (INFER, {"inputs": []}, "input 'image' of model 'tiny' is missing"),
    "many objects": (INFER, {"inputs": [IMAGES] * 65}, "more than 64 opening braces"),
    "another input": (
        INFER, {"inputs": [{**IMAGES, "name": "imag", "data": [1]}]}, "did you mean 'image'?",
    ),
    "twice": (INFER, {"inputs": [{**IMAGES, "data": ["AA=="]}] * 2}, "is given twice"),
    "no data": (INFER, {"inputs": [IMAGES]}, "neither data nor"),
    "no base64": (INFER, {"inputs": [{**IMAGES, "data": ["ä"]}]}, "not BYTES in JSON"),
    "a number for bytes": (INFER, {"inputs": [{**IMAGES, "data": [1]}]}, "not BYTES in JSON"),
    "empty image": (INFER, {"inputs": [{**IMAGES, "data": [""]}]}, "image 0 is empty (0 bytes)"),
    "no images": (INFER, {"inputs": [{**IMAGES, "shape": [0], "data": []}]}, "takes [N]"),
    "a scalar": (INFER, {"inputs": [{**IMAGES, "shape": [], "data": ["AA=="]}]}, "takes [N]"),
    "negative": (INFER, {"inputs": [{**IMAGES, "shape": [-1], "data": ["AA=="]}]}, "out of range"),
    "huge": (INFER, {"inputs": [{**IMAGES, "shape": [2**53], "data": ["AA=="]}]}, "than the 32"),
    "more than huge": (INFER, {"inputs": [{**IMAGES, "shape": [10**40], "data": ["AA=="]}]}, ""),
    "long shape": (INFER, {"inputs": [{**IMAGES, "shape": [1] * 200, "data": ["AA=="]}]}, "longer"),
    "shape and data": (
        INFER, {"inputs": [{**IMAGES, "shape": [2], "data": ["AA=="]}]}, "1 elements, and the",
    ),
    "another type": (INFER, {"inputs": [{**TENSOR, "data": [1]}]}, "takes BYTES"),
    "graph's type": (GRAPH, {"inputs": [{**IMAGES, "data": [1]}]}, "takes UINT8"),
    "graph's shape": (
        GRAPH, {"inputs": [{**TENSOR, "shape": [2, 64, 64, 3], "data": [1]}]}, "takes [1, 64, 64,",
    ),
    "too large a number": (GRAPH, {"inputs": [{**TENSOR, "data": [256] * 12288}]}, "not UINT8"),
    "a fraction": (GRAPH, {"inputs": [{**TENSOR, "data": [0.5] * 12288}]}, "not UINT8"),
    "brackets alone": (GRAPH, {"inputs": [{**TENSOR, "data": [[], 1]}]}, "2 elements"),
    "thresholds for the graph": (
        GRAPH, {"inputs": [], "parameters": {"confidence": 1}}, "not known to 'tiny.graph'",
    ),
    "unknown parameter": (
        INFER, {"inputs": [], "parameters": {"confidance": 1}}, "did you mean 'confidence'?",
    ),
    "a parameter's type": (INFER, {"inputs": [], "parameters": {"iou": [1]}}, "cannot be read"),
    "long parameters": (INFER, {"inputs": [], "parameters": {"x": "y" * 9000}}, "longer than 8192"),
    "priority": (INFER, {"inputs": [], "parameters": {"priority": 3}}, "must be 0, 1 or 2"),
    "timeout": (INFER, {"inputs": [], "parameters": {"timeout": -1}}, "microseconds from 0 to"),
    "a long timeout": (INFER, {"inputs": [], "parameters": {"timeout": 10**30}}, "microseconds"),
    "another model's name": (INFER, {"inputs": [], "model_name": "x"}, "names model 'x', and its"),
    "another version": (INFER, {"inputs": [], "model_version": "2"}, "has no version '2'"),
    "another codec": (
        INFER, {"inputs": [{**IMAGES, "data": ["AA=="], "parameters": {"content_type": "str"}}]},
        "BYTES is read as base64",
    ),
    "another codec of all inputs": (
        INFER,
        {"inputs": [{**IMAGES, "data": ["AA=="]}], "parameters": {"content_type": "str"}},
        "content_type 'str' is not read; BYTES is read as base64",
    ),
    "bytes as numbers": (
        INFER, {"inputs": [{**IMAGES, "data": ["AA=="], "parameters": {"content_type": "np"}}]},
        "BYTES is read as base64",
    ),
    "numbers as bytes": (
        GRAPH, {"inputs": [{**TENSOR, "data": [0]}], "parameters": {"content_type": "base64"}},
        "UINT8 is read as np",
    ),
    "a codec that is no name": (
        INFER, {"inputs": [], "parameters": {"content_type": 1}}, "content_type must be text",
    ),
    "a flag that is none": (
        INFER, {"inputs": [], "parameters": {"binary_data_output": 1}},
        "binary_data_output must be true or false",
    ),
    "a size that is none": (
        INFER, {"inputs": [{**IMAGES, "parameters": {"binary_data_size": "1"}}]},
        "binary_data_size must be a whole number",
    ),
    "a data URL": (
        INFER, {"inputs": [{**IMAGES, "data": ["data:image/png;base64,AA=="]}]}, "a data URL; send",
    ),
    "rows of colours for planes": (
        GRAPH, {"inputs": [{**TENSOR, "data": [[[[1] * 64] * 64] * 3]}]},
        "have 4096 numbers each, which does not fit the shape [1, 64, 64, 3]",
    ),
    "output": (INFER, {"inputs": [], "outputs": [{"name": "box"}]}, "did you mean 'boxes'?"),
    "output twice": (INFER, {"inputs": [], "outputs": [{"name": "boxes"}] * 2}, "asked for twice"),
    "classification": (
        INFER, {"inputs": [], "outputs": [{"name": "boxes", "parameters": {"classification": 3}}]},
        "'classification' is not served",
    ),
    "shared memory": (
        INFER, {"inputs": [{**IMAGES, "parameters": {"shared_memory_region": "a"}}]},
        "'shared_memory_region' is not served",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("request_fields", "input_fields"),
    [
        # What KServe's client writes, and Triton's pages show.
        ({"id": "1", "model_name": "tiny"}, {}),
        ({"model_name": "tiny", "model_version": "1"}, {}),
        # MLServer's.
        (
            {"id": None, "parameters": None, "outputs": None},
            {"shape": [1, 1], "parameters": {"content_type": "base64"}},
        ),
        ({"parameters": {"content_type": "base64"}}, {}),
        # What an input says of itself holds.
        (
            {"parameters": {"content_type": "np", "confidence": ".25"}},
            {"parameters": {"content_type": "base64"}},
        ),
        # Triton's, with each request of a stream.
        ({"parameters": {"triton_enable_empty_final_response": False}}, {}),
    ],
)
def test_what_clients_write_beside_the_tensors(
    running: Running,
    files: list[bytes],
    request_fields: dict[str, Any],
    input_fields: dict[str, Any],
) -> None:
    # As MIME writes it; JSON escapes the line ends.
    data = [base64.encodebytes(files[0]).decode()]
    body = {"inputs": [{**IMAGES, "data": data, **input_fields}], **request_fields}
    response = running.client.post(INFER, json=body)
    assert rows(tensors(response)) == detected(running, files[0])
    assert response.json().get("id") == request_fields.get("id")


def test_an_array_with_the_name_of_its_codec(running: Running) -> None:
    image = {**TENSOR, "parameters": {"content_type": "np"}, "data": [0] * 12288}
    assert tensors(running.client.post(GRAPH, json={"inputs": [image]}))
    body = {"inputs": [{**TENSOR, "data": [0] * 12288}], "parameters": {"content_type": "np"}}
    assert tensors(running.client.post(GRAPH, json=body))


def test_binary_data_that_are_base64_say_so(running: Running, files: list[bytes]) -> None:
    """And files as they are, which some clients' codec leaves so, are read as such."""
    packed = base64.b64encode(files[0])
    for sent in (files[0], packed):
        made = images_body(sent, files[0], parameters={"content_type": "base64"})
        found = rows(tensors(post(running, made)))
        assert found == 2 * detected(running, files[0])
    assert post(running, images_body(packed)).status_code == 415


def test_a_length_within_the_json_is_named(running: Running, files: list[bytes]) -> None:
    body, _ = images_body(files[0])
    response = post(running, (body, {JSON_BYTES: "20"}))
    assert response.status_code == 400
    assert "is the length of the JSON before binary data" in error_of(response)


WHOLE = {JSON_BYTES: "0"}


def test_a_body_without_json_is_the_only_input(running: Running, files: list[bytes]) -> None:
    """Triton's raw binary request: of BYTES one element without its length."""
    found = post(running, (files[0], WHOLE))
    assert found.headers["content-type"] == "application/octet-stream"
    assert rows(tensors(found)) == detected(running, files[0])
    pixels = np.arange(64 * 64 * 3, dtype=np.uint8)
    tensor = {**TENSOR, "parameters": {"binary_data_size": pixels.size}}
    with_json = post(running, body_of([tensor], [pixels.tobytes()]), GRAPH)
    alone = post(running, (pixels.tobytes(), WHOLE), GRAPH)
    expected = tensors(with_json)
    for name, value in tensors(alone).items():
        assert np.array_equal(value, expected[name])


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        (INFER, b"", 400, "image 0 is empty"),
        (INFER, b'{"inputs": []}', 415, "it is JSON"),
        (GRAPH, bytes(5), 400, "5 bytes are no 12288 elements of UINT8"),
        (GRAPH, b"", 400, "0 bytes are no 12288 elements of UINT8"),
    ],
)
def test_what_is_wrong_with_such_a_body(
    running: Running, path: str, body: bytes, status: int, said: str
) -> None:
    response = post(running, (body, WHOLE), path)
    assert response.status_code == status
    assert said in error_of(response)


@pytest.mark.parametrize("shape", [(-1, 2), (2, -1), (2, 2)])
def test_the_free_size_of_such_a_body_follows_from_its_length(shape: tuple[int, ...]) -> None:
    taken = Signature("x", "FP32", shape)
    model = ProtocolModel("m", "graph", "p", (taken,), ())
    call, form = read_whole(np.arange(4, dtype="<f4").tobytes(), model)
    (only,) = call.inputs
    assert only.array(taken).tolist() == [[0, 1], [2, 3]]
    assert form.binary_otherwise


def test_such_a_body_has_one_free_size_at_most() -> None:
    model = ProtocolModel("m", "graph", "p", (Signature("x", "FP32", (-1, -1)),), ())
    with pytest.raises(InvalidInput, match="which the body does not say"):
        read_whole(bytes(16), model)


def test_such_a_body_is_for_one_input() -> None:
    two = (Signature("a", "FP32", (1,)), Signature("b", "FP32", (1,)))
    with pytest.raises(InvalidInput, match="has 2 inputs"):
        read_whole(bytes(8), ProtocolModel("m", "graph", "p", two, ()))


def test_numbers_that_json_has_not_are_named() -> None:
    made = [
        Output(Signature(name, "FP32", (2,)), np.array(data, np.float32))
        for name, data in (("a", [1, np.inf]), ("b", [np.nan, 2]), ("c", [3, 4]))
    ]
    form = Form("m", "", frozenset("b"), binary_otherwise=False)
    body, length = write_answer(TensorAnswer(made, ["odd"]), form)
    head = json.loads(body[:length])
    assert [row.get("data") for row in head["outputs"]] == [[1.0, None], None, [3.0, 4.0]]
    assert head["parameters"]["warnings"] == "odd; output a: NaN and infinity are null in JSON"


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_request(running: Running, name: str) -> None:
    path, body, said = WRONG[name]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = running.client.post(path, content=content)
    assert response.status_code == 400
    assert said in error_of(response)
    assert running.detector.lanes.present == 0


@given(st.floats(0, 1), st.integers(0, 255), st.booleans())
@settings(max_examples=100)
def test_a_good_body_with_a_byte_changed_or_taken_away(
    running: Running, files: list[bytes], where: float, value: int, keep: bool
) -> None:
    body, headers = images_body(files[0])
    at = int(where * 300)
    changed = body[:at] + bytes([value]) * keep + body[at + 1 :]
    response = post(running, (changed, headers))
    assert response.status_code == 200 or 400 <= response.status_code < 500
    if response.status_code != 200:
        error_of(response)
