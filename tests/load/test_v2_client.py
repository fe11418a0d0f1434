"""The Open Inference Protocol over HTTP, against a real service in the test's process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop
from yarl import URL

import local_http
from open_inference import JSON_BYTES, tensors
from seatrial import __version__
from seatrial.artifact import Artifact
from seatrial.client.inference_wire import ModelName
from seatrial.deployment import Limits
from seatrial.load import http_client
from seatrial.load.arrivals import ClosedLoop
from seatrial.load.http_session import HttpSession
from seatrial.load.images import EncodedImage
from seatrial.load.inference import InferenceModel, InferenceServer, ModelInput
from seatrial.load.run import run_load
from seatrial.load.samples import Reply, Sample
from seatrial.load.v2_client import V2Session, bodies, server_name
from seatrial.load.window import Load, Window
from served_application import Running, serve_application

pytestmark = pytest.mark.usefixtures("time_limit")
TINY, IMAGE = ModelName("tiny"), ModelInput("image", "BYTES", (-1,))


@pytest.fixture(scope="module")
def serving(tiny_artifact: Artifact) -> Iterator[Running]:
    with serve_application(tiny_artifact, Limits(queue=4, deadline_s=30.0)) as running:
        yield running


@pytest.fixture
def images(photo: bytes) -> list[EncodedImage]:
    """One whole image, and one that is none."""
    return [
        EncodedImage("photo.jpg", photo, "image/jpeg", 128, 128),
        EncodedImage("broken.jpg", b"hello", "image/jpeg", 1, 1),
    ]


def talk(
    port: int, job: Callable[[V2Session], Coroutine[Any, Any, Any]], *, timeout_s: float = 60.0
) -> Any:
    async def conversation() -> Any:
        async with HttpSession(8, timeout_s) as http:
            return await job(V2Session(http, URL(f"http://127.0.0.1:{port}")))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(conversation())


def test_a_request_is_what_the_service_reads(serving: Running, images: list[EncodedImage]) -> None:
    """Whole: the lengths fit, and the answer is binary."""
    (body, _) = bodies(IMAGE, images)
    answer = serving.client.post(TINY.infer_path, content=body.data, headers=body.headers)
    assert JSON_BYTES in answer.headers
    assert tensors(answer)["labels"] == [b"red"]
    (pair, _) = bodies(ModelInput("image", "BYTES", (-1, 1)), images)
    length = int(pair.headers[JSON_BYTES])
    assert json.loads(pair.data[:length])["inputs"][0]["shape"] == [1, 1]
    assert pair.data.endswith(images[0].data)


def test_a_server_says_what_it_is_and_has(serving: Running) -> None:
    async def job(session: V2Session) -> Any:
        server: InferenceServer = session
        return (
            await server.ready(),
            await server.server(),
            await server.models(),
            await server.metadata(TINY),
            await server.metadata(ModelName("other")),
        )

    ready, name, models, tiny, other = talk(serving.port, job)
    assert (ready.status, name) == (200, f"seatrial {__version__}")
    assert models == ["tiny", "tiny.graph"]
    assert tiny == InferenceModel("tiny", "seatrial_onnxruntime", (IMAGE,))
    assert isinstance(other, Reply)
    assert other.status == 404
    assert "other" in http_client.refusal(other)


def test_a_server_that_is_not_ready_says_so(serving: Running) -> None:
    health = serving.service.health
    usable, health.usable_lanes = health.usable_lanes, lambda: 0
    try:
        assert talk(serving.port, lambda session: session.ready()).status == 503
    finally:
        health.usable_lanes = usable


def test_a_good_exchange_has_the_number_of_boxes_and_the_stage_times(
    serving: Running, images: list[EncodedImage]
) -> None:
    async def job(session: V2Session) -> Sample:
        return await session.send(session.prepare(TINY, IMAGE, images)[0], 7)

    sample = talk(serving.port, job)
    assert (sample.status, sample.error, sample.detections) == (200, "", 1)
    assert {"decode", "infer", "total"} <= sample.timing_ms.keys()
    assert sample.due_ns == 7
    assert sample.received_bytes > 50


def test_a_refusal_has_the_words_of_the_service(
    serving: Running, images: list[EncodedImage]
) -> None:
    async def job(session: V2Session) -> Any:
        broken = session.prepare(TINY, IMAGE, images)[1]
        return await session.send(broken), await session.refusal(broken)

    sample, said = talk(serving.port, job)
    assert (sample.status, sample.error) == (415, "http-415")
    assert (sample.detections, sample.timing_ms) == (None, None)
    assert "known formats" in said


def test_an_overloaded_service_is_no_broken_connection(
    serving: Running, images: list[EncodedImage]
) -> None:
    async def job(session: V2Session) -> Sample:
        body = session.prepare(TINY, IMAGE, images)[0]
        waiting = [asyncio.create_task(session.send(body)) for _ in range(3)]
        while serving.detector.lanes.present < 4:
            await asyncio.sleep(0.002)
        refused = await session.send(body)
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return refused

    with serving.lanes_held():
        sample = talk(serving.port, job)
    assert (sample.status, sample.error) == (503, "http-503")


def test_a_service_of_another_kind_has_no_name(
    detector: Callable[..., Any], serving: Running
) -> None:
    async def named(url: str) -> str:
        async with HttpSession(1, 10.0) as http:
            return await server_name(http, URL(url))

    assert asyncio.run(named(detector(hold_ms=1).url)) == ""
    assert asyncio.run(named(f"http://127.0.0.1:{serving.port}")).startswith("seatrial ")
    with local_http.client() as client:
        assert client.get(f"http://127.0.0.1:{serving.port}/v2").status_code == 200


class Watcher:
    def opened(self) -> None: ...
    def tick(self) -> None: ...
    def closed(self) -> None: ...


def test_a_load_counts_boxes(serving: Running, images: list[EncodedImage]) -> None:
    load = Load(arrivals=ClosedLoop(2), measure_s=60.0, requests=20, warmup_s=0.0)
    url = URL(f"http://127.0.0.1:{serving.port}{TINY.infer_path}")

    def on_tick(window: Window) -> None:
        pass

    prepared = bodies(IMAGE, images)[:1]
    recording = asyncio.run(run_load(url, prepared, load, Watcher(), on_tick))
    assert [one.error for one in recording.samples] == [""] * 20
    assert all(one.detections == 1 for one in recording.samples)
