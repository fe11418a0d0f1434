"""Admission, deadline, disconnects: with the lanes held, so that nothing depends on time."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

import local_http
from seatrial.deployment import Limits
from seatrial.detect.detector import Detected
from seatrial.errors import InvalidImage

Running = Any

pytestmark = pytest.mark.usefixtures("time_limit")


def post(running: Running, photo: bytes) -> Callable[[], httpx.Response]:
    return lambda: local_http.post(
        f"http://127.0.0.1:{running.port}/detect", content=photo, timeout=20
    )


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
                    assert refused.headers["retry-after"] in ("1", "2")
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
            assert b"retry-after: " in answer.lower()


def test_the_application_asks_for_no_byte_of_a_refused_request(
    run_app: Callable[..., Any],
) -> None:
    """Whatever the server has in its buffer: the body is not received before the answer."""
    order: list[str] = []

    async def receive() -> Any:
        order.append("http.request")
        return {"type": "http.disconnect"}

    async def refused(app: Any) -> int:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)
            order.append(message["type"])

        scope = {"type": "http", "method": "POST", "path": "/detect", "query_string": b"",
                 "headers": [(b"content-length", b"1000000")]}  # fmt: skip
        await app(scope, receive, send)
        return int(sent[0]["status"])

    with run_app(Limits(queue=1)) as running, running.lanes_held():
        assert asyncio.run(refused(running.app)) == 503
    assert order[:2] == ["http.response.start", "http.response.body"]


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
        patient = {"X-Request-Timeout-Ms": "60000"}
        assert running.client.post("/detect", content=photo, headers=patient).status_code == 200


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
            until(lambda: lanes.waiting == 1)
        until(lambda: lanes.present == 1)  # only the one that holds the lane
        assert not lanes.waiting


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

    # Long enough to begin with the decoding, also on a machine that stalls.
    with run_app(Limits(queue=1, deadline_s=0.5)) as running:
        monkeypatch.setattr("seatrial.detect.detector.decode", decode)
        try:
            assert running.client.post("/detect", content=photo).status_code == 504
            assert running.client.post("/detect", content=photo).status_code == 503
            assert metric("seatrial_requests_present") - before == 1
        finally:
            go_on.set()
        until(lambda: running.detector.lanes.present == 0)
        until(lambda: metric("seatrial_requests_present") == before)
