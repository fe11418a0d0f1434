from __future__ import annotations

import pytest

from seatrial.bench import conditions
from seatrial.bench.quotes import Scope

STAGES = {"decode": 5.0, "infer": 5.0}


@pytest.fixture
def scope(make_report):
    return lambda *points, **options: Scope(make_report(*points, **options))


@pytest.mark.parametrize(
    ("value", "limit", "is_above"),
    [(None, 0.0, False), (0.05, 0.05, False), (0.051, 0.05, True)],
)
def test_a_value_is_above_a_limit_only_if_it_is_known(value, limit, is_above):
    assert conditions.above(value, limit) is is_above


@pytest.mark.parametrize(("infer", "dominates"), [(5.0, True), (4.9, False)])
def test_the_engine_dominates_from_half_of_the_work_on(scope, point, infer, dominates):
    stages = {"decode": 10.0 - infer, "infer": infer}
    found = scope([point(1, 40.0, stages=stages)])
    assert conditions.infer_share(found) == pytest.approx(infer / 10)
    assert conditions.engine_dominates(found) is dominates


def test_without_stages_no_share_is_known(scope, point):
    found = scope([point(1, 40.0)])
    assert conditions.infer_share(found) is None
    assert not conditions.engine_dominates(found)
    assert conditions.infer_share(scope([point(1, stages={"decode": 3.0})])) is None


def curve(point, last_ms, **load):
    return [point(n, ms, **load) for n, ms in ((1, 40.0), (2, 42.0), (4, last_ms))]


def test_a_knee_is_known_where_the_curve_has_answers_and_quiet(scope, point):
    for last_ms, reached in ((84.0, True), (42.0, False)):
        found = scope(None, curve(point, last_ms))
        assert conditions.knee_known(found, reached=reached)
        assert not conditions.knee_known(found, reached=not reached)
    assert not conditions.knee_known(scope(None, curve(point, 84.0, count=20)))
    assert not conditions.knee_known(scope([point(1)]))


def test_the_share_of_others_is_of_the_usable_cores(scope, point):
    found = scope([point(1, other_cores=0.5)])
    assert conditions.others_share(found, "alone") == 0.25
    assert conditions.others_share(found, "last") == 0.0
    remote = scope([point(1, server_cores=None, other_cores=0.5)])
    assert conditions.others_share(remote, "alone") == 0.0


@pytest.mark.parametrize(
    ("usage", "limit"),
    [
        ({"server_cores": 1.0, "client_cores": 0.9}, "client"),
        ({"server_cores": 1.0, "client_cores": 0.8}, "cores"),
        ({"server_cores": 0.5, "client_cores": 0.3, "other_cores": 1.0}, "others"),
        ({"server_cores": 1.0, "client_cores": 0.4}, "lanes"),
        ({"server_cores": 1.1, "client_cores": 0.4}, ""),
        ({"server_cores": None}, ""),
    ],
)
def test_what_holds_throughput_down(scope, point, usage, limit):
    assert conditions.limit(scope(None, curve(point, 84.0, **usage))) == limit


def test_lanes_are_not_the_limit_of_a_curve_that_rises(scope, point):
    assert conditions.limit(scope(None, curve(point, 42.0, server_cores=0.5))) == ""


@pytest.mark.parametrize(
    ("features", "index"),
    [(("avx2",), None), (("avx2", "amx_bf16", "avx512_bf16"), 1), (("avx512_bf16",), 0)],
)
def test_the_first_instruction_set_for_bfloat16(scope, point, features, index):
    assert conditions.bf16_feature(scope([point(1)], features=features)) == index


@pytest.mark.parametrize(
    ("change", "helps"),
    [
        ({}, True),
        ({"local": False}, False),
        ({"features": ("avx2",)}, False),
        ({"model": {"name": "tiny", "device": "CPU", "precision": "f32"}}, True),
        ({"model": {"name": "tiny", "precision": "f32"}}, True),
        ({"model": {"name": "tiny", "device": "cuda", "precision": "f32"}}, False),
        ({"model": {"name": "tiny", "device": "cpu", "precision": "bf16"}}, False),
        ({"model": {"name": "tiny", "device": "cpu"}}, False),
    ],
)
def test_bfloat16_would_help_float32_on_this_cpu(scope, point, change, helps):
    found = scope([point(1, 40.0, stages=STAGES)], **change)
    assert conditions.bf16_would_help(found) is helps


@pytest.mark.parametrize(
    ("usage", "threads", "idle"),
    [
        ({"server_cores": 1.4}, 1, True),
        ({"server_cores": 1.5}, 1, False),
        ({"server_cores": 1.0, "other_cores": 0.4}, 1, True),
        ({"server_cores": 1.0, "other_cores": 0.5}, 1, False),
        ({"server_cores": 1.0}, 2, False),
        ({"server_cores": 1.0}, 3, False),
        ({"server_cores": 1.0}, None, True),
        ({"server_cores": None}, 1, False),
    ],
)
def test_a_lone_request_leaves_cores_idle(scope, point, usage, threads, idle):
    model = {"name": "tiny", "layout": {"wide_threads": threads}}
    found = scope([point(1, 40.0, stages=STAGES, **usage)], model=model)
    assert conditions.cores_idle_for_one(found) is idle


@pytest.mark.parametrize(
    ("usage", "last_ms", "idle"),
    [
        ({"server_cores": 1.4}, 84.0, True),
        ({"server_cores": 1.48}, 84.0, False),
        ({"server_cores": 1.0, "other_cores": 0.4}, 84.0, True),
        ({"server_cores": 1.0, "other_cores": 0.49}, 84.0, False),
        ({"server_cores": 1.0}, 42.0, False),
        ({"server_cores": None}, 84.0, False),
    ],
)
def test_cores_are_idle_where_the_curve_is_flat(scope, point, usage, last_ms, idle):
    found = scope(None, curve(point, last_ms, **usage))
    assert conditions.cores_idle_at_best(found) is idle


def test_percentiles_that_the_sample_is_too_small_for(scope, point):
    assert conditions.unprinted(scope([point(1, count=130)])) == ["p99"]
    assert conditions.unprinted(scope([point(1, count=64)])) == ["p95", "p99"]
    assert conditions.unprinted(scope([point(1, count=63)])) == ["p90", "p95", "p99"]
    assert conditions.unprinted(scope([point(1, count=700)])) == []
    assert conditions.unprinted(scope(None, [point(2), point(4)])) == []
