"""Admission, deadline, disconnects: with the lanes held, so that nothing depends on time."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Limits, Thresholds
from seatrial.detect.detector import Detected, Ticket
from seatrial.detect.opening import open_detector
from seatrial.engines.lanes import Abandoned, Place
from seatrial.errors import DeadlineExceeded, InvalidImage, Overloaded
from seatrial.serve.admission import Dispatcher

Running = Any

pytestmark = pytest.mark.usefixtures("time_limit")


def post(running: Running, photo: bytes) -> Callable[[], httpx.Response]:
    return lambda: httpx.post(f"http://127.0.0.1:{running.port}/detect", content=photo, timeout=20)


def head(length: int, **headers: str) -> bytes:
    lines = ["POST /detect HTTP/1.1", "Host: x", f"Content-Length: {length}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


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


def test_a_refused_client_is_answered_before_it_sends_a_byte_of_the_body(
    run_app: Callable[..., Any],
) -> None:
    with run_app(Limits(queue=1)) as running, running.lanes_held():
        for asks_first in ({}, {"Expect": "100-continue"}):
            with running.connect() as connection:
                connection.sendall(head(10**6, **asks_first))  # and nothing after it
                answer = b""
                while b"Overloaded" not in answer:
                    answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 503")  # and no "100 Continue" before it
            assert b"retry-after: 1" in answer.lower()


def test_the_application_asks_for_no_byte_of_a_refused_request(
    run_app: Callable[..., Any],
) -> None:
    """Whatever the server has in its buffer: the body is never received."""
    received: list[object] = []

    async def receive() -> Any:
        received.append("a message")
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def refused(app: Any) -> int:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/detect", "query_string": b"",
                 "headers": [(b"content-length", b"1000000")]}  # fmt: skip
        await app(scope, receive, send)
        return int(sent[0]["status"])

    with run_app(Limits(queue=1)) as running, running.lanes_held():
        assert asyncio.run(refused(running.app)) == 503
    assert received == []


def test_a_request_that_still_sends_its_body_is_counted(
    run_app: Callable[..., Any], photo: bytes, until: Callable[..., Any]
) -> None:
    with run_app(Limits(queue=1)) as running:
        with running.connect() as slow:
            slow.sendall(head(len(photo)) + photo[:100])
            until(lambda: running.detector.lanes.present == 1)
            assert running.client.post("/detect", content=photo).status_code == 503
            slow.sendall(photo[100:])
            assert slow.recv(65536).startswith(b"HTTP/1.1 200")
        assert running.client.post("/detect", content=photo).status_code == 200


def test_the_model_is_described_while_the_queue_is_full(
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

    with run_app() as running:
        lanes = running.detector.lanes
        threads = len(running.detector.engine.narrow) + 1
        ran: list[bytes] = []
        real = running.detector.detect

        def record(data: Any, *args: Any, **options: Any) -> Detected:
            ran.append(bytes(data))
            return real(data, *args, **options)

        running.detector.detect = record
        before, decoded_before = gone(), decoded()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            with running.lanes_held():
                first = [pool.submit(post(running, photo)) for _ in range(threads)]
                until(lambda: len(ran) == threads)  # all threads of the pool wait for a lane
                leavers = [running.connect() for _ in range(3)]
                for leaver in leavers:
                    leaver.sendall(head(len(photo)) + photo)
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


def test_a_client_that_leaves_while_its_work_waits_for_a_lane_frees_the_thread(
    run_app: Callable[..., Any], photo: bytes, until: Callable[..., Any]
) -> None:
    with run_app(Limits(deadline_s=3000)) as running, running.lanes_held():
        lanes = running.detector.lanes
        with running.connect() as leaver:
            leaver.sendall(head(len(photo)) + photo)
            until(lambda: len(lanes._waiting) == 1)
        until(lambda: lanes.present == 1)  # only the one that holds the lane
        assert not lanes._waiting


@pytest.fixture
def open_dispatcher(tiny_artifact: Artifact) -> Iterator[Callable[..., Dispatcher]]:
    """Opens dispatchers of the null engine with one lane; closes them."""
    deployment = Deployment("tiny", engine="null", layout=CoreLayout(1, 1, 1, wide=False))
    with contextlib.ExitStack() as opened:

        def open_one(**limits: Any) -> Dispatcher:
            dispatcher = Dispatcher(open_detector(tiny_artifact, deployment), Limits(**limits))
            opened.callback(dispatcher.close)
            return dispatcher

        yield open_one


@pytest.fixture
def dispatcher(open_dispatcher: Callable[..., Dispatcher]) -> Dispatcher:
    return open_dispatcher(queue=2, deadline_s=3000)


async def never() -> Any:
    await asyncio.Event().wait()


async def gone() -> Any:
    return {"type": "http.disconnect"}


async def request(
    dispatcher: Dispatcher,
    data: bytes,
    finish: Callable[[Detected], Any] = lambda result: None,
    receive: Any = never,
) -> Any:
    with dispatcher.admit() as ticket:
        return await dispatcher.run(ticket, data, Thresholds(), finish, receive)


@contextlib.contextmanager
def lane_held(dispatcher: Dispatcher) -> Iterator[None]:
    lanes = dispatcher.detector.lanes
    with Place(lanes) as place:
        lane = lanes.acquire(place)
        yield
        lanes.release(lane)


def present(dispatcher: Dispatcher) -> int:
    return dispatcher.detector.lanes.present


def test_the_answer_is_made_off_the_loop(dispatcher: Dispatcher, photo: bytes) -> None:
    name = asyncio.run(request(dispatcher, photo, lambda result: threading.current_thread().name))
    assert name.startswith("request")
    assert present(dispatcher) == 0


def test_no_task_goes_on_waiting_for_the_client(dispatcher: Dispatcher, photo: bytes) -> None:
    async def tasks_after_a_request() -> int:
        await request(dispatcher, photo)
        await asyncio.sleep(0)  # what was cancelled ends
        return len(asyncio.all_tasks())

    assert asyncio.run(tasks_after_a_request()) == 1


def test_waiting_for_a_thread_is_waiting_in_the_queue(dispatcher: Dispatcher, photo: bytes) -> None:
    async def stages() -> dict[str, float]:
        with dispatcher.admit() as ticket:
            ticket.clock.lap("receive")
            await dispatcher.run(ticket, photo, Thresholds(), lambda result: None, never)
            return ticket.clock.stages_ms

    found = asyncio.run(stages())
    assert list(found)[:3] == ["receive", "queue", "decode"]  # before decoding, too


def test_work_of_a_request_that_the_server_gives_up_never_starts(
    open_dispatcher: Callable[..., Dispatcher], photo: bytes
) -> None:
    dispatcher = open_dispatcher()
    lanes = dispatcher.detector.lanes
    ended: list[str] = []

    async def work() -> None:
        with lane_held(dispatcher):
            running = [
                asyncio.ensure_future(request(dispatcher, photo, lambda r, n=n: ended.append(n)))
                for n in ("first", "second")
            ]
            while len(lanes._waiting) < 2:  # both threads of the pool
                await asyncio.sleep(0)
            queued = asyncio.ensure_future(
                request(dispatcher, photo, lambda result: ended.append("queued"))
            )
            while lanes.present < 4:
                await asyncio.sleep(0)
            queued.cancel()
            await asyncio.wait([queued])
            assert lanes.present == 3
        await asyncio.gather(*running)

    asyncio.run(work())
    assert sorted(ended) == ["first", "second"]
    assert lanes.present == 0


def test_errors_of_the_work_come_through(dispatcher: Dispatcher) -> None:
    with pytest.raises(InvalidImage):
        asyncio.run(request(dispatcher, b"\xff\xd8\xff"))
    assert present(dispatcher) == 0


def test_errors_of_the_answer_come_through(dispatcher: Dispatcher, photo: bytes) -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(request(dispatcher, photo, lambda result: 1 // 0))
    assert present(dispatcher) == 0


@pytest.mark.parametrize(
    ("limits", "receive", "error"),
    [
        ({"deadline_s": 0.05}, never, DeadlineExceeded),
        ({"deadline_s": 3000}, gone, Abandoned),  # not the deadline wakes it
    ],
)
def test_without_an_answer_the_request_is_counted_no_more_and_never_infers(
    open_dispatcher: Callable[..., Dispatcher],
    photo: bytes,
    until: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    limits: dict[str, float],
    receive: Any,
    error: type[Exception],
) -> None:
    dispatcher = open_dispatcher(**limits)
    inferred: list[object] = []
    monkeypatch.setattr(dispatcher.detector.engine.narrow[0], "infer", inferred.append)
    with lane_held(dispatcher):
        with pytest.raises(error):
            asyncio.run(request(dispatcher, photo, receive=receive))
        until(lambda: present(dispatcher) == 1)  # the holder of the lane, which is not free yet
    assert inferred == []
    assert present(dispatcher) == 0


def test_a_request_that_infers_already_is_counted_until_it_has(
    open_dispatcher: Callable[..., Dispatcher],
    photo: bytes,
    until: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its client has left: the lane is busy with it all the same."""
    dispatcher = open_dispatcher(queue=1)
    lane = dispatcher.detector.engine.narrow[0]
    real = lane.infer
    inferring, go_on = threading.Event(), threading.Event()

    def infer(feeds: Any) -> Any:
        inferring.set()
        go_on.wait()
        return real(feeds)

    monkeypatch.setattr(lane, "infer", infer)

    async def gone_while_inferring() -> Any:
        while not inferring.is_set():
            await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    with pytest.raises(Abandoned):
        asyncio.run(request(dispatcher, photo, receive=gone_while_inferring))
    assert present(dispatcher) == 1
    with pytest.raises(Overloaded):
        dispatcher.admit()
    go_on.set()
    until(lambda: present(dispatcher) == 0)


