"""Engines that raise and engines that hang, behind a real server."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout
from seatrial.detect.detector import Detector
from seatrial.engines.base import EngineConfig
from seatrial.engines.lanes import FAILURES, Held
from seatrial.engines.null import NullEngine, NullLane
from seatrial.engines.onnxruntime import OnnxRuntimeEngine, OnnxRuntimeLane
from seatrial.engines.openvino import OpenVinoLane
from seatrial.engines.places import Place
from seatrial.errors import EngineFailed, SeatrialError
from seatrial.serve import watchdog

Metric = Callable[..., float]
Until = Callable[[Callable[[], Any]], Any]

pytestmark = pytest.mark.usefixtures("time_limit")
# By its deadline or by the watchdog, whichever is first.
LATE = (500, 504)
LANES = {"onnxruntime": OnnxRuntimeLane, "openvino": OpenVinoLane, "null": NullLane}


class Broken:
    """Lanes whose next run, or whose every run, does something else first.

    Attributes:
        lanes: Lanes that are broken; a lane that is opened later is not.
        runs: Called in the place of their runs; what it returns is dropped.
        began: Set when one of them has begun.
        let_go: Ends runs that hang.
    """

    def __init__(self) -> None:
        self.lanes: list[Any] = []
        self.began = threading.Event()
        self.let_go = threading.Event()
        self.runs: Callable[[], object] = lambda: self.let_go.wait(60)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[Broken]:
    state = Broken()
    for kind in LANES.values():

        def infer(self: Any, feeds: Any, infer: Any = kind.infer) -> Any:
            if self in state.lanes:
                state.began.set()
                state.runs()
            return infer(self, feeds)

        monkeypatch.setattr(kind, "infer", infer)
    yield state
    state.let_go.set()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes are stuck after half a second, not after ten."""
    monkeypatch.setattr(watchdog, "LEAST_S", 0.5)
    monkeypatch.setattr(watchdog, "TICK_S", 0.02)


