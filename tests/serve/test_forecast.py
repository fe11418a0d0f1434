"""What the forecast learns, request by request: no clock but the test's."""

from __future__ import annotations

import numpy as np
import pytest

from seatrial.serve.forecast import (
    LONGEST,
    MEMORY_REQUESTS,
    MOST_WHOLE,
    Forecast,
    Promise,
    Took,
    in_words,
    took_by,
)


def test_a_single_stall_counts_as_a_few_requests() -> None:
    now = [0.0]
    forecast = Forecast(1, 0.04, lambda: now[0])
    for work_s in [0.04] * 20 + [60.0]:
        promise = forecast.promise(1000)
        forecast.accept(promise)
        now[0] += work_s
        forecast.ended(promise, work_s)
    assert forecast.promise(1000).work_s == pytest.approx(0.04 + 0.1 * 7 * 0.04)


def test_the_spread_grows_at_once_and_shrinks_slowly() -> None:
    now = [0.0]
    forecast = Forecast(1, 0.04, lambda: now[0])

    def later_s(after_s: float, times: int = 1) -> float:
        """How much later than foretold an answer may be, after some that took so long."""
        for _ in range(times):
            promise = forecast.promise(1000)
            forecast.accept(promise)
            now[0] += after_s
            forecast.ended(promise, 0.04)
        return forecast.late_s(far) - far.finish_s

    far = Promise(10, 0.04, 10.0, 0.0, batch=False)
    assert forecast.late_s(far) - far.finish_s == pytest.approx(0.04)
    assert later_s(1.0) == pytest.approx(2 * (0.02 + 0.2 * (8 * 0.04 - 0.02)))
    assert 0.14 < later_s(0.04, 10) < 0.16
    assert later_s(0.04, 1000) < 0.01


@pytest.mark.parametrize("bound_s", [0.02, 0.5])
def test_an_image_that_its_header_foretells_anew_says_nothing_of_others(bound_s: float) -> None:
    """A few files of 3 KB that take 25 megapixels would close the service for seconds."""
    now = 0.0
    forecast = Forecast(1, 0.04, lambda: now)
    far = Promise(10, 0.04, 10.0, 0.0, batch=False)
    before_s = forecast.late_s(far)
    for _ in range(3):
        promise = forecast.promise(3000)
        forecast.accept(promise)
        forecast.arrived(promise)
        forecast.weighed(promise, bound_s)
        now += promise.finish_s + 0.3  # others were foretold wrong as well
        forecast.ended(promise, 0.04)
    assert (forecast.late_s(far) > before_s) == (bound_s < 0.1)


@pytest.mark.parametrize(("size", "work_s"), [(1, 0.055), (4, 0.025), (40, 0.016)])
def test_of_a_shared_run_each_request_has_its_part(size: int, work_s: float) -> None:
    stages_ms = {"receive": 100.0, "queue": 200.0, "decode": 10.0, "infer": 40.0, "encode": 5.0}
    assert took_by(stages_ms, size, 0.02) == pytest.approx(Took(work_s, 0.055, 0.01, 0.02))


def test_a_request_lasts_as_long_as_the_run_that_it_shares() -> None:
    now = [0.0]
    forecast = Forecast(1, 0.1, lambda: now[0])
    for _ in range(200):  # the lane has time in between: its rate is not measured
        promise = forecast.promise(1000)
        forecast.accept(promise)
        now[0] += 0.4
        forecast.ended(promise, Took(0.1, 0.4))
    assert forecast.promise(1000).work_s == pytest.approx(0.1, rel=0.01)
    assert forecast.promise(1000).finish_s == pytest.approx(0.4, rel=0.01)


@pytest.mark.parametrize(
    ("took", "foretold_s"),
    [
        # A run that others shared: an image lasts so much longer than its part of the work.
        (Took(0.1, 0.4), 0.1 * (1 + 3 / MEMORY_REQUESTS)),
        # A clock that stood still for the part: no run has more images than `MOST_WHOLE`.
        (Took(1e-9, 0.4), 0.1 * (1 + (MOST_WHOLE - 1) / MEMORY_REQUESTS)),
        # A suspended machine, while no decoder was at work.
        (Took(60.0, 60.0, 0.0, 1e-9), 0.1 * (1 + (LONGEST - 1) / MEMORY_REQUESTS)),
    ],
)
def test_a_request_that_has_ended_says_how_long_a_weighed_image_lasts(
    took: Took, foretold_s: float
) -> None:
    """The next one takes no time to decode: what it takes is the rest of its work, and its run."""
    forecast = Forecast(1, 0.1, lambda: 0.0)
    forecast.ended(forecast.promise(1000), took)
    assert forecast.weighed(forecast.promise(1000), 0.0) == pytest.approx(foretold_s)


