from __future__ import annotations

import itertools

import pytest
from yarl import URL

from bench_reports import build_open_point
from seatrial.bench import campaign
from seatrial.bench.campaign import Campaign, Trials, rate_trial
from seatrial.bench.options import BenchOptions
from seatrial.bench.run import run_benchmark
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
    place.run(place.scenarios[0])
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