def raises(error: BaseException) -> Callable[[], object]:
    def run() -> object:
        raise error

    return run


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[ONNXRuntimeError] : 1 : FAIL : a\nb"),
        MemoryError(),
        StopIteration(),
        TimeoutError("too long"),
        SystemExit(3),
        asyncio.CancelledError(),
        ExceptionGroup("several", [ValueError("one")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_engine_that_raises_is_an_error_that_is_counted_and_logged(
    run_app: Callable[..., Any],
    photo: bytes,
    broken: Broken,
    error: BaseException,
    metric: Metric,
    until: Until,
    capfd: pytest.CaptureFixture[str],
) -> None:
    counted = {"route": "/detect", "code": "500"}
    before = metric("seatrial_requests_total", **counted)
    with run_app() as running:
        broken.lanes, broken.runs = list(running.detector.engine.narrow), raises(error)
        answer = running.client.post("/detect", content=photo)
        assert answer.status_code == 500
        said = answer.json()["error"]
        assert said["code"] == "EngineFailed"
        assert said["message"] == "the onnxruntime engine failed"  # the log says of what
        assert said["hint"]
        assert metric("seatrial_requests_total", **counted) == before + 1
        (line,) = (line for line in capfd.readouterr().err.splitlines() if "500" in line)
        assert f"the onnxruntime engine failed: {type(error).__name__}" in line
        assert said["request_id"] in line
        broken.lanes = []
        # The connection is the same one, and so is the lane.
        assert running.client.post("/detect", content=photo).status_code == 200
        until(lambda: running.detector.lanes.present == 0)


@pytest.mark.parametrize("engine", LANES)
def test_a_lane_that_fails_on_every_image_is_replaced(
    run_app: Callable[..., Any], photo: bytes, broken: Broken, engine: str, metric: Metric,
    until: Until, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    before = metric("seatrial_lane_faults_total", reason="failing")
    with run_app(engine=engine) as running:
        broken.lanes, broken.runs = [*running.detector.engine.narrow], raises(RuntimeError("x"))
        for _ in range(FAILURES):
            assert running.client.post("/detect", content=photo).status_code == 500
        until(lambda: running.client.get("/readyz").status_code == 200)
        assert running.client.post("/detect", content=photo).status_code == 200
    assert metric("seatrial_lane_faults_total", reason="failing") == before + 1
    assert "failed 3 times in a row" in capfd.readouterr().err


def test_a_lane_that_fails_on_images_of_one_client_stays(
    run_app: Callable[..., Any], photo: bytes, broken: Broken, until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A client with images that make an engine fail costs no new lane."""
    renewed: list[object] = []
    monkeypatch.setattr(OnnxRuntimeEngine, "renew", lambda self, lane: renewed.append(lane))
    with run_app() as running:
        check = running.detector.check

        def sound(lane: Any) -> None:
            broken.lanes.remove(lane)
            check(lane)
            broken.lanes.append(lane)

        monkeypatch.setattr(running.detector, "check", sound)
        broken.lanes, broken.runs = [*running.detector.engine.narrow], raises(RuntimeError("x"))
        for _ in range(3 * FAILURES):
            until(lambda: running.detector.lanes.usable)
            assert running.client.post("/detect", content=photo).status_code == 500
        until(lambda: running.detector.lanes.usable)
        broken.lanes = []
        assert running.client.post("/detect", content=photo).status_code == 200
    assert not renewed


@pytest.mark.parametrize("engine", LANES)
@pytest.mark.usefixtures("quick")
def test_a_lane_that_hangs_is_replaced_and_the_forecast_stays_right(
    run_app: Callable[..., Any], photo: bytes, broken: Broken, engine: str, metric: Metric,
    until: Until,
) -> None:  # fmt: skip
    before = metric("seatrial_lane_faults_total", reason="stuck")
    with run_app(engine=engine) as running:
        dispatcher = running.app.state.serving.live.dispatcher
        for _ in range(20):
            running.client.post("/detect", content=photo)
        broken.lanes = [*running.detector.engine.narrow]
        late = running.client.post(
            "/detect", content=photo, headers={"X-Request-Timeout-Ms": "100"}
        )
        assert (late.status_code, late.json()["error"]["code"]) == (504, "DeadlineExceeded")
        until(lambda: metric("seatrial_lane_faults_total", reason="stuck") == before + 1)
        until(lambda: running.client.get("/readyz").status_code == 200)
        assert running.client.get("/livez").status_code == 200
        until(lambda: running.detector.lanes.present == 0)
        codes = [running.client.post("/detect", content=photo).status_code for _ in range(30)]
        assert codes == [200] * 30
        forecast = dispatcher.forecast
        assert forecast.late_s(forecast.promise(len(photo))) < dispatcher.deadline_s
        # The run that hung comes back, and nothing is counted twice.
        broken.let_go.set()
        until(lambda: not dispatcher.running)
        assert running.detector.lanes.usable == 1
        assert metric("seatrial_requests_present") == 0
        with ThreadPoolExecutor(4) as pool:
            answers = pool.map(lambda _: running.client.post("/detect", content=photo), range(20))
        assert {answer.status_code for answer in answers} == {200}


@pytest.mark.usefixtures("quick")
def test_other_lanes_serve_while_one_hangs(
    run_app: Callable[..., Any], photo: bytes, broken: Broken, until: Until
) -> None:
    with run_app(layout=CoreLayout(1, 2, 1, wide=False)) as running, ThreadPoolExecutor(1) as pool:
        lanes = running.detector.lanes
        broken.lanes = [running.detector.engine.narrow[0]]
        address = str(running.client.base_url)
        hung = pool.submit(
            httpx.post, f"{address}/detect", content=photo,
            headers={"X-Request-Timeout-Ms": "50000"}, timeout=60,
        )  # fmt: skip
        until(broken.began.is_set)  # or the next request would have its lane
        while not hung.done():
            assert running.client.post("/detect", content=photo).status_code == 200
            assert running.client.get("/readyz").status_code == 200
        # Its request does not wait for its own deadline.
        answer = hung.result(timeout=30)
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "EngineFailed")
        assert "did not end within 0.5 s" in answer.json()["error"]["message"]
        until(lambda: lanes.usable == 2)


@pytest.mark.usefixtures("quick")
def test_the_wide_lane_that_hangs_stops_no_other(
    run_app: Callable[..., Any], photo: bytes, broken: Broken, until: Until, metric: Metric
) -> None:
    before = metric("seatrial_lane_faults_total", reason="stuck")
    with run_app(layout=CoreLayout(1, 1, 1, wide=True)) as running:
        wide = running.detector.engine.wide
        if wide is None:
            pytest.skip("one core: there is no wide lane")
        broken.lanes = [wide]
        assert running.client.post("/detect", content=photo).status_code in LATE
        until(lambda: metric("seatrial_lane_faults_total", reason="stuck") == before + 1)
        until(lambda: running.client.post("/detect", content=photo).status_code == 200)


@pytest.mark.usefixtures("quick")
def test_a_process_whose_lanes_cannot_be_replaced_says_that_it_is_to_end(
    run_app: Callable[..., Any], photo: bytes, broken: Broken, until: Until,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def cannot(self: Any, lane: Any) -> None:
        raise RuntimeError("no memory on the device")

    monkeypatch.setattr(OnnxRuntimeEngine, "renew", cannot)
    ended: list[int] = []
    with run_app() as running:
        running.app.state.serving.live.health.on_failure = lambda: ended.append(1)
        broken.lanes = [*running.detector.engine.narrow]
        assert running.client.post("/detect", content=photo).status_code in LATE
        until(lambda: ended)
        for probe in ("/livez", "/readyz", "/healthz"):
            answer = running.client.get(probe)
            assert (answer.status_code, answer.text) == (503, "no lane of the engine works\n")
        refused = running.client.post("/detect", content=photo)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "Overloaded")
        assert refused.json()["error"]["reason"] == "lanes"
        assert refused.headers["x-predicted-wait-ms"] == "2000"  # another one is opened by then
        broken.let_go.set()
    assert ended == [1]
    log = capfd.readouterr().err
    assert "the lane is not replaced: no memory on the device" in log
    assert "error: no lane of the engine works: this process ends" in log


@pytest.mark.usefixtures("quick")
def test_a_service_that_is_closed_while_its_lanes_are_looked_at_has_not_failed(
    run_app: Callable[..., Any],
) -> None:
    """It would end the process as one that failed, or say so of a model that leaves."""
    others = set(threading.enumerate())
    told: list[str] = []
    with run_app(engine="null") as running:
        own = running.service.watchdog
        (thread,) = (one for one in set(threading.enumerate()) - others if one.name == "watchdog")

        def closed_meanwhile(now: float) -> str:
            own.close()
            return "no lane of the engine works"

        own.on_hopeless, own._hopeless = told.append, closed_meanwhile
        thread.join(60)
        assert not thread.is_alive()
        assert (told, own.hopeless) == ([], "")


@pytest.mark.usefixtures("quick")
def test_a_process_in_which_runs_hang_again_and_again_is_to_end(
    run_app: Callable[..., Any], photo: bytes, broken: Broken, until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Each stuck run holds a thread for ever, so their number is limited."""
    monkeypatch.setattr(watchdog, "MOST_STUCK", 2)
    with run_app(engine="null") as running:
        lanes = running.detector.lanes
        for count in range(2):
            broken.lanes.append(lanes._idle[0])
            assert running.client.post("/detect", content=photo).status_code in LATE
            if not count:
                until(lambda: lanes.usable and lanes._idle[0] is not broken.lanes[0])
        until(lambda: running.client.get("/livez").status_code == 503)
        assert "2 runs of the engine did not end" in running.client.get("/livez").text
        broken.let_go.set()


def test_a_process_that_was_stopped_is_not_blamed_for_the_time(
    run_app: Callable[..., Any], photo: bytes, monkeypatch: pytest.MonkeyPatch, broken: Broken,
    until: Until,
) -> None:  # fmt: skip
    """The clock jumps by an hour between two looks, as after SIGSTOP: nothing is stuck."""
    monkeypatch.setattr(watchdog, "TICK_S", 0.02)
    monkeypatch.setattr(watchdog, "IDLE_LOOKS", 500)
    looks: list[float] = []

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return time.monotonic() + 3600 * len(looks)

    monkeypatch.setattr(watchdog, "time", Clock)
    with run_app() as running, ThreadPoolExecutor(1) as pool:
        lanes, overdue = running.detector.lanes, running.detector.lanes.overdue

        def look(passed_s: float, limit_s: float) -> Any:
            looks.append(passed_s)
            return overdue(passed_s, limit_s)

        monkeypatch.setattr(lanes, "overdue", look)
        broken.lanes = [*running.detector.engine.narrow]
        hung = pool.submit(running.client.post, "/detect", content=photo)
        until(lambda: len(looks) > 5)
        assert lanes.usable == 1
        broken.let_go.set()
        assert hung.result().status_code == 200
    assert max(looks) <= 0.04


@pytest.mark.usefixtures("quick")
def test_a_look_that_fails_is_logged_and_is_not_the_last(
    run_app: Callable[..., Any], photo: bytes, monkeypatch: pytest.MonkeyPatch, broken: Broken,
    until: Until, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with run_app() as running:
        lanes, overdue = running.detector.lanes, running.detector.lanes.overdue

        def fails(passed_s: float, limit_s: float) -> Any:
            raise ZeroDivisionError

        monkeypatch.setattr(lanes, "overdue", fails)
        broken.lanes = [*running.detector.engine.narrow]
        assert running.client.post("/detect", content=photo).status_code == 504
        until(lambda: "ZeroDivisionError" in caplog.text)
        monkeypatch.setattr(lanes, "overdue", overdue)
        until(lambda: lanes.usable and lanes._idle and lanes._idle[0] is not broken.lanes[0])
        broken.let_go.set()
        assert running.client.post("/detect", content=photo).status_code == 200


def test_a_full_run_after_many_of_one_image_is_not_stuck(tiny_artifact: Artifact) -> None:
    engine = NullEngine(Path("unused"), tiny_artifact.manifest, EngineConfig(max_batch=64))
    with Detector(tiny_artifact, engine, max_batch=64) as detector:
        detector.lane_s = detector.lanes.mean_s = 1.0
        looks_after = watchdog.Watchdog(detector)
        assert looks_after.limit_s > 64 * detector.lane_s
        looks_after.close()


def test_the_watchdog_looks_seldom_while_no_lane_has_a_request(tiny_artifact: Artifact) -> None:
    engine = NullEngine(Path("unused"), tiny_artifact.manifest, EngineConfig())
    with Detector(tiny_artifact, engine) as detector:
        looks_after = watchdog.Watchdog(detector)
        assert looks_after._tick_s() == 2.0
        with Place(detector.lanes) as place:
            place.ready()
            lane = detector.lanes.acquire(place)
            assert looks_after._tick_s() == 0.25
            assert lane is not None
            detector.lanes.release(lane)
        assert looks_after._tick_s() == 2.0
        looks_after._renewals.add(0.0)
        assert looks_after._tick_s() == 0.25
        looks_after.close()


def test_a_lane_that_is_being_opened_gives_hope_for_a_minute(tiny_artifact: Artifact) -> None:
    engine = NullEngine(Path("unused"), tiny_artifact.manifest, EngineConfig())
    with Detector(tiny_artifact, engine) as detector, Place(detector.lanes) as place:
        looks_after = watchdog.Watchdog(detector)
        looks_after.close()  # it is asked here
        place.ready()
        assert detector.lanes.acquire(place) is not None
        assert len(detector.lanes.overdue(2.0, 1.0)) == 1  # taken out
        looks_after._renewals.add(0.0)
        assert looks_after._hopeless(59.0) == ""
        assert looks_after._hopeless(61.0) == "no lane of the engine works"


def test_all_that_share_a_run_which_does_not_end_are_told(tiny_artifact: Artifact) -> None:
    engine = NullEngine(Path("unused"), tiny_artifact.manifest, EngineConfig(max_batch=4))
    with Detector(tiny_artifact, engine, max_batch=4) as detector:
        told: list[tuple[Place, SeatrialError]] = []

        class Told(Place):
            def fail(self, error: SeatrialError) -> None:
                told.append((self, error))
                super().fail(error)

        places: list[Place] = [Told(detector.lanes) for _ in range(3)]
        looks_after = watchdog.Watchdog(detector)
        looks_after._take_out(Held(engine.narrow[0], places, wide=False))
        assert [place for place, _ in told] == places
        assert {type(error) for _, error in told} == {EngineFailed}
        assert all(place.cancelled for place in places)
        assert detector.lanes.present == 0
        looks_after.close()
