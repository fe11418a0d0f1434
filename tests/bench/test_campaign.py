from __future__ import annotations

import asyncio
import itertools
import signal
from types import SimpleNamespace

import pytest
from yarl import URL

from bench_reports import build_open_point
from seatrial.bench import campaign
from seatrial.bench.campaign import (
    LIVE_S,
    Campaign,
    Trials,
    _Live,
    first_interrupt,
    rate_trial,
)
from seatrial.bench.options import BenchOptions
from seatrial.bench.run import BenchInterrupted, run_benchmark
from seatrial.bench.scenarios import plan
from seatrial.client.credentials import NONE
from seatrial.load.rate_search import RateTrial
from seatrial.load.samples import Sample
from seatrial.load.target import Target
from seatrial.load.window import Recording
from seatrial.system.processes import ServiceProcesses

pytestmark = pytest.mark.slow

MS, S = 10**6, 10**9


def due(at_s, latency_ms, status=200):
    at_ns = round(at_s * S)
    error = "" if status == 200 else f"http-{status}"
    return Sample(at_ns, at_ns + latency_ms * MS, status, error, due_ns=at_ns)


def test_a_trial_counts_what_was_late_or_failed_in_each_second():
    samples = (due(0.1, 20), due(0.9, 31), due(1.5, 10, 503), due(2.4, 30), due(2.41, 5))
    recording = Recording(samples, (), 0, round(2.5 * S), 0, "time")
    trial = rate_trial(recording, 2.0, 30.0, 4.5, build_open_point(), 0.01)
    assert trial == RateTrial(2.0, 4.5, 5, 2, False, (1, 1, 0), (2, 1, 2))
    late = build_open_point(50.0, late_ms=30.0)
    assert rate_trial(recording, 2.0, 30.0, 4.5, late, 0.01).void


def test_a_trial_that_is_hopeless_even_from_the_send_is_not_void():
    def trial(service_ms):
        samples = tuple(
            Sample(n * MS + 40 * MS, n * MS + (40 + service_ms) * MS, 200, due_ns=n * MS)
            for n in range(100)
        )
        recording = Recording(samples, (), 0, S, 0, "time")
        late = build_open_point(50.0, late_ms=30.0)
        return rate_trial(recording, 100.0, 50.0, 1.0, late, 0.01)

    # Sent 40 ms late, all are over 50 ms; by the service's fault the slow ones alone.
    assert (trial(20).void, trial(20).bad) == (True, 100)
    assert (trial(51).void, trial(51).bad) == (False, 100)


@pytest.mark.parametrize("schedule_seed", [None, 40])
@pytest.mark.parametrize("before", [{}, {"made": 9}, {"known": [RateTrial(10.0, 1.0, 90, 0)] * 3}])
def test_every_trial_has_a_schedule_and_images_of_its_own(
    monkeypatch, image_folder, before, schedule_seed
):
    """The same ones again would count as new evidence and be none."""
    loads = []

    def measured(self, what, load, limit_ms, stop=None):
        loads.append(load)
        seconds = round(load.measure_s * S)
        samples = tuple(due(n / 100, 20) for n in range(round(10 * load.measure_s)))
        return build_open_point(10.0), Recording(samples, (), 0, seconds, 0, "time")

    monkeypatch.setattr(Campaign, "_measure", measured)
    clock = itertools.count()
    monkeypatch.setattr(campaign, "perf_counter", lambda: float(next(clock)))
    options = BenchOptions(
        images=str(image_folder), scenarios=("server",), latency_limit_ms=100.0, search_s=30.0,
        seed=5, schedule_seed=schedule_seed,
    )  # fmt: skip
    place = Campaign(
        URL("http://127.0.0.1"), (), ServiceProcesses((), "none"), options, plan(options),
        lambda *told, **more: None, NONE, None, Trials(**before),
    )  # fmt: skip
    place.run()
    first = 1 + {"made": 9, "known": 3}.get(next(iter(before), ""), 0)
    numbers = range(first, first + len(loads))
    assert len(loads) > 3
    assert [load.image_seed for load in loads] == [5 + n for n in numbers]
    seed = 5 if schedule_seed is None else schedule_seed
    assert [load.schedule_seed for load in loads] == [seed + n for n in numbers]


def search(service, image_folder, trials=None, **options):
    asked = BenchOptions(
        images=str(image_folder), scenarios=("server",), warmup_s=0.2, percentile="p90", **options
    )
    return run_benchmark(Target(service.url), asked, trials=trials)


