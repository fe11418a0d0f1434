"""Calls of the Open Inference Protocol: images and tensors in, boxes and tensors out."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

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
from seatrial.deployment import Limits
from seatrial.detect.detections import label_of

Running = Any

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.mark.parametrize("way", ["binary", "json"])
def test_boxes_are_those_of_detect(running: Running, files: list[bytes], way: str) -> None:
    if way == "binary":
        response = post(running, images_body(files[0], parameters={"binary_data_output": True}))
        assert response.headers["content-type"] == "application/octet-stream"
    else:
        text = base64.b64encode(files[0]).decode()
        tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}
        response = running.client.post(INFER, json={"id": "7", "inputs": [tensor]})
        assert response.headers["content-type"] == "application/json"
        assert response.json()["id"] == "7"
        assert response.json()["model_name"] == "tiny"
    found = tensors(response)
    wanted = detected(running, files[0])
    assert len(wanted) == 2
    assert rows(found) == wanted
    assert found["counts"].tolist() == [2]
    assert "infer;dur=" in response.headers["server-timing"]


def test_nothing_found_is_empty_and_has_its_shape(running: Running, files: list[bytes]) -> None:
    for binary in (True, False):
        parameters = {"binary_data_output": binary}
        found = tensors(post(running, images_body(files[1], parameters=parameters)))
        assert found["boxes"].shape == (0, 4)
        assert (found["labels"], found["counts"].tolist()) == ([], [0])


def test_the_outputs_that_are_asked_for(running: Running, files: list[bytes]) -> None:
    wanted = [{"name": "scores", "parameters": {"binary_data": True}}, {"name": "labels"}]
    response = post(running, images_body(files[0], outputs=wanted))
    assert set(tensors(response)) == {"scores", "labels"}
    length = int(response.headers[JSON_BYTES])
    by_name = {one["name"]: one for one in json.loads(response.content[:length])["outputs"]}
    assert by_name["scores"]["parameters"] == {"binary_data_size": 8}
    assert sorted(by_name["labels"]["data"]) == ["blue", "red"]


@pytest.mark.parametrize("way", ["binary", "flat", "nested"])
def test_the_graph_takes_its_own_tensors(running: Running, way: str) -> None:
    canvas = np.full((1, 64, 64, 3), 114, np.uint8)
    canvas[0, 16:24, 24:32] = (255, 0, 0)
    tensor: dict[str, Any] = {"name": "image", "datatype": "UINT8", "shape": [1, 64, 64, 3]}
    if way == "binary":
        tensor["parameters"] = {"binary_data_size": canvas.nbytes}
        response = post(running, body_of([tensor], [canvas.tobytes()]), GRAPH)
    else:
        tensor["data"] = (canvas.ravel() if way == "flat" else canvas).tolist()
        response = running.client.post(GRAPH, json={"inputs": [tensor]})
    lane = running.detector.engine.narrow[0]
    wanted = lane.infer({"image": canvas})["output0"]
    found = tensors(response)["output0"]
    assert found.shape == wanted.shape
    assert found.dtype == np.float32
    assert (found == wanted).all()


def test_thresholds_are_parameters(running: Running, files: list[bytes]) -> None:
    for parameters, query in (
        ({"confidence": 0.999999}, "?confidence=0.999999"),
        ({"max_detections": 1}, "?max_detections=1"),
        ({"max_detections": "1", "iou": 0, "multi_label": True},
         "?max_detections=1&iou=0&multi_label=true"),
    ):  # fmt: skip
        found = tensors(post(running, images_body(files[0], parameters=parameters)))
        assert rows(found) == detected(running, files[0], query)
        assert len(rows(found)) < 2


@pytest.mark.parametrize("unknown", ["confidance", "sequence_id", "confidence "])
def test_a_parameter_that_is_not_known_is_not_passed_over(
    running: Running, files: list[bytes], unknown: str
) -> None:
    response = post(running, images_body(files[0], parameters={unknown: 1}))
    assert response.status_code == 400
    assert f"parameters: {unknown!r} is not known" in error_of(response)


def test_an_image_that_is_none_is_named(running: Running, files: list[bytes]) -> None:
    response = post(running, images_body(files[0], files[0], files[0][:200], files[0]))
    assert response.status_code == 422
    assert error_of(response).startswith("image 2: ")
    response = post(running, images_body(b"hello"))
    assert response.status_code == 415
    assert running.detector.lanes.present == 0


def test_so_many_images_and_no_more(run_app: Callable[..., Any], files: list[bytes]) -> None:
    with run_app(Limits(images=3)) as running:
        assert post(running, images_body(*files[:3])).status_code == 200
        response = post(running, images_body(*files))
        assert response.status_code == 400
        assert "4 images are more than the 3" in error_of(response)


def test_a_timeout_of_the_protocol_is_a_deadline(
    run_app: Callable[..., Any], files: list[bytes]
) -> None:
    with run_app() as running, running.lanes_held():
        response = post(running, images_body(files[0], parameters={"timeout": 200_000}))
        assert response.status_code == 504
        assert "not answered within 0.2 s" in error_of(response)
        response = post(running, images_body(*files, parameters={"timeout": 200_000}))
        assert response.status_code == 504
        assert "not answered within 0.2 s" in error_of(response)
        # What is known to be late is refused before it waits.
        response = post(running, images_body(*files[:3], parameters={"timeout": 1}))
        assert response.status_code in (503, 504)


def test_labels_are_those_of_the_artifact(running: Running, files: list[bytes]) -> None:
    found = tensors(post(running, images_body(files[0])))
    labels = running.detector.artifact.manifest.labels
    assert [one.decode() for one in found["labels"]] == [
        label_of(int(class_id), labels) for class_id in found["class_ids"]
    ]
