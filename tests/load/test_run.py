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
from seatrial.load.arrivals import ClosedLoop, ConstantRate, Poisson
from seatrial.load.images import load_images
from seatrial.load.run import plan, run_load, send_schedule
from seatrial.load.samples import Sample
from seatrial.load.target import Body, Target, bodies, endpoint
from seatrial.load.window import DueWindow, Load

pytestmark = pytest.mark.slow


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
def drive(image_folder):
    """Puts a load on a service and gives (load, recording, observer, ticks).

    Windows end by a number of requests, not by the clock: a busy machine makes them longer.
    """

    def run(service, arrivals=1, on_tick=lambda _: None, **options):
        if isinstance(arrivals, int):
            arrivals = ClosedLoop(sessions=arrivals)
        load = Load(arrivals=arrivals, **{"measure_s": 300.0, "warmup_s": 0.0} | options)
        prepared = bodies(Target(service.url), load_images(image_folder).images)
        observer, ticks = Quiet(), []
        job = run_load(
            endpoint(Target(service.url)),
            prepared,
            load,
            observer,
            lambda window: (ticks.append(time.monotonic()), on_tick(window)),
        )
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return load, runner.run(job), observer, ticks

    return run


@pytest.mark.parametrize(("sessions", "lanes"), [(1, 1), (4, 1), (4, 2)])
def test_sessions_do_not_make_a_service_faster_than_its_lanes(
    detector, drive, build_usage, sessions, lanes
):
    load, recording, _, _ = drive(detector(hold_ms=20, lanes=lanes), sessions, requests=60)
    point = summarise(load, recording, build_usage(), None)
    window_s = (recording.close_ns - recording.open_ns) / 1e9
    assert (point.sessions, point.good, point.failed) == (sessions, 60, 0)
    assert point.throughput_per_s == pytest.approx(60 / window_s)
    # What the service really held a lane for, as timers are late on a busy machine.
    held_s = point.stages.mean_ms["infer"] / 1e3
    assert point.throughput_per_s <= min(sessions, lanes) / held_s * (1 + 2 * sessions / 60)
    # Requests over the sum of latencies, the classic mistake, is lower by the number under way.
    latencies_s = [sample.latency_ms / 1e3 for sample in recording.samples]
    cut_s = 2 * sessions * max(latencies_s)
    assert sum(latencies_s) == pytest.approx(point.in_flight * window_s, abs=cut_s)
    assert sessions / 2 < point.in_flight <= sessions + 1e-9


def test_each_session_keeps_its_connection_and_one_request_under_way(detector, drive):
    service = detector(hold_ms=5, lanes=8)
    _, recording, _, _ = drive(service, 4, requests=80)
    seen = service.seen()
    assert seen["connections"] == 4
    assert seen["most_at_once"] == 4
    assert seen["different"] == 20
    requests = len(recording.samples) + len(recording.stragglers) + recording.warmup_requests
    assert requests == seen["images"]


def test_a_closed_loop_has_no_due_times(detector, drive):
    _, recording, _, _ = drive(detector(hold_ms=1), requests=5)
    assert {sample.due_ns for sample in recording.samples} == {None}
    assert all(sample.latency_ms == sample.service_ms for sample in recording.samples)


def test_a_session_thinks_between_an_answer_and_its_next_request(detector, drive):
    arrivals = ClosedLoop(sessions=1, think_time_s=0.05)
    _, recording, _, _ = drive(detector(hold_ms=1), arrivals, requests=5)
    pairs = itertools.pairwise(recording.samples)
    assert min(later.start_ns - sooner.end_ns for sooner, later in pairs) >= 49e6


def test_a_session_that_is_refused_waits_before_it_asks_again(detector, drive):
    _, recording, _, _ = drive(detector(behaviour="busy", hold_ms=1), requests=9)
    gaps_ns = {200: [], 503: []}
    for sooner, later in itertools.pairwise(recording.samples):
        gaps_ns[sooner.status].append(later.start_ns - sooner.end_ns)
    assert min(gaps_ns[503]) >= 49e6
    assert min(gaps_ns[200]) < 49e6


def test_an_open_loop_does_not_wait_for_answers_and_counts_what_was_due(detector, drive):
    # One lane of 0.1 s gives 10 answers a second; 50 requests a second are due.
    service = detector(hold_ms=100, lanes=1)
    _, recording, _, _ = drive(service, ConstantRate(rate_hz=50.0), requests=12)
    due = sorted(sample.due_ns for sample in recording.samples)
    # Whatever the answers did, every request was due 20 ms after the one before.
    steps = [(after - before) / 20e6 for before, after in itertools.pairwise(due)]
    assert steps == pytest.approx([1.0] * 11, abs=1e-6)
    assert service.seen()["most_at_once"] > 4
    # The window was over long before the last answers; they are waited for, and count.
    assert (recording.close_ns - recording.open_ns) / 1e9 == pytest.approx(0.24)
    assert len(recording.samples) == 12
    assert sum(sample.end_ns > recording.close_ns for sample in recording.samples) > 4
    assert (recording.stragglers, recording.ended) == ((), "requests")


