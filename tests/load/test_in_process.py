from __future__ import annotations

import asyncio
import threading
from time import perf_counter_ns

import pytest

from seatrial.errors import InvalidImage
from seatrial.load.arrivals import ClosedLoop, ConstantRate
from seatrial.load.in_process import Found, in_process
from seatrial.load.run import put_load
from seatrial.load.target import Body
from seatrial.load.window import Load

BODY = Body(b"picture", {})


class Nobody:
    def opened(self):
        """Nothing."""

    tick = closed = opened


def sent(detect, *, threads=1, timeout_s=30.0, due_ns=None, count=1):
    async def run():
        async with in_process(detect, threads, timeout_s) as send:
            return await asyncio.gather(*(send(BODY, due_ns) for _ in range(count)))

    return asyncio.run(run())


def test_an_image_is_worked_on_in_another_thread_and_timed_there():
    seen = []

    def detect(image):
        seen.append((image, threading.get_ident(), perf_counter_ns()))
        return Found(3, {"infer": 1.5})

    (sample,) = sent(detect, due_ns=5)
    ((image, thread, at_ns),) = seen
    assert image == b"picture"
    assert thread != threading.get_ident()
    assert sample.start_ns <= at_ns <= sample.end_ns
    assert (sample.status, sample.error, sample.detections) == (200, "", 3)
    assert (sample.timing_ms, sample.due_ns) == ({"infer": 1.5}, 5)
    assert sent(lambda image: Found())[0].timing_ms is None


def test_an_error_of_the_detector_is_a_failed_request():
    def detect(image):
        raise InvalidImage("no picture")

    (sample,) = sent(detect, due_ns=7)
    assert (sample.status, sample.error) == (422, "in-process-InvalidImage")
    assert sample.due_ns == 7
    assert sample.start_ns <= sample.end_ns


def test_a_mistake_ends_the_load():
    def detect(image):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sent(detect)


def test_no_more_threads_work_than_there_are():
    lock, most, now = threading.Lock(), [0], [0]
    both = threading.Barrier(2)

    def detect(image):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        both.wait(60)
        with lock:
            now[0] -= 1
        return Found()

    samples = sent(detect, threads=2, count=6)
    assert most == [2]
    assert [one.error for one in samples] == [""] * 6


def test_what_takes_too_long_is_late_and_what_waited_behind_it_never_begins():
    go, calls = threading.Event(), []

    def detect(image):
        calls.append(image)
        go.wait(60)
        return Found()

    async def run():
        async with in_process(detect, 1, 0.05) as send:
            samples = await asyncio.gather(send(BODY, 9), send(BODY, 9))
            go.set()
        return samples

    samples = asyncio.run(run())
    assert [(one.status, one.error, one.due_ns) for one in samples] == [(0, "timeout", 9)] * 2
    assert len(calls) == 1


@pytest.mark.parametrize(
    "arrivals", [ClosedLoop(2), ConstantRate(200.0)], ids=["closed", "open"]
)  # fmt: skip
def test_a_load_is_put_on_it_as_on_a_service(arrivals):
    async def run():
        load = Load(arrivals=arrivals, measure_s=60.0, requests=20, warmup_s=0.01)
        async with in_process(lambda image: Found(1), 2, 30.0) as send:
            return await put_load(send, [BODY], load, Nobody(), lambda window: None)

    recording = asyncio.run(run())
    assert len(recording.samples) >= 20
    assert {one.detections for one in recording.samples} == {1}
    assert {one.due_ns is None for one in recording.samples} == {isinstance(arrivals, ClosedLoop)}
