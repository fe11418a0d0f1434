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
    options(rate_hz=1.0, latency_ms=1.0).check("server")
    with pytest.raises(InvalidConfig, match="server needs --rate-hz"):
        options(latency_ms=1.0).check("server")
    with pytest.raises(InvalidConfig, match="server needs --latency-ms"):
        options(rate_hz=1.0).check("server")


def test_options_of_another_scenario_are_refused():
    options(rate_hz=1.0).check("offline")
    with pytest.raises(InvalidConfig, match="single-stream has no rate"):
        options(rate_hz=1.0).check("single-stream")
    with pytest.raises(InvalidConfig, match="--latency-ms is for server"):
        options(latency_ms=1.0).check("offline")


@pytest.mark.parametrize(
    "changes",
    [
        {"duration_s": 0.0}, {"queries": 0}, {"rate_hz": -1.0}, {"latency_ms": 0.0},
        {"images_per_query": 0}, {"in_flight": 0}, {"timeout_s": float("inf")},
        {"duration_s": float("nan")}, {"warmup_s": -0.1}, {"ready_s": float("nan")},
        {"percentile": 100.0}, {"percentile": 0.0}, {"schedule_seed": -1}, {"sample_seed": 2**64},
        {"library_seed": -1},
    ],
    ids=str,
)  # fmt: skip
def test_values_that_cannot_be_are_refused(changes):
    with pytest.raises(InvalidConfig, match=r"--|seed"):
        options(**changes).check("offline")


def test_the_smallest_values_are_taken():
    options(queries=1, in_flight=1, warmup_s=0.0, ready_s=0.0, sample_seed=2**64 - 1).check(
        "offline"
    )
