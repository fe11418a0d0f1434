"""Requests of the Open Inference Protocol written by hand, and its answers read by hand."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
from PIL import Image

Picture = Callable[..., Image.Image]
Encode = Callable[..., bytes]
Running = Any
JSON_BYTES = "Inference-Header-Content-Length"
INFER = "/v2/models/tiny/infer"
GRAPH = "/v2/models/tiny.graph/infer"
DTYPES = {"FP32": "<f4", "INT64": "<i8", "INT32": "<i4", "UINT8": "u1"}


def elements(*files: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(one)) + one for one in files)


def body_of(
    inputs: list[dict[str, Any]], data: list[bytes], **more: Any
) -> tuple[bytes, dict[str, str]]:
    head = json.dumps({"inputs": inputs, **more}).encode()
    return head + b"".join(data), {JSON_BYTES: str(len(head))}


def images_body(*files: bytes, **more: Any) -> tuple[bytes, dict[str, str]]:
    data = elements(*files)
    tensor = {
        "name": "image", "datatype": "BYTES", "shape": [len(files)],
        "parameters": {"binary_data_size": len(data)},
    }  # fmt: skip
    return body_of([tensor], [data], **more)


def post(running: Running, made: tuple[bytes, dict[str, str]], path: str = INFER) -> httpx.Response:
    response: httpx.Response = running.client.post(path, content=made[0], headers=made[1])
    return response


def tensors(response: httpx.Response) -> dict[str, Any]:
    """Outputs by name, as arrays or lists of bytes, whether they are binary or not."""
    assert response.status_code == 200, response.text
    length = int(response.headers.get(JSON_BYTES, len(response.content)))
    head, rest = json.loads(response.content[:length]), response.content[length:]
    found: dict[str, Any] = {}
    for one in head["outputs"]:
        size = one.get("parameters", {}).get("binary_data_size")
        if size is None:
            value: Any = one["data"]
        else:
            value, rest = rest[:size], rest[size:]
            value = split(value) if one["datatype"] == "BYTES" else value
        if one["datatype"] == "BYTES":
            found[one["name"]] = [x.encode() if isinstance(x, str) else x for x in value]
            assert one["shape"] == [len(value)]
            continue
        dtype = DTYPES[one["datatype"]]
        array = np.frombuffer(value, dtype) if size is not None else np.array(value, dtype)
        found[one["name"]] = array.reshape(one["shape"])
    assert not rest
    return found


def split(data: bytes) -> list[bytes]:
    found = []
    while data:
        size = struct.unpack("<I", data[:4])[0]
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found


def error_of(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/json"
    (key, message), *others = response.json().items()
    assert (key, others) == ("error", [])
    assert isinstance(message, str)
    return message


def rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"box": box, "confidence": score, "class_id": int(class_id), "label": label.decode()}
        for box, score, class_id, label in zip(
            found["boxes"].tolist(), found["scores"].tolist(), found["class_ids"], found["labels"],
            strict=True,
        )
    ]  # fmt: skip


def detected(running: Running, file: bytes, query: str = "") -> list[dict[str, Any]]:
    """The answer of ``POST /detect``, with its numbers as float32 has them."""
    answer = running.client.post(f"/detect{query}", content=file).json()
    return [
        {
            **one,
            "box": np.float32(one["box"]).tolist(),
            "confidence": float(np.float32(one["confidence"])),
        }
        for one in answer["detections"]
    ]


def columns(*answers: dict[str, Any]) -> dict[str, Any]:
    """Answers of ``POST /detect`` as the protocol has them."""
    found = [row for one in answers for row in one["detections"]]
    return {
        "boxes": np.array([row["box"] for row in found], np.float32).tolist(),
        "scores": np.array([row["confidence"] for row in found], np.float32).tolist(),
        "class_ids": [row["class_id"] for row in found],
        "labels": [row["label"] for row in found],
        "counts": [len(one["detections"]) for one in answers],
    }
