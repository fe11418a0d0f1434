from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import uvloop

from seatrial.bench.measurement import summarise
from seatrial.load.http_client import Sample
from seatrial.load.images import load_images
from seatrial.load.run import Load, Window, image_order, run_load
from seatrial.load.target import Target, bodies, endpoint


class Quiet:
    """An observer that writes down when it was called."""

    def __init__(self):
        self.calls = []

    def opened(self):
        self.calls.append("opened")

    def tick(self):
        self.calls.append("tick")

    def closed(self):
        self.calls.append("closed")


@pytest.fixture
def drive(picture_folder):
    """Runs a load against a service and gives (recording, observer, ticks)."""

    def run(service, **load):
        target = Target(service.url)
        prepared = bodies(target, load_images(picture_folder).images)
        observer, ticks = Quiet(), []
        settings = Load(**{"sessions": 1, "seconds": 1.0, "warmup_s": 0.1} | load)
        job = run_load(
            endpoint(target), prepared, settings, observer, lambda _: ticks.append(time.monotonic())
        )
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(job), observer, ticks

    return run


@pytest.mark.parametrize(("sessions", "lanes"), [(1, 1), (4, 1), (4, 2)])
def test_throughput_is_that_of_the_service_whatever_the_sessions(
    detector, drive, build_usage, sessions, lanes
):
    service = detector(hold_ms=20, lanes=lanes)
    recording, _, _ = drive(service, sessions=sessions, seconds=1.5)
    point = summarise(sessions, recording, build_usage(), None)
    # What the service really held a lane for, as timers are late on a busy machine.
    held_s = point.stages.mean_ms["infer"] / 1e3
    assert point.throughput_per_s == pytest.approx(min(sessions, lanes) / held_s, rel=0.2)
    assert point.in_flight == pytest.approx(sessions, rel=0.1)
    # Requests over the sum of latencies, the classic mistake, is off by the number of sessions.
    summed_s = sum(sample.latency_ms for sample in recording.samples) / 1e3
    assert len(recording.samples) / summed_s == pytest.approx(
        point.throughput_per_s / sessions, rel=0.1
    )


def test_each_session_keeps_its_connection_and_one_request_under_way(detector, drive):
    service = detector(hold_ms=5, lanes=8)
    recording, _, _ = drive(service, sessions=4)
    seen = service.seen()
    assert seen["connections"] == 4
    assert seen["most_at_once"] == 4
    assert seen["pictures"] > 20
    assert seen["different"] == 20
    assert len(recording.samples) + recording.warmup_requests <= seen["pictures"]


def test_number_of_requests_ends_the_window(detector, drive):
    recording, observer, _ = drive(detector(hold_ms=1), requests=30, seconds=20.0)
    assert recording.ended == "requests"
    assert len(recording.samples) == 30
    assert recording.close_ns - recording.open_ns < 15e9
    assert [call for call in observer.calls if call != "tick"] == ["opened", "closed"]


def test_warm_up_lasts_as_long_and_as_many_as_asked(detector, drive):
    recording, _, _ = drive(detector(hold_ms=1), warmup_requests=25, warmup_s=0.0, requests=5)
    assert recording.warmup_requests == 25
    recording, _, _ = drive(detector(hold_ms=1), warmup_requests=1, warmup_s=0.5, requests=5)
    assert recording.warmup_requests > 5


def test_ticks_come_at_most_twice_a_second(detector, drive):
    _, observer, ticks = drive(detector(hold_ms=1), seconds=1.5, warmup_s=0.5)
    gaps = [after - before for before, after in itertools.pairwise(ticks[:-1])]
    assert min(gaps) > 0.45
    assert 3 <= observer.calls.count("tick") <= 6


def test_refusals_are_failures_and_the_rest_is_good(detector, drive, build_usage):
    recording, _, _ = drive(detector(behaviour="busy", hold_ms=10), sessions=1)
    point = summarise(1, recording, build_usage(), None)
    assert point.errors.keys() == {"http-503"}
    assert point.failed == pytest.approx(point.good, abs=1)
    assert point.answered == point.good + point.failed
    assert point.goodput_per_s == pytest.approx(point.throughput_per_s / 2, rel=0.15)