def test_requests_due_in_the_warm_up_of_an_open_loop_count_nowhere(detector, drive):
    service = detector(hold_ms=30, lanes=1)
    _, recording, observer, _ = drive(
        service, ConstantRate(rate_hz=50.0), warmup_s=0.2, measure_s=0.4
    )
    assert recording.warmup_requests == 10
    assert len(recording.samples) == 20
    assert all(sample.due_ns >= recording.open_ns for sample in recording.samples)
    # The service is slower than the load: some answers of the warm-up came in the window.
    assert 0 < recording.carried < 10
    calls = [call for call in observer.calls if call != "tick"]
    assert (calls, recording.ended) == (["opened", "closed"], "time")


def test_a_query_of_several_images_ends_with_its_last_answer(detector, drive):
    service = detector(hold_ms=20, lanes=1)
    arrivals = ClosedLoop(sessions=1, images_per_query=3)
    _, recording, _, _ = drive(service, arrivals, requests=4, warmup_requests=0)
    assert len(recording.samples) == 4
    assert min(sample.service_ms for sample in recording.samples) >= 59
    assert service.seen()["most_at_once"] == 3


def test_each_image_of_an_offline_load_is_sent_once(detector, drive, image_folder):
    service = detector(hold_ms=2, lanes=2)
    images = len(load_images(image_folder).images)
    arrivals = ClosedLoop(sessions=3, once=True)
    _, recording, _, _ = drive(service, arrivals, warmup_requests=6)
    assert (recording.warmup_requests, len(recording.samples)) == (6, images)
    assert (recording.ended, recording.stragglers) == ("requests", ())
    assert service.seen()["images"] == images + 6
    # No request of the warm-up was under way when the window began.
    assert min(sample.start_ns for sample in recording.samples) >= recording.open_ns


def test_pauses_at_random_have_a_mean_and_a_seed_of_their_own(detector, drive):
    def gaps(seed):
        arrivals = ClosedLoop(sessions=1, think_time_s=0.02, thinking="random")
        _, recording, _, _ = drive(detector(hold_ms=1), arrivals, requests=40, think_seed=seed)
        pairs = itertools.pairwise(recording.samples)
        return [(later.start_ns - sooner.end_ns) / 1e9 for sooner, later in pairs]

    first, other = gaps(1), gaps(2)
    # An exponential distribution: some pauses are far shorter than the mean, some far longer.
    assert min(first) < 0.01
    assert max(first) > 0.03
    again = gaps(1)
    # A timer is late and never early; the same seed draws the same pauses.
    same = sum(abs(one - two) < 5e-3 for one, two in zip(first, again, strict=True))
    different = sum(abs(one - two) < 5e-3 for one, two in zip(first, other, strict=True))
    assert same > different


def test_requests_are_due_one_after_the_other_and_none_is_sent_early(detector, drive):
    _, recording, _, _ = drive(detector(hold_ms=1), ConstantRate(50.0), requests=10)
    sent = sorted([*recording.samples, *recording.stragglers], key=lambda one: one.start_ns)
    assert all(sooner.due_ns < later.due_ns for sooner, later in itertools.pairwise(sent))
    assert all(one.start_ns >= one.due_ns for one in sent)


def test_a_load_is_closed_where_answers_pace_it():
    closed = Load(arrivals=ClosedLoop(sessions=3), measure_s=1.0)
    assert (closed.loop, closed.sessions) == ("closed", 3)
    scheduled = Load(arrivals=ConstantRate(5.0), measure_s=1.0)
    assert (scheduled.loop, scheduled.sessions) == ("open", 0)
    assert (closed.image_seed, closed.schedule_seed) == (0, 0)


def test_an_error_of_the_observer_is_the_error_of_the_load(image_folder, detector):
    class Broken(Quiet):
        def tick(self):
            raise RuntimeError("broken")

    target = Target(detector(hold_ms=1).url)
    prepared = bodies(target, load_images(image_folder).images)
    load = Load(arrivals=ClosedLoop(sessions=2), measure_s=300.0)
    with (
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        pytest.raises(RuntimeError, match="broken"),
    ):
        runner.run(run_load(endpoint(target), prepared, load, Broken(), lambda _: None))


def test_latency_counts_from_the_due_time_and_service_time_from_the_send(detector, drive):
    service = detector(hold_ms=1, lanes=8)
    ticked = []

    def stall(_):
        # Keeps the client from its work in the middle of the schedule.
        ticked.append(None)
        if len(ticked) == 2:
            time.sleep(0.3)

    arrivals = ConstantRate(rate_hz=100.0)
    _, recording, _, _ = drive(service, arrivals, requests=80, on_tick=stall)
    assert all(sample.start_ns >= sample.due_ns for sample in recording.samples)
    late = max(recording.samples, key=lambda sample: sample.start_ns - sample.due_ns)
    assert late.latency_ms - late.service_ms >= 250
    assert late.latency_ms == (late.end_ns - late.due_ns) / 1e6
    assert late.service_ms == (late.end_ns - late.start_ns) / 1e6
    # What was due meanwhile is sent all the same.
    assert len(recording.samples) == 80


