from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seatrial.bench.measurement import summarise
from seatrial.load.arrivals import ClosedLoop, Poisson
from seatrial.load.samples import Sample
from seatrial.load.window import Load, Recording

MS = 1_000_000


def closed(sessions):
    return Load(arrivals=ClosedLoop(sessions), measure_s=1.0)


def recording(samples, stragglers=(), window_ms=1000):
    return Recording(tuple(samples), tuple(stragglers), 0, window_ms * MS, 3, "time")


def answer(start_ms, end_ms, **rest):
    return Sample(int(start_ms * MS), int(end_ms * MS), 200, **rest)


def failure(start_ms, end_ms, error, status=0):
    return Sample(int(start_ms * MS), int(end_ms * MS), status, error)


def test_what_counts_where(build_usage):
    samples = [answer(0, 50), answer(50, 250), failure(250, 300, "http-503", 503)]
    samples.append(failure(300, 900, "timeout"))
    refused_late = failure(950, 1300, "http-503", 503)
    late = [answer(900, 1200), refused_late, failure(950, 3000, "timeout")]
    point = summarise(
        closed(2), recording(samples, late, 2000), build_usage(), latency_limit_ms=100.0
    )
    assert (point.finished, point.answered, point.good, point.in_time) == (4, 3, 2, 1)
    assert (point.failed, point.unfinished) == (3, 2)
    assert list(point.errors.items()) == [("http-503", 1), ("timeout", 2)]
    assert (point.throughput_per_s, point.goodput_per_s) == (1.5, 0.5)
    assert point.latency.mean_ms == 125.0
    assert point.latency.failed == 3
    assert point.warmup_requests == 3


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.integers(1, 16),
    st.lists(st.floats(1.0, 400.0), min_size=1, max_size=60),
)
def test_littles_law_holds_for_sessions_without_a_gap(build_usage, sessions, latencies):
    samples, end_ms = [], 0.0
    for latency_ms in latencies:
        samples += [answer(end_ms, end_ms + latency_ms)] * sessions
        end_ms += latency_ms
    whole = Recording(tuple(samples), (), 0, int(end_ms * MS), 0, "time")
    point = summarise(closed(sessions), whole, build_usage(), None)
    assert point.in_flight == pytest.approx(sessions, rel=1e-3)
    by_law_ms = point.in_flight / point.throughput_per_s * 1e3
    assert by_law_ms == pytest.approx(point.latency.mean_ms, rel=1e-3)