def test_rounding_leaves_no_work_below_nothing_behind() -> None:
    """Sums of seconds that come and go in another order do not end at 0 by themselves."""
    draw = np.random.default_rng(0)
    forecast = Forecast(1, 0.1, lambda: 0.0)
    for _ in range(100):
        promises = [forecast.promise(1000) for _ in range(8)]
        for promise, work_s in zip(promises, draw.random(8), strict=True):
            promise.work_s = work_s
            forecast.accept(promise)
        for number in draw.permutation(8):
            forecast.ended(promises[number])
            assert forecast._backlog_s[False] >= 0


def test_sizes_are_learnt_apart() -> None:
    now = [0.0]
    forecast = Forecast(1, 0.04, lambda: now[0])
    for body_bytes, work_s in [(100_000, 0.04), (5_000_000, 0.4)] * 30:
        promise = forecast.promise(body_bytes)
        forecast.accept(promise)
        now[0] += work_s
        forecast.ended(promise, work_s)
    assert forecast.promise(100_000).work_s == pytest.approx(0.04, rel=0.01)
    assert forecast.promise(5_000_000).work_s == pytest.approx(0.4, rel=0.1)
    # The next that is known.
    assert forecast.promise(9_000_000).work_s == pytest.approx(0.4, rel=0.1)


def test_what_waits_is_in_the_forecast_of_the_next_one() -> None:
    now = [0.0]
    forecast = Forecast(2, 0.1, lambda: now[0])
    finish = []
    for _ in range(6):
        promise = forecast.promise(1000)
        finish.append(promise.finish_s)
        forecast.accept(promise)
        forecast.arrived(promise)
    assert finish == pytest.approx([0.1, 0.1, 0.15, 0.2, 0.25, 0.3])


def test_bodies_that_do_not_arrive_hold_nobody_up() -> None:
    now = [0.0]
    forecast = Forecast(1, 0.1, lambda: now[0])
    slow = [forecast.promise(1000) for _ in range(50)]
    for promise in slow:
        forecast.accept(promise)
    assert forecast.promise(1000).finish_s == pytest.approx(5.1)
    now[0] = 0.2
    assert forecast.promise(1000).finish_s == pytest.approx(0.1)
    for promise in slow[:3]:
        forecast.arrived(promise)
    assert forecast.promise(1000).finish_s == pytest.approx(0.4)
    for promise in slow:
        forecast.ended(promise)
    assert forecast.promise(1000).finish_s == pytest.approx(0.1)


def test_live_requests_wait_for_no_batch_but_what_runs() -> None:
    forecast = Forecast(2, 0.1, lambda: 0.0)
    for _ in range(50):
        forecast.accept(forecast.promise(1000, batch=True))
    assert forecast.promise(1000, batch=True).finish_s == pytest.approx(51 * 0.1 / 2)
    assert forecast.promise(1000).finish_s == pytest.approx((2 + 1) * 0.1 / 2)
    live = forecast.promise(1000)
    forecast.accept(live)
    assert forecast.promise(1000).finish_s == pytest.approx((2 + 2) * 0.1 / 2)
    forecast.yields(live)  # its body says so
    assert forecast.promise(1000).finish_s == pytest.approx((2 + 1) * 0.1 / 2)
    forecast.ended(live)
    assert forecast.promise(1000, batch=True).finish_s == pytest.approx(51 * 0.1 / 2)


def test_batches_that_wait_longer_than_foretold_are_no_reason_to_refuse_live_requests() -> None:
    now = [0.0]
    forecast = Forecast(1, 0.1, lambda: now[0])
    live, late = (Promise(10, 0.1, 10.0, 0.0, batch) for batch in (False, True))
    before_s = forecast.late_s(live)
    batch = forecast.promise(1000, batch=True)
    forecast.accept(batch)
    now[0] += 60.0
    forecast.ended(batch, 0.1)
    assert forecast.late_s(live) == pytest.approx(before_s)
    assert forecast.late_s(late) > before_s


@pytest.mark.parametrize(
    ("seconds", "limit_s", "words"),
    [
        (1.234, 1.0, "1.2"),
        (1.04, 1.0, "1.04"),
        (1.0001, 1.0, "1.001"),
        (0.7992, 0.796, "0.8"),
        (0.0123, 0.012, "0.013"),
        (123.4, 15.0, "120"),
        (123.4, 121.5, "123.4"),
    ],
)
def test_the_words_for_a_time_beyond_a_limit_are_beyond_it(
    seconds: float, limit_s: float, words: str
) -> None:
    assert in_words(seconds, limit_s) == words