def test_the_highest_rate_of_a_service_is_searched(detector, image_folder):
    # One lane of 20 ms: no more than 50 a second, and fewer within 100 ms.
    made = []
    report = search(
        detector(hold_ms=20, lanes=1), image_folder,
        latency_limit_ms=100.0, search_s=20.0, trials=Trials(on_trial=made.append),
    )  # fmt: skip
    (run,) = report.runs
    assert (run.loop, run.limit_ms, run.percentile) == ("open", 100.0, "p90")
    assert run.search.trials == tuple(made)
    assert len(run.points) == len(made) > 2
    assert run.search.low_hz <= run.search.rate_hz <= min(60, run.search.high_hz)
    if run.search.low_hz:  # a machine with other work may void all windows
        assert "p90 latency of at most 100 ms holds" in report.findings[0].text
    # A rate that is too high is given up before its time, and drained.
    assert max(point.in_flight for point in run.points) < 200
    again = search(
        detector(hold_ms=20, lanes=1), image_folder,
        latency_limit_ms=100.0, search_s=20.0, trials=Trials(known=made),
    )  # fmt: skip
    # What was known is not measured again: the budget was used up.
    assert len(again.runs[0].points) <= 1
    assert again.runs[0].search.trials[: len(made)] == tuple(made)


def test_a_service_that_holds_at_no_rate_is_told_from_one_that_was_not_searched_for_long(
    detector, image_folder
):
    report = search(
        detector(hold_ms=60, lanes=1), image_folder, latency_limit_ms=20.0, search_s=6.0
    )
    (run,) = report.runs
    assert run.search.ended in ("below-minimum", "budget")
    assert run.search.low_hz == 0.0
    assert report.findings[0].kind == "headline"


def interrupted(service, image_folder, at, **options):
    """The report of a benchmark that Ctrl-C ends at a call of the progress."""

    def on_progress(what, done=0, total=0, *, unit=""):
        if at(what, done):
            signal.raise_signal(signal.SIGINT)

    asked = BenchOptions(images=str(image_folder), warmup_s=0.0, **options)
    with pytest.raises(KeyboardInterrupt) as caught:
        run_benchmark(Target(service.url), asked, on_progress)
    return caught.value


def test_ctrl_c_keeps_the_loads_that_are_complete(detector, image_folder, assert_traceable):
    found = interrupted(
        detector(hold_ms=2), image_folder,
        lambda what, done: what.startswith("scaling 3/4"),
        scenarios=("single-stream", "scaling"), single_stream_requests=5, sessions=(1, 2, 4),
        point_s=0.5,
    )  # fmt: skip
    assert isinstance(found, BenchInterrupted)
    assert found.report.interrupted
    told = [(run.scenario, [p.sessions for p in run.points]) for run in found.report.runs]
    assert told == [("single-stream", [1]), ("scaling", [1])]
    assert "interrupted" in {one.id for one in found.report.findings}
    assert_traceable(found.report)


def test_ctrl_c_before_anything_is_complete_leaves_nothing(detector, image_folder):
    found = interrupted(
        detector(hold_ms=2), image_folder,
        lambda what, done: what.startswith("single-stream"), scenarios=("single-stream",),
        single_stream_s=600.0,
    )  # fmt: skip
    assert not isinstance(found, BenchInterrupted)


def test_ctrl_c_ends_a_soak_which_counts_until_then(detector, image_folder, assert_traceable):
    """Each request that was due by then is waited for."""
    found = interrupted(
        detector(hold_ms=50), image_folder, lambda what, done: done == 2,
        scenarios=("soak", "scaling"), rates=(20.0,), soak_s=600.0, arrivals="constant",
    )  # fmt: skip
    assert isinstance(found, BenchInterrupted)
    ((soak,),) = (run.points for run in found.report.runs)
    assert soak.ended == "interrupted"
    assert 1 < soak.window_s < 600
    assert soak.finished == pytest.approx(20 * soak.window_s, abs=1)
    assert soak.good == soak.finished
    assert soak.usage.server.cpu_s >= 0
    assert_traceable(found.report)


@pytest.mark.parametrize("wanted", [True, False])
def test_the_second_ctrl_c_ends_at_once(wanted):
    called = []

    async def interrupts():
        await asyncio.sleep(0)
        with first_interrupt(asyncio.get_running_loop(), lambda: wanted, lambda: called.append(1)):
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(0.01)
            assert wanted
            assert called == [1]
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(60)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(interrupts())
    assert called == ([1] if wanted else [])
    assert signal.getsignal(signal.SIGINT) is before


def test_a_long_window_says_how_it_goes():
    window, live = SimpleNamespace(samples=[], failed=0), _Live("soak 1/1", 100.0)
    window.samples += [None] * 30
    assert live.words(window, 100.0 + LIVE_S - 1) == "soak 1/1"
    window.samples += [None] * 450
    window.failed = 3
    first = "soak 1/1: 8 requests/s ended in the last 60 s, 3 failed"
    assert live.words(window, 160.0) == first
    window.samples += [None] * 600
    assert live.words(window, 161.0) == first
    assert live.words(window, 220.0) == "soak 1/1: 10 requests/s ended in the last 60 s, 0 failed"
