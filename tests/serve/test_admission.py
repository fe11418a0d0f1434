"""Admission, deadline, disconnects: with the lanes held, so that nothing depends on time."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Limits, Thresholds
from seatrial.detect.detector import Detected
from seatrial.errors import DeadlineExceeded, InvalidImage, Overloaded
from seatrial.serve.admission import Disconnected, Dispatcher
from seatrial.serve.startup import open_detector

Running = Any

pytestmark = pytest.mark.usefixtures("time_limit")


def post(running: Running, photo: bytes) -> Callable[[], httpx.Response]:
    return lambda: httpx.post(f"http://127.0.0.1:{running.port}/detect", content=photo, timeout=20)


def test_one_more_than_the_queue_is_refused_and_told_when_to_come_again(
    run_app: Callable[..., Any], photo: bytes, until: Callable[..., Any]
) -> None:
    with run_app(Limits(queue=3)) as running:
        lanes = running.detector.lanes
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            with running.lanes_held():
                waiting = [pool.submit(post(running, photo)) for _ in range(2)]
                until(lambda: lanes.present == 3)  # the one that holds the lane is here too
                for _ in range(3):
                    refused = running.client.post("/detect", content=photo)
                    assert refused.status_code == 503
                    assert refused.headers["retry-after"] == "1"
                    assert refused.json()["error"]["code"] == "Overloaded"
                assert lanes.present == 3  # the refused ones are not counted
            assert [f.result().status_code for f in waiting] == [200, 200]
        assert lanes.present == 0
        assert running.client.post("/detect", content=photo).status_code == 200


def test_the_model_is_told_while_the_queue_is_full(
    run_app: Callable[..., Any], photo: bytes
) -> None:
    with run_app(Limits(queue=1)) as running, running.lanes_held():
        assert running.client.post("/detect", content=photo).status_code == 503
        assert running.client.get("/model").status_code == 200


def test_what_is_not_answered_in_time_gets_504(
    run_app: Callable[..., Any], photo: bytes, until: Callable[..., Any]
) -> None:
    with run_app(Limits(deadline_s=0.1)) as running:
        with running.lanes_held():
            late = running.client.post("/detect", content=photo)
            assert late.status_code == 504
            assert late.json()["error"]["code"] == "DeadlineExceeded"
            assert "0.1 s" in late.json()["error"]["message"]
        until(lambda: running.detector.lanes.present == 0)
        assert running.client.post("/detect", content=photo).status_code == 200


def test_work_for_a_client_that_left_the_queue_never_starts(
    run_app: Callable[..., Any],
    photo: bytes,
    metric: Callable[..., float],
    until: Callable[..., Any],
) -> None:
    def gone() -> float:
        return metric("seatrial_requests_total", route="/detect", code="499")

    def decoded() -> float:
        return metric("seatrial_stage_seconds_count", stage="decode")

    head = f"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: {len(photo)}\r\n\r\n".encode()
    with run_app() as running:
        lanes = running.detector.lanes
        threads = len(running.detector.engine.narrow) + 1
        ran: list[bytes] = []
        real = running.detector.detect_admitted

        def record(data: Any, *args: Any, **options: Any) -> Detected:
            ran.append(bytes(data))
            return real(data, *args, **options)

        running.detector.detect_admitted = record
        before, decoded_before = gone(), decoded()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            with running.lanes_held():
                first = [pool.submit(post(running, photo)) for _ in range(threads)]
                until(lambda: len(ran) == threads)  # all threads of the pool wait for a lane
                leavers = [running.connect() for _ in range(3)]
                for leaver in leavers:
                    leaver.sendall(head + photo)
                until(lambda: lanes.present == 1 + threads + 3)
                for leaver in leavers:
                    leaver.close()
                until(lambda: gone() == before + 3)
                until(lambda: lanes.present == 1 + threads)
            assert [f.result().status_code for f in first] == [200] * threads
        assert running.client.post("/detect", content=photo).status_code == 200
        assert len(ran) == threads + 1  # those that left were never begun
        assert decoded() - decoded_before == threads + 1
        assert lanes.present == 0


def test_nothing_stays_behind_on_the_loop(run_app: Callable[..., Any], photo: bytes) -> None:
    """No timer a request, as the deadline might leave one for 30 s; no task either."""
    with run_app(Limits(deadline_s=3000)) as running:
        loop = running.loop

        def left() -> tuple[int, int]:
            timers = [h for h in loop._scheduled if not h.cancelled()]  # type: ignore[attr-defined]
            return len(timers), len(asyncio.all_tasks(loop))

        for _ in range(5):
            running.client.post("/detect", content=photo)
        timers, tasks = left()
        for _ in range(100):
            running.client.post("/detect", content=photo)
            running.client.post("/detect", content=b"bad")
            running.client.post("/detect?bad=1", content=photo)
        assert left()[0] <= timers + 2  # uvicorn's own: its tick, and keep-alive
        assert left()[1] <= tasks + 1


@pytest.fixture
def dispatcher(tiny_artifact: Artifact) -> Any:
    deployment = Deployment("tiny", engine="null", layout=CoreLayout(1, 1, 1, wide=False))
    opened = Dispatcher(open_detector(tiny_artifact, deployment), Limits(queue=2, deadline_s=0.05))
    yield opened
    opened.close()


async def never() -> Any:
    await asyncio.Event().wait()


def test_the_answer_is_made_off_the_loop(dispatcher: Dispatcher, photo: bytes) -> None:
    import threading

    name = asyncio.run(
        dispatcher.run(photo, Thresholds(), lambda result: threading.current_thread().name, never)
    )
    assert name.startswith("request")
    assert dispatcher.present == 0


def test_no_task_goes_on_waiting_for_the_client(dispatcher: Dispatcher, photo: bytes) -> None:
    async def tasks_after_a_request() -> int:
        await dispatcher.run(photo, Thresholds(), lambda result: None, never)
        await asyncio.sleep(0)  # what was cancelled ends
        return len(asyncio.all_tasks())

    assert asyncio.run(tasks_after_a_request()) == 1


def test_work_of_a_request_that_the_server_gives_up_never_starts(
    tiny_artifact: Artifact, photo: bytes, until: Callable[..., Any]
) -> None:
    deployment = Deployment("tiny", engine="null", layout=CoreLayout(1, 1, 1, wide=False))
    dispatcher = Dispatcher(open_detector(tiny_artifact, deployment), Limits())
    lanes = dispatcher.detector.lanes
    ended: list[str] = []

    def request(name: str) -> Any:
        return dispatcher.run(photo, Thresholds(), lambda result: ended.append(name), never)

    async def work() -> None:
        lanes.arrive()
        with lanes.lane():
            running = [asyncio.ensure_future(request(f"running {i}")) for i in range(2)]
            while len(lanes._waiting) < 2:  # both threads of the pool
                await asyncio.sleep(0.001)
            queued = asyncio.ensure_future(request("queued"))
            while lanes.present < 4:
                await asyncio.sleep(0.001)
            queued.cancel()
            await asyncio.wait([queued])
            assert lanes.present == 3
        lanes.leave()
        await asyncio.gather(*running)

    asyncio.run(work())
    dispatcher.close()
    assert sorted(ended) == ["running 0", "running 1"]
    assert lanes.present == 0


def test_errors_of_the_work_come_through(dispatcher: Dispatcher) -> None:
    with pytest.raises(InvalidImage):
        asyncio.run(dispatcher.run(b"\xff\xd8\xff", Thresholds(), lambda result: None, never))
    assert dispatcher.present == 0


def test_errors_of_the_answer_come_through(dispatcher: Dispatcher, photo: bytes) -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(dispatcher.run(photo, Thresholds(), lambda result: 1 // 0, never))
    assert dispatcher.present == 0


def test_refusal_deadline_and_disconnect_are_told_apart(
    dispatcher: Dispatcher, photo: bytes, until: Callable[..., Any]
) -> None:
    lanes = dispatcher.detector.lanes

    async def gone() -> Any:
        return {"type": "http.disconnect"}

    def run(receive: Any) -> Any:
        return asyncio.run(dispatcher.run(photo, Thresholds(), lambda result: None, receive))

    lanes.arrive()
    with lanes.lane():
        with pytest.raises(Disconnected):
            run(gone)
        until(lambda: lanes.present <= 2)
        lanes.arrive()
        with pytest.raises(Overloaded):
            run(never)
        lanes.leave()
    lanes.leave()
    until(lambda: lanes.present == 0)
    lanes.arrive()
    with lanes.lane(), pytest.raises(DeadlineExceeded):
        run(never)
    lanes.leave()
    until(lambda: lanes.present == 0)


def test_closing_waits_for_what_runs(tiny_artifact: Artifact, photo: bytes) -> None:
    deployment = Deployment("tiny", engine="null", layout=CoreLayout(1, 1, 1, wide=False))
    dispatcher = Dispatcher(open_detector(tiny_artifact, deployment), Limits())

    async def work() -> Any:
        answer = asyncio.ensure_future(
            dispatcher.run(photo, Thresholds(), lambda result: "answered", never)
        )
        await asyncio.sleep(0)  # let it be submitted
        await asyncio.to_thread(dispatcher.close)
        return await answer

    assert asyncio.run(work()) == "answered"