def test_the_gauge_is_what_admission_counts(
    run_app: Callable[..., Any],
    photo: bytes,
    metric: Callable[..., float],
    until: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a 504, too, whose thread still decodes."""
    go_on = threading.Event()
    before = metric("seatrial_requests_present")

    def decode(data: Any, **options: Any) -> Any:
        go_on.wait()
        raise InvalidImage("at last")

    with run_app(Limits(queue=1, deadline_s=0.05)) as running:
        monkeypatch.setattr("seatrial.detect.detector.decode", decode)
        try:
            assert running.client.post("/detect", content=photo).status_code == 504
            assert running.client.post("/detect", content=photo).status_code == 503
            assert metric("seatrial_requests_present") - before == 1
        finally:
            go_on.set()
        until(lambda: running.detector.lanes.present == 0)
        until(lambda: metric("seatrial_requests_present") == before)


def test_the_deadline_counts_from_the_headers(
    open_dispatcher: Callable[..., Dispatcher], photo: bytes
) -> None:
    dispatcher = open_dispatcher(deadline_s=3000)
    ran: list[object] = []

    async def late() -> None:
        with dispatcher.admit() as ticket:
            assert 2999 < ticket.remaining_s() <= 3000
            ticket._deadline = 0.0  # the body took its time
            await dispatcher.run(ticket, photo, Thresholds(), ran.append, never)

    with pytest.raises(DeadlineExceeded, match="not answered within 3000 s"):
        asyncio.run(late())
    dispatcher.close()
    assert ran == []
    assert present(dispatcher) == 0


def test_what_is_too_late_is_not_even_decoded(dispatcher: Dispatcher) -> None:
    with dispatcher.admit() as ticket:
        ticket._deadline = 0.0  # it waited for a thread for too long
        with pytest.raises(DeadlineExceeded):
            dispatcher._work(ticket, b"no image", Thresholds(), lambda result: None)
    assert ticket.clock.stages_ms == {}


def test_the_limit_is_exact(dispatcher: Dispatcher) -> None:
    with dispatcher.admit() as first, dispatcher.admit() as second:
        assert isinstance(first, Ticket)
        assert first is not second
        with pytest.raises(Overloaded, match="2 requests wait or run already"):
            dispatcher.admit()
    dispatcher.admit()


def test_two_threads_for_each_lane(tiny_artifact: Artifact, photo: bytes) -> None:
    """While the lanes infer, the next images are decoded: six requests come as far as a thread."""
    deployment = Deployment("tiny", engine="null", layout=CoreLayout(1, 3, 1, wide=False))
    dispatcher = Dispatcher(open_detector(tiny_artifact, deployment), Limits())
    lanes = dispatcher.detector.lanes

    async def work() -> int:
        with contextlib.ExitStack() as held:
            for _ in range(3):
                place = held.enter_context(Place(lanes))
                held.callback(lanes.release, lanes.acquire(place))
            running = [asyncio.ensure_future(request(dispatcher, photo)) for _ in range(7)]
            while len(lanes._waiting) < 6:
                await asyncio.sleep(0)
            waiting = len(lanes._waiting)
        await asyncio.gather(*running)
        return waiting

    assert asyncio.run(work()) == 6
    assert dispatcher._threads._max_workers == 6
    dispatcher.close()


def test_closing_waits_for_what_runs(
    open_dispatcher: Callable[..., Dispatcher], photo: bytes
) -> None:
    dispatcher = open_dispatcher()
    closed: list[int] = []
    dispatcher.detector.engine.close = lambda: closed.append(present(dispatcher))  # type: ignore

    async def work() -> Any:
        answer = asyncio.ensure_future(request(dispatcher, photo, lambda result: "answered"))
        await asyncio.sleep(0)  # let it be submitted
        await asyncio.to_thread(dispatcher.close)
        return await answer

    assert asyncio.run(work()) == "answered"
    assert closed == [0]  # once nothing runs any more
