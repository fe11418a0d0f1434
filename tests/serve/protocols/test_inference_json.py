"""Bodies of the Open Inference Protocol: whatever is wrong with one is the fault of its sender."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_inference import GRAPH, INFER, error_of, images_body, post

Running = Any

pytestmark = pytest.mark.usefixtures("time_limit")


IMAGES = {"name": "image", "datatype": "BYTES", "shape": [1]}
TENSOR = {"name": "image", "datatype": "UINT8", "shape": [1, 64, 64, 3]}
WRONG: dict[str, tuple[str, Any, str]] = {
    "no JSON": (INFER, b"nonsense", "the request cannot be read"),
    "empty": (INFER, b"", "the request cannot be read"),
    "deep": (INFER, b'{"inputs": ' + b"[" * 100_000, "the request cannot be read"),
    "deep data": (
        GRAPH, json.dumps({"inputs": [{**TENSOR, "data": 0}]}).encode()
        .replace(b'"data": 0', b'"data": ' + b"[" * 50_000 + b"]" * 50_000), "the request cannot",
    ),
    "a misspelt key": (INFER, {"inputs": [], "output": []}, "the request cannot be read"),
    "no inputs": (INFER, {"inputs": []}, "input 'image' of model 'tiny' is missing"),
    "many objects": (INFER, {"inputs": [IMAGES] * 65}, "more than 64 objects"),
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
        INFER, {"inputs": [], "parameters": {"confidance": 1}}, "image' of model 'tiny' is missing",
    ),
    "a parameter's type": (INFER, {"inputs": [], "parameters": {"iou": [1]}}, "cannot be read"),
    "long parameters": (INFER, {"inputs": [], "parameters": {"x": "y" * 9000}}, "longer than 8192"),
    "priority": (INFER, {"inputs": [], "parameters": {"priority": 3}}, "must be 0, 1 or 2"),
    "timeout": (INFER, {"inputs": [], "parameters": {"timeout": -1}}, "microseconds from 0 to"),
    "a long timeout": (INFER, {"inputs": [], "parameters": {"timeout": 10**30}}, "microseconds"),
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