def test_requests_cut_by_the_window_do_not_look_like_lost_time(build_usage):
    # Two sessions without a pause, 520 ms an answer, a window of 1.3 s: most are cut by its ends.
    step = 520 * MS
    spans = [
        (n * step + shift, (n + 1) * step + shift) for n in range(6) for shift in (0, step // 2)
    ]
    begin, end = step, step + 1300 * MS
    answers = [Sample(a, b, 200, "", 100, 1, None) for a, b in spans]
    inside = tuple(sample for sample in answers if begin <= sample.end_ns < end)
    late = tuple(sample for sample in answers if sample.start_ns < end <= sample.end_ns)
    point = summarise(
        closed(2), Recording(inside, late, begin, end, 0, "time"), build_usage(), None
    )
    assert point.in_flight == pytest.approx(2.0)
    assert point.finished == len(inside)


def test_stages_add_up_to_the_latency(build_usage):
    timing = {"decode": 2.0, "queue": 5.0, "infer": 30.0, "total": 40.0}
    samples = [answer(0, 44, timing_ms=timing), answer(50, 96, timing_ms=timing), answer(96, 99)]
    stages = summarise(closed(1), recording(samples), build_usage(), None).stages
    assert stages.samples == 2
    assert stages.mean_ms == {"decode": 2.0, "queue": 5.0, "infer": 30.0}
    assert (stages.other_ms, stages.total_ms) == (3.0, 40.0)
    assert (stages.latency_ms, stages.transport_ms) == (45.0, 5.0)


def test_rounded_clocks_give_no_negative_time(build_usage):
    timing = {"infer": 30.01, "total": 30.0}
    stages = summarise(
        closed(1), recording([answer(0, 29.9, timing_ms=timing)]), build_usage(), None
    ).stages
    assert (stages.other_ms, stages.transport_ms) == (0.0, 0.0)


def test_latency_counts_from_the_due_time_and_transport_from_the_send(build_usage):
    timing = {"infer": 30.0, "total": 40.0}
    late = answer(100, 145, timing_ms=timing, due_ns=40 * MS)
    point = summarise(closed(1), recording([late]), build_usage(), latency_limit_ms=100.0)
    assert point.latency.mean_ms == 105.0
    assert (point.good, point.in_time) == (1, 0)
    assert (point.stages.latency_ms, point.stages.transport_ms) == (45.0, 5.0)
    assert point.in_flight == pytest.approx(0.045)


@pytest.mark.parametrize(("limit_ms", "in_time"), [(50.0, 1), (49.9, 0), (None, 1)])
def test_an_answer_at_the_latency_limit_is_in_time(build_usage, limit_ms, in_time):
    point = summarise(closed(1), recording([answer(0, 50)]), build_usage(), limit_ms)
    assert point.in_time == in_time


def test_means_are_of_good_answers_that_say(build_usage):
    samples = [
        answer(0, 10, detections=2, received_bytes=100),
        answer(10, 20, detections=None, received_bytes=300),
        answer(20, 30, detections=5, received_bytes=500),
        failure(30, 40, "http-503", 503),
    ]
    point = summarise(closed(1), recording(samples), build_usage(), None)
    assert (point.detections_mean, point.received_bytes_mean) == (3.5, 300.0)


def test_a_stage_that_some_answers_lack_counts_as_no_time_there(build_usage):
    samples = [
        answer(0, 44, timing_ms={"infer": 30.0, "total": 40.0}),
        answer(50, 94, timing_ms={"queue": 6.0, "infer": 30.0, "total": 40.0}),
        answer(94, 99, timing_ms={"infer": 3.0}),
    ]
    stages = summarise(closed(1), recording(samples), build_usage(), None).stages
    assert stages.samples == 2
    assert stages.mean_ms == {"infer": 30.0, "queue": 3.0}


def test_of_very_many_stages_the_largest_are_kept_and_the_rest_is_other_time(build_usage):
    samples = [
        answer(100 * n, 100 * n + 50, timing_ms={
            "infer": 20.0, f"request-{n}": 1.0, "x" * 65: 2.0, "total": 40.0
        })
        for n in range(1, 101)
    ]  # fmt: skip
    stages = summarise(closed(1), recording(samples, (), 10_100), build_usage(), None).stages
    assert len(stages.mean_ms) == 32
    assert stages.mean_ms["infer"] == pytest.approx(20.0)
    assert stages.other_ms == pytest.approx(40.0 - sum(stages.mean_ms.values()))
    assert not any(name.startswith("xx") for name in stages.mean_ms)


def test_a_window_of_no_length_has_no_rates(build_usage):
    point = summarise(closed(1), recording([answer(0, 5)], window_ms=0), build_usage(), None)
    assert (point.in_flight, point.throughput_per_s, point.goodput_per_s) == (0.0, 0.0, 0.0)


def test_no_stage_times_and_no_answers(build_usage):
    assert summarise(closed(1), recording([answer(0, 5)]), build_usage(), None).stages is None
    empty = summarise(closed(1), recording([]), build_usage(), None)
    assert (empty.throughput_per_s, empty.latency.mean_ms, empty.histogram) == (0.0, None, None)
    assert (empty.detections_mean, empty.received_bytes_mean) == (None, None)


def test_an_open_loop_counts_what_was_due_and_the_rate_of_what_came(build_usage):
    def due(at_ms, latency_ms, status=200, late_ms=0):
        start = (at_ms + late_ms) * MS
        error = "" if status == 200 else f"http-{status}"
        return Sample(start, (at_ms + latency_ms) * MS, status, error, due_ns=at_ms * MS)

    samples = (due(100, 20, late_ms=15), due(600, 10, status=503), due(900, 300))
    found = Recording(samples, (), 0, 1000 * MS, 4, "time", carried=2)
    point = summarise(Load(arrivals=Poisson(3.0), measure_s=1.0), found, build_usage(), 100.0)
    assert (point.finished, point.answered, point.good, point.failed, point.unfinished) == (
        3, 3, 2, 1, 0,
    )  # fmt: skip
    # Two answers came in the window, and two of requests that were due before it.
    assert point.throughput_per_s == 4.0
    assert (point.in_time, point.goodput_per_s) == (1, 1.0)
    assert (point.latency.mean_ms, point.service.mean_ms) == (160.0, (5 + 300) / 2)
    assert (point.law, point.load, point.sessions) == ("Poisson, 3/s", "Poisson, 3/s", 0)
    assert (point.generator.offered_per_s, point.generator.late_max_ms) == (3.0, 15.0)
    assert point.generator.late_limit_ms == 10.0  # a tenth of the limit
    assert point.void
    assert len(point.timeline.slices) == 1


def test_without_a_limit_a_late_send_is_judged_by_the_median_of_all_failures_too(build_usage):
    samples = [
        Sample(0, 900 * MS, status, error, due_ns=0)
        for status, error in ((200, ""), (504, "http-504"), (0, "timeout"))
    ]
    point = summarise(closed(1), recording(samples), build_usage(), latency_limit_ms=None)
    assert point.latency.percentiles["p50"].value_ms is None
    assert point.generator.late_limit_ms == 90.0


def test_the_load_of_a_closed_loop_is_in_words_too(build_usage):
    def load_of(law):
        one = Recording((Sample(0, 5 * MS, 200),), (), 0, 1000 * MS, 0, "time")
        return summarise(Load(arrivals=law, measure_s=1.0), one, build_usage(), None)

    plain = load_of(ClosedLoop(4))
    assert (plain.load, plain.law, plain.service, plain.generator) == ("4 sessions", "", None, None)
    assert plain.void == ()
    several = load_of(ClosedLoop(1, images_per_query=8))
    assert (several.load, several.images_per_query) == ("8 images a query", 8)
