"""Images that share runs of the engine, behind a real server."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pytest

from open_inference import images_body, post, rows, tensors
from seatrial.artifact import Artifact, Store
from seatrial.deployment import Batching, CoreLayout, Limits
from seatrial.models.import_onnx import import_onnx
from served_application import serve_application

Metric = Callable[..., float]
Until = Callable[[Callable[[], Any]], Any]
MOST = 4

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture(scope="module")
def open_batch(tmp_path_factory: pytest.TempPathFactory, tiny_model: Any) -> Artifact:
    """The tiny detector with an open batch size."""
    folder = tmp_path_factory.mktemp("open-batch")
    onnx.save(tiny_model(batch="batch"), folder / "tiny.onnx")
    return import_onnx(Store(folder / "store"), folder / "tiny.onnx")


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def batching(request: pytest.FixtureRequest, open_batch: Artifact) -> Iterator[Any]:
    """A service of two lanes, each of which takes four images."""
    layout, limits = CoreLayout(1, 2, 1, wide=False), Limits(deadline_s=30)
    options = Batching(MOST, 20.0)
    with serve_application(
        open_batch, limits, request.param, layout=layout, batching=options
    ) as running:
        yield running


def answers(running: Any, files: list[bytes], until: Until) -> list[Any]:
    """Answers to requests that come while all lanes are busy."""
    with concurrent.futures.ThreadPoolExecutor(len(files)) as pool:
        with running.lanes_held():
            asked = [pool.submit(running.client.post, "/detect", content=file) for file in files]
            until(lambda: running.detector.lanes.waiting == len(files))
        return [one.result() for one in asked]


def size_of(answer: Any) -> int:
    (batch,) = (
        part for part in answer.headers["Server-Timing"].split(", ") if part.startswith("batch")
    )
    return int(batch.partition('desc="')[2].rstrip('"'))


def test_images_in_company_share_runs_and_are_answered_as_alone(
    batching: Any, files: list[bytes], until: Until, metric: Metric
) -> None:
    alone = [batching.client.post("/detect", content=file) for file in files]
    assert [size_of(one) for one in alone] == [1] * len(files)
    sizes, full = (
        metric("seatrial_batch_size_sum"),
        metric("seatrial_batch_released_total", reason="full"),
    )
    runs = metric("seatrial_batch_size_count")
    found = answers(batching, [*files, *files], until)
    assert [one.status_code for one in found] == [200] * 2 * len(files)
    assert [one.json()["detections"] for one in found] == [
        one.json()["detections"] for one in [*alone, *alone]
    ]
    assert [size_of(one) for one in found] == [MOST] * 2 * len(files)
    assert metric("seatrial_batch_size_sum") == sizes + 8
    assert metric("seatrial_batch_size_count") == runs + 2
    assert metric("seatrial_batch_released_total", reason="full") == full + 2
    until(lambda: batching.detector.lanes.present == 0)
    forecast = batching.app.state.serving.live.dispatcher.forecast
    assert sum(forecast._backlog_s) == pytest.approx(0)


def test_a_lone_request_is_not_held_back(batching: Any, files: list[bytes], metric: Metric) -> None:
    idle = metric("seatrial_batch_released_total", reason="idle")
    wait_s = metric("seatrial_batch_wait_seconds_sum")
    for _ in range(5):
        assert batching.client.post("/detect", content=files[0]).status_code == 200
    assert metric("seatrial_batch_released_total", reason="idle") == idle + 5
    assert metric("seatrial_batch_wait_seconds_sum") == wait_s


def test_the_images_of_one_request_share_runs_too(
    batching: Any, files: list[bytes], metric: Metric, until: Until
) -> None:
    runs, images = metric("seatrial_batch_size_count"), metric("seatrial_batch_size_sum")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with batching.lanes_held():
            asked = pool.submit(post, batching, images_body(*files, *files))
            until(lambda: batching.detector.lanes.waiting == 8)
        found = tensors(asked.result())
    single = tensors(post(batching, images_body(files[0])))
    assert found["counts"].tolist() == [2, 0, 1, 1] * 2
    assert rows(found)[: len(rows(single))] == rows(single)
    assert metric("seatrial_batch_size_sum") == images + 9
    assert metric("seatrial_batch_size_count") == runs + 3


def test_what_is_in_force_is_told(batching: Any) -> None:
    told = batching.client.get("/model").json()["batching"]
    assert told == {"max_batch": MOST, "max_delay_ms": 20.0}


def test_the_graph_alone_shares_no_run(batching: Any, until: Until, files: list[bytes]) -> None:
    """A tensor at which the engine fails takes no image with it."""
    detector = batching.detector
    ticket_of: list[Any] = []
    infer = detector.infer

    def noted(feeds: Any, ticket: Any) -> Any:
        ticket_of.append(ticket)
        return infer(feeds, ticket)

    name = detector.artifact.manifest.name
    image = np.zeros((1, 64, 64, 3), np.uint8)
    given = {
        "name": "image", "datatype": "UINT8", "shape": list(image.shape),
        "data": image.ravel().tolist(),
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector, "infer", noted)
        answer = batching.client.post(f"/v2/models/{name}.graph/infer", json={"inputs": [given]})
    assert answer.status_code == 200
    assert "batch" not in answer.headers["Server-Timing"]
    assert not ticket_of[0].joins
