"""Tensors in answers of the Open Inference Protocol, and answers that are none."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from open_inference import JSON_BYTES, elements
from seatrial.client.inference_tensors import read_tensors
from seatrial.errors import ServiceFailed

WANTED = ("boxes", "scores", "class_ids")
BOXES = np.array([[1, 2, 3, 4], [5, 6, 7, 8.5]], "<f4")
SCORES = np.array([0.75, 0.5], "<f4")
IDS = np.array([2, 0], "<i8")


def answer(**changes: Any) -> tuple[dict[str, str], bytes]:
    """An answer whose outputs come in another order than they are wanted in."""
    arrays = {"class_ids": IDS, "labels": np.array(elements(b"a", b"bc")), "boxes": BOXES,
              "scores": SCORES}  # fmt: skip
    kinds = {"class_ids": "INT64", "labels": "BYTES", "boxes": "FP32", "scores": "FP32"}
    outputs = [
        {
            "name": name, "datatype": kinds[name], "shape": list(array.shape),
            "parameters": {"binary_data_size": len(array.tobytes())},
        }
        for name, array in arrays.items()
    ]  # fmt: skip
    for one in outputs:
        one.update(changes.get(one["name"], {}))
    head = json.dumps({"model_name": "tiny", "outputs": outputs}).encode()
    return (
        {JSON_BYTES.lower(): str(len(head))},
        head + b"".join(array.tobytes() for array in arrays.values()),
    )


def test_tensors_are_found_by_their_names() -> None:
    boxes, scores, class_ids = read_tensors("here", *answer(), WANTED)
    assert boxes.tolist() == BOXES.tolist()
    assert (scores.tolist(), scores.dtype) == (SCORES.tolist(), np.float32)
    assert (class_ids.tolist(), class_ids.dtype) == (IDS.tolist(), np.int64)


def test_an_answer_without_objects_is_json_alone() -> None:
    """As Triton sends it: without the header, since no bytes follow the JSON."""
    shapes = {"boxes": (0, 4), "scores": (0,), "class_ids": (0,)}
    nothing = {"parameters": {"binary_data_size": 0}}
    outputs = [
        {"name": name, "datatype": "FP32", "shape": shape, **nothing}
        for name, shape in shapes.items()
    ]
    found = read_tensors("here", {}, json.dumps({"outputs": outputs}).encode(), WANTED)
    assert [array.shape for array in found] == list(shapes.values())


def test_what_is_no_such_answer_is_an_error() -> None:
    headers, body = answer()
    wrong: list[tuple[dict[str, str], bytes]] = [
        ({}, body),
        (headers, body[:-1]),
        (headers, b"<html>"),
        ({JSON_BYTES.lower(): "-1"}, body),
        answer(boxes={"name": "other"}),
        answer(boxes={"shape": [3, 4]}),
        answer(scores={"datatype": "FP8"}),
        answer(scores={"shape": [int("9" * 400)]}),
        (headers, body.replace(np.float32(0.75).tobytes(), np.float32("nan").tobytes())),
        answer(scores={"parameters": {}}),
    ]
    for one in wrong:
        with pytest.raises(ServiceFailed, match="here does not answer with the tensors boxes, sco"):
            read_tensors("here", *one, WANTED)
