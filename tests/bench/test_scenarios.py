from __future__ import annotations

import pytest

from seatrial.bench.options import ENOUGH_REQUESTS, BenchOptions
from seatrial.bench.scenarios import longest_s, plan
from seatrial.errors import InvalidConfig


def test_default_plan_takes_about_a_minute_and_can_print_p99():
    single, scaling = plan(BenchOptions(images="photos"))
    assert ENOUGH_REQUESTS == 662
    assert (single.name, single.loads[0].sessions, single.loads[0].requests) == (
        "single-stream",
        1,
        662,
    )
    assert [load.sessions for load in scaling.loads] == [1, 2, 4, 8]
    assert all(load.requests is None for load in scaling.loads)
    assert longest_s((single, scaling)) == 31 + 4 * 8


def test_options_reach_the_loads():
    options = BenchOptions(
        images="photos",
        sessions=(2, 6),
        single_stream_requests=9,
        single_stream_s=11.0,
        point_s=3.0,
        warmup_s=0.5,
        timeout_s=4.0,
        seed=20,
    )
    single, scaling = plan(options)
    (alone,) = single.loads
    assert (alone.measure_s, alone.requests, alone.image_seed) == (11.0, 9, 20)
    assert [load.measure_s for load in scaling.loads] == [3.0, 3.0]
    # Each point sends the images in an order of its own.
    assert [load.image_seed for load in scaling.loads] == [22, 26]
    assert [load.warmup_requests for load in (alone, *scaling.loads)] == [2, 4, 12]
    for load in (alone, *scaling.loads):
        assert (load.warmup_s, load.timeout_s, load.loop) == (0.5, 4.0, "closed")


def test_scenarios_run_in_the_order_asked_for():
    names = ("scaling", "single-stream")
    assert tuple(s.name for s in plan(BenchOptions(images="photos", scenarios=names))) == names


def test_each_session_warms_its_connection():
    _, scaling = plan(BenchOptions(images="photos"))
    assert all(load.warmup_requests >= load.sessions for load in scaling.loads)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scenarios": ("scalling",)}, "unknown scenario 'scalling'"),
        ({"scenarios": ()}, "no scenario"),
        ({"sessions": ()}, "--sessions must be rising"),
        ({"sessions": (0, 1)}, "--sessions must be rising"),
        ({"sessions": (4, 2)}, "--sessions must be rising"),
        ({"sessions": (2, 2)}, "--sessions must be rising"),
        ({"point_s": 0.0}, "--point-s must be a number of more than 0"),
        ({"point_s": float("nan")}, "--point-s must be a number of more than 0"),
        ({"single_stream_s": float("inf")}, "--single-stream-s must be a number of more than 0"),
        ({"timeout_s": -1.0}, "--timeout-s must be a number of more than 0"),
        ({"latency_limit_ms": 0.0}, "--latency-limit-ms must be a number of more than 0"),
        ({"warmup_s": -1.0}, "--warmup-s must be 0 or more"),
        ({"ready_s": float("nan")}, "--ready-s must be 0 or more"),
        ({"single_stream_requests": 0}, "--single-stream-requests must be a number of more than 0"),
        ({"image_limit": 0}, "--image-limit must be a number of more than 0"),
    ],
)
def test_options_out_of_range(change, message):
    with pytest.raises(InvalidConfig, match=message):
        plan(BenchOptions(images="photos", **change))


def test_nearest_scenario_is_named():
    with pytest.raises(InvalidConfig) as caught:
        plan(BenchOptions(images="photos", scenarios=("scalling",)))
    assert caught.value.hint == "did you mean 'scaling'?"


def test_short_times_and_small_limits_are_allowed():
    options = BenchOptions(
        images="photos", point_s=0.5, timeout_s=0.5, warmup_s=0.0, ready_s=0.0, image_limit=1
    )
    assert plan(options)[1].loads[0].measure_s == 0.5