def test_a_service_that_hangs_gives_timeouts_and_an_end(detector, drive, build_usage):
    service = detector(behaviour="hang")
    begun = time.monotonic()
    recording, _, _ = drive(
        service, sessions=3, seconds=0.5, warmup_requests=1, warmup_s=0.0, timeout_s=1.0
    )
    point = summarise(3, recording, build_usage(), None)
    assert time.monotonic() - begun < 6
    assert point.good == 0
    assert point.errors == {"timeout": point.failed}
    assert point.failed >= 2
    assert point.throughput_per_s == point.goodput_per_s == 0


def test_a_service_that_dies_ends_the_load_early(detector, drive):
    service = detector(behaviour="die", after=40, hold_ms=1)
    begun = time.monotonic()
    recording, _, _ = drive(service, sessions=2, seconds=60.0, warmup_requests=2, warmup_s=0.0)
    assert recording.ended == "unreachable"
    assert time.monotonic() - begun < 15
    assert {s.error for s in recording.samples if s.error} <= {"disconnect", "connect"}
    # A loop without a pause would have made thousands of attempts.
    assert len(recording.samples) < 300


SCRIPT = """
import sys
from seatrial.bench.run import run_benchmark
from seatrial.bench.scenarios import BenchOptions
from seatrial.load.target import Target
try:
    run_benchmark(Target(sys.argv[1]), BenchOptions(images=sys.argv[2], single_stream_s=60.0))
except KeyboardInterrupt:
    sys.exit(77)
"""


def test_ctrl_c_in_the_middle_ends_at_once_and_quietly(detector, picture_folder):
    # Requests are under way when it comes: each takes 3 s.
    service = detector(hold_ms=3000, lanes=4)
    command = [sys.executable, "-c", SCRIPT, service.url, str(picture_folder)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    client = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    deadline = time.monotonic() + 30
    while service.seen()["pictures"] < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    begun = time.monotonic()
    client.send_signal(signal.SIGINT)
    _, noise = client.communicate(timeout=20)
    assert time.monotonic() - begun < 2
    assert (client.returncode, noise) == (77, "")


def test_order_of_images_is_seeded_and_out_of_step():
    def first(seed, session):
        return list(itertools.islice(image_order(50, seed, session), 150))

    assert first(1, 0) == first(1, 0)
    assert first(1, 0) != first(1, 1)
    assert first(1, 0) != first(2, 0)
    for begin in (0, 50, 100):
        assert sorted(first(1, 0)[begin : begin + 50]) == list(range(50))


def test_window_counts_what_ends_in_it_wherever_it_began():
    def sample(start_ns, end_ns, error=""):
        return Sample(start_ns, end_ns, 0 if error else 200, error)

    async def play():
        window = Window(Load(sessions=2, seconds=60.0, warmup_s=0.0, warmup_requests=2), Quiet())
        now = time.perf_counter_ns()
        window.add(sample(now, now + 1))
        assert not window.open_ns
        window.add(sample(now, now + 1))
        assert window.open_ns
        astride = sample(window.open_ns - 10**9, window.open_ns + 5)
        inside = sample(window.open_ns + 5, window.open_ns + 9, "timeout")
        window.add(astride)
        window.add(inside)
        window.close("time")
        late = sample(window.open_ns + 9, window.close_ns + 7)
        window.add(late)
        assert window.samples == [astride, inside]
        assert window.stragglers == [late]
        assert (window.warmed, window.failed) == (2, 1)

    asyncio.run(play())


def test_window_opens_although_the_warm_up_never_gets_its_answers(monkeypatch):
    monkeypatch.setattr("seatrial.load.run.WARMUP_PATIENCE_S", 0.05)

    async def play():
        load = Load(sessions=1, seconds=0.05, warmup_s=0.0, warmup_requests=1000)
        observer = Quiet()
        window = Window(load, observer)
        await asyncio.wait_for(window.closed.wait(), 10)
        assert window.ended == "time"
        assert window.close_ns > window.open_ns > 0
        assert observer.calls == ["opened", "closed"]

    asyncio.run(play())
