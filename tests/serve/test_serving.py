"""One service takes the place of another between two requests."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from dimmed_artifacts import dimmed_artifact
from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment
from seatrial.errors import NotSwapped
from seatrial.serve.canary import Canary
from seatrial.serve.metrics import MODEL
from seatrial.serve.service import Service
from seatrial.serve.startup import open_service
from seatrial.serve.watchdog import MOST_STUCK
from served_application import Running

Until = Callable[[Callable[[], Any]], Any]
DIGEST = "X-Model-Digest"

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture(scope="module")
def dimmed(tiny_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return dimmed_artifact(tiny_model, tmp_path_factory.mktemp("dimmed"), 0.6, "dimmed")


@pytest.fixture
def replace() -> Callable[[Running, Artifact], threading.Thread]:
    """Has a running application serve another artifact."""

    def replaced(running: Running, artifact: Artifact) -> threading.Thread:
        layout = CoreLayout(1, 1, 1, wide=False)
        deployment = Deployment("other", engine="onnxruntime", layout=layout)
        service = open_service(artifact, deployment, beside=running.service)
        done: list[threading.Thread] = []
        switched = threading.Event()

        def switch() -> None:
            done.append(running.app.state.serving.replace(service))
            switched.set()

        running.loop.call_soon_threadsafe(switch)
        assert switched.wait(30)
        return done[0]

    return replaced


def confidence(response: httpx.Response) -> float:
    assert response.status_code == 200, response.text
    found: float = response.json()["detections"][0]["confidence"]
    return found


def test_a_request_keeps_the_service_that_it_began_with(
    run_app: Callable[..., Any],
    tiny_artifact: Artifact,
    dimmed: Artifact,
    photo: bytes,
    replace: Callable[..., threading.Thread],
    until: Until,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with run_app() as running, ThreadPoolExecutor() as pool:
        bright = running.client.post("/detect", content=photo)
        assert bright.headers[DIGEST] == tiny_artifact.digest
        before: Service = running.service
        engine = before.dispatcher.detector.engine
        with running.lanes_held():
            early = pool.submit(running.client.post, "/detect", content=photo)
            until(lambda: before.dispatcher.detector.lanes.waiting)
            leaving = replace(running, dimmed)
            late = running.client.post("/detect", content=photo)
            assert late.headers[DIGEST] == dimmed.digest
            assert confidence(late) == pytest.approx(0.6 * confidence(bright), abs=0.01)
            assert not early.done()
            assert running.app.state.serving.running  # the end of the process would wait for it
        answer = early.result(30)
        assert answer.headers[DIGEST] == tiny_artifact.digest
        assert confidence(answer) == confidence(bright)
        leaving.join(30)
        assert "still computes" not in capfd.readouterr().err  # it was waited for
        assert engine.narrow == ()
        assert before.dispatcher.detector.lanes.usable == 0


def test_what_is_told_follows_and_the_protocols_name_stays(
    run_app: Callable[..., Any],
    tiny_artifact: Artifact,
    dimmed: Artifact,
    photo: bytes,
    replace: Callable[..., threading.Thread],
) -> None:
    with run_app() as running:
        first = running.client.get("/model")
        assert first.headers[DIGEST] == first.json()["digest"] == tiny_artifact.digest
        replace(running, dimmed).join(30)
        told = running.client.get("/model")
        assert told.json()["name"] == "dimmed"
        assert told.headers[DIGEST] == told.json()["digest"] == dimmed.digest
        assert told.json()["layout"] == first.json()["layout"]
        assert running.client.get("/readyz").status_code == 200
        assert running.client.get("/v2/models/tiny").json()["name"] == "tiny"
        assert running.client.get("/v2/models/dimmed").status_code == 404

        for described, served in ((first.json(), 0), (told.json(), 1)):
            labels = {key: described[key] for key in MODEL}
            assert REGISTRY.get_sample_value("seatrial_model_info", labels) == served


def test_a_service_that_left_cannot_end_the_process(
    run_app: Callable[..., Any], dimmed: Artifact, replace: Callable[..., threading.Thread]
) -> None:
    with run_app() as running:
        before = running.service
        replace(running, dimmed).join(30)
        before.watchdog.on_hopeless("its lanes are gone")
        assert running.client.get("/readyz").status_code == 200
        running.service.watchdog.on_hopeless("no lane works")
        assert running.client.get("/livez").text == "no lane works\n"


def test_a_service_that_cannot_be_closed_keeps_no_other_out(
    run_app: Callable[..., Any], dimmed: Artifact, replace: Callable[..., threading.Thread],
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """No model is loaded beside one that leaves."""
    with run_app() as running:
        serving = running.app.state.serving
        detector, close = running.detector, running.detector.close

        def fails() -> None:
            close()
            raise ZeroDivisionError

        monkeypatch.setattr(detector, "close", fails)
        replace(running, dimmed).join(30)
        assert serving.wait_until_left(0)
        assert "ZeroDivisionError" in caplog.text


def test_a_service_that_was_hopeless_before_it_was_in_place_ends_the_process(
    run_app: Callable[..., Any], tiny_artifact: Artifact, until: Callable[..., Any]
) -> None:
    """Its watchdog has said so when nobody listened, and says it once."""
    with run_app() as running:
        layout = CoreLayout(1, 1, 1, wide=False)
        deployment = Deployment("other", engine="null", layout=layout)
        service = open_service(tiny_artifact, deployment, beside=running.service)
        watchdog = service.watchdog
        watchdog._stuck = MOST_STUCK
        until(lambda: watchdog.hopeless)
        until_said = threading.Event()
        ended: list[int] = []
        running.service.health.on_failure = lambda: ended.append(1)

        def switch() -> None:
            running.app.state.serving.replace(service)
            until_said.set()

        running.loop.call_soon_threadsafe(switch)
        assert until_said.wait(20)
        assert ended == [1]
        assert running.client.get("/livez").status_code == 503


def test_a_canary_that_is_promoted_is_the_live_one(
    run_app: Callable[..., Any], dimmed: Artifact, photo: bytes
) -> None:
    with run_app() as running:
        layout = CoreLayout(1, 1, 1, wide=False)
        deployment = Deployment("other", engine="onnxruntime", layout=layout)
        first = running.service
        opened = open_service(dimmed, deployment, beside=first)
        serving = running.app.state.serving

        def on_loop(call: Callable[[], Any]) -> Any:
            async def called() -> Any:
                return call()

            return asyncio.run_coroutine_threadsafe(called(), running.loop).result(30)

        canary = Canary(opened, 1.0, shadow=False, metrics=first.metrics)
        on_loop(lambda: serving.begin_canary(canary))
        with pytest.raises(NotSwapped, match="there is a canary already"):
            on_loop(lambda: serving.begin_canary(canary))
        answer = running.client.post("/detect", content=photo)
        assert answer.headers[DIGEST] == dimmed.digest
        assert running.client.get("/model").headers[DIGEST] == first.digest
        leaving = on_loop(serving.promote_canary)
        assert (running.service.digest, running.service.variant) == (dimmed.digest, "live")
        assert serving.canary is None
        with pytest.raises(NotSwapped, match="there is no canary"):
            on_loop(serving.abandon_canary)
        leaving.join(30)
        answer = running.client.post("/detect", content=photo)
        assert answer.headers[DIGEST] == dimmed.digest
        assert first.dispatcher.detector.lanes.usable == 0


def test_the_model_of_the_start_leaves_nothing_behind(
    run_app: Callable[..., Any],
    dimmed: Artifact,
    photo: bytes,
    replace: Callable[..., threading.Thread],
    until: Until,
) -> None:
    """No collection walks what start-up made: a circle of it would stay for good."""
    with run_app() as running:
        assert running.client.post("/detect", content=photo).status_code == 200
        detector = running.detector
        left = [weakref.ref(one) for one in (detector, detector.engine, detector.lanes)]
        del detector
        replace(running, dimmed).join(60)
        # The watchdog's thread may end a little later than the one that replaced the service.
        until(lambda: [one() for one in left] == [None] * 3)
        assert running.client.post("/detect", content=photo).status_code == 200
