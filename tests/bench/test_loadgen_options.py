from __future__ import annotations

import pytest

from seatrial.bench.loadgen_options import FEWEST_QUERIES, LOOPS, NAMES, LoadgenOptions
from seatrial.errors import InvalidConfig
from seatrial.load.statistics import samples_needed


def options(**changes):
    return LoadgenOptions(images="photos", **changes)


def test_each_scenario_has_its_name_and_loop():
    assert {*NAMES} == {*LOOPS} == {*FEWEST_QUERIES}
    assert [name for name, loop in LOOPS.items() if loop == "open"] == ["server"]


def test_the_fewest_queries_are_those_of_early_stopping():
    assert FEWEST_QUERIES["single-stream"] == samples_needed(0.90)
    assert FEWEST_QUERIES["server"] == FEWEST_QUERIES["multi-stream"] == samples_needed(0.99)


@pytest.mark.parametrize("scenario", ["single-stream", "multi-stream", "offline"])
def test_scenarios_without_a_rate_need_nothing(scenario):
    options().check(scenario)


def test_server_needs_a_rate_and_a_latency():
    options(rate=2.0, latency_limit_ms=1.0).check("server")
    with pytest.raises(InvalidConfig, match="server needs --rate"):
        options(latency_limit_ms=1.0).check("server")
    with pytest.raises(InvalidConfig, match="server needs --latency-limit-ms"):
        options(rate=1.0).check("server")


def test_options_of_another_scenario_are_refused():
    options(rate=1.0).check("offline")
    with pytest.raises(InvalidConfig, match="single-stream has no rate"):
        options(rate=1.0).check("single-stream")
    with pytest.raises(InvalidConfig, match="--latency-limit-ms is for server"):
        options(latency_limit_ms=1.0).check("offline")


@pytest.mark.parametrize(
    "changes",
    [
        {"duration_s": 0.0}, {"queries": 0}, {"rate": -1.0}, {"latency_limit_ms": 0.0},
        {"images_per_query": 0}, {"in_flight": 0}, {"timeout_s": float("inf")},
        {"duration_s": float("nan")}, {"warmup_s": -0.1}, {"ready_s": float("nan")},
        {"percentile": "p100"}, {"percentile": "p0"}, {"percentile": "99"}, {"percentile": "p"},
        {"queries": 20_000_000_000_000_000_000_000}, {"rate": 1e12}, {"duration_s": 1e300},
        {"images_per_query": 10**30}, {"in_flight": 10**9}, {"timeout_s": 1e30},
        {"schedule_seed": -1}, {"sample_seed": 2**64}, {"library_seed": -1},
    ],
    ids=str,
)  # fmt: skip
def test_values_that_cannot_be_are_refused(changes):
    with pytest.raises(InvalidConfig, match=r"--|seed"):
        options(**changes).check("server" if "latency_limit_ms" in changes else "offline")


def test_the_smallest_values_are_taken():
    options(queries=1, in_flight=1, warmup_s=0.0, ready_s=0.0, sample_seed=2**64 - 1).check(
        "offline"
    )


def test_a_percentile_is_written_as_in_bench():
    assert options().judged("single-stream") == "p90"
    assert options().judged("server") == "p99"
    fine = options(percentile="p99.90")
    assert (fine.judged("server"), fine.fraction("server")) == ("p99.9", pytest.approx(0.999))
    fine.check("offline")
    with pytest.raises(InvalidConfig, match="--percentile 99 is not a percentile") as raised:
        options(percentile="99").check("offline")
    assert raised.value.hint.startswith("for example p90, p99 or p99.9")


def test_a_rate_at_which_the_queries_take_for_ever_is_refused():
    """LoadGen looks at the clock at an arrival alone."""
    with pytest.raises(InvalidConfig, match=r"662 queries at 1e-09/s take 6.62e\+11 s"):
        options(rate=1e-9, latency_limit_ms=100.0).check("server")
    options(rate=2.0, latency_limit_ms=100.0).check("server")
    options(rate=0.1, latency_limit_ms=100.0, queries=5).check("server")


def test_more_queries_than_are_drawn_beforehand_are_refused():
    with pytest.raises(InvalidConfig, match=r"would send 6e\+07 images"):
        options(rate=1e6, latency_limit_ms=1.0).check("server")
    with pytest.raises(InvalidConfig, match=r"would send 8e\+07 images"):
        options(queries=10_000_000).check("multi-stream")
