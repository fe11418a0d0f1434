"""Requests of the Open Inference Protocol: what a service reads."""

from __future__ import annotations

import json

from open_inference import JSON_BYTES, elements
from seatrial.client.inference_wire import ModelName, element, image_request

WANTED = ("boxes", "scores", "class_ids")


def test_a_request_is_its_json_and_the_file_behind_it() -> None:
    headers, body = image_request(
        "image", [1], b"file", outputs=WANTED, parameters={"confidence": 0.4}
    )
    length = int(headers[JSON_BYTES])
    assert json.loads(body[:length]) == {
        "inputs": [
            {"name": "image", "datatype": "BYTES", "shape": [1],
             "parameters": {"binary_data_size": 8}}
        ],
        "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in WANTED],
        "parameters": {"confidence": 0.4},
    }  # fmt: skip
    assert body[length:] == element(b"file") == elements(b"file") == b"\x04\0\0\0file"
    headers, body = image_request("image", [1, 1], b"file")
    told = json.loads(body[: int(headers[JSON_BYTES])])
    assert "outputs" not in told
    assert told["parameters"] == {"binary_data_output": True}


def test_the_path_of_a_name_leads_back_to_it() -> None:
    for model in (ModelName("tiny.graph"), ModelName("a/b c", "1")):
        assert ModelName.of(model.infer_path) == model
    assert ModelName("a/b").infer_path == "/v2/models/a%2Fb/infer"
    assert ModelName("a", "1").path == "/v2/models/a/versions/1"