def test_the_schedule_has_a_seed_of_its_own(detector, drive):
    seeds = []

    class Noting(ConstantRate, frozen=True):
        def due_s(self, seed, until_s):
            seeds.append((seed, until_s))
            return super().due_s(seed, until_s)

    arrivals = Noting(rate_hz=100.0)
    drive(detector(hold_ms=1), arrivals, requests=3, image_seed=5, schedule_seed=11, measure_s=9.0)
    assert seeds == [(11, 9.0)]


def test_number_of_requests_ends_the_window(detector, drive):
    _, recording, observer, _ = drive(detector(hold_ms=1), requests=30)
    assert recording.ended == "requests"
    assert len(recording.samples) == 30
    assert [call for call in observer.calls if call != "tick"] == ["opened", "closed"]


def test_an_open_loop_has_as_many_requests_as_asked():
    """Whatever the times are that the schedule drew, and the time at which the load began."""

    async def send(body, due_ns):
        return Sample(due_ns, due_ns + 1, 200, due_ns=due_ns)

    async def count(seed):
        load = Load(
            arrivals=Poisson(400.0), measure_s=10.0, requests=20, warmup_s=0.1, schedule_seed=seed
        )
        schedule = plan(load.arrivals, load, 1)
        long_ago_ns = time.perf_counter_ns() - 60 * 10**9 - seed  # nothing is waited for
        window = DueWindow(load, Quiet(), schedule.due_s, long_ago_ns)
        await send_schedule(send, [Body(b"", {})], schedule, window)
        return len(window.recording().samples)

    assert {asyncio.run(count(seed)) for seed in range(40)} == {20}


def test_time_ends_the_window(detector, drive):
    _, recording, _, _ = drive(detector(hold_ms=1), measure_s=0.2)
    assert recording.ended == "time"
    assert recording.close_ns - recording.open_ns >= 0.19e9


def test_warm_up_has_as_many_requests_as_asked(detector, drive):
    _, recording, _, _ = drive(detector(hold_ms=1), warmup_requests=25, requests=5)
    assert recording.warmup_requests == 25


def test_ticks_come_at_most_twice_a_second(detector, drive):
    _, _, observer, ticks = drive(detector(hold_ms=1), measure_s=1.5)
    gaps = [after - before for before, after in itertools.pairwise(ticks[:-1])]
    assert min(gaps) > 0.45
    # The last call tells the end of the window; the observer has one of its own for that.
    assert observer.calls.count("tick") == len(ticks) - 1


def test_refusals_are_failures_and_the_rest_is_good(detector, drive, build_usage):
    load, recording, _, _ = drive(detector(behaviour="busy", hold_ms=1), requests=20)
    point = summarise(load, recording, build_usage(), None)
    assert point.errors == {"http-503": 10}
    assert (point.good, point.failed, point.answered) == (10, 10, 20)
    assert point.goodput_per_s == pytest.approx(point.throughput_per_s / 2)


def test_a_service_that_hangs_gives_timeouts_and_an_end(detector, drive, build_usage):
    service = detector(behaviour="hang")
    load, recording, _, _ = drive(service, 3, measure_s=0.5, timeout_s=3.0)
    point = summarise(load, recording, build_usage(), None)
    assert point.good == 0
    assert point.errors == {"timeout": point.failed}
    assert point.failed >= 2
    assert point.throughput_per_s == point.goodput_per_s == 0


def test_a_service_that_dies_ends_the_load_early(detector, drive):
    service = detector(behaviour="die", after=40, hold_ms=1)
    _, recording, _, _ = drive(service, 2, warmup_requests=2)
    assert recording.ended == "unreachable"
    assert {s.error for s in recording.samples if s.error} <= {"disconnect", "connect"}
    # A loop without a pause would have made thousands of attempts.
    assert len(recording.samples) < 300


SCRIPT = """
import sys
from seatrial.bench.run import run_benchmark
from seatrial.bench.options import BenchOptions
from seatrial.load.target import Target
try:
    options = BenchOptions(images=sys.argv[2], single_stream_s=600.0, timeout_s=600.0)
    run_benchmark(Target(sys.argv[1]), options)
except KeyboardInterrupt:
    sys.exit(77)
"""


def test_ctrl_c_in_the_middle_ends_at_once_and_quietly(detector, image_folder):
    # A request is under way when it comes, and is never answered.
    service = detector(behaviour="hang")
    command = [sys.executable, "-c", SCRIPT, service.url, str(image_folder)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    client = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    while service.seen()["images"] < 2:
        assert client.poll() is None
        time.sleep(0.05)
    client.send_signal(signal.SIGINT)
    _, noise = client.communicate(timeout=120)
    assert (client.returncode, noise) == (77, "")
