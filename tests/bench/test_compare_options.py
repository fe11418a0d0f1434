from __future__ import annotations

import pytest

from seatrial.bench.compare_options import (
    CompareOptions,
    check_compare,
    check_count,
    law_of,
    load_of,
    percent_of,
)
from seatrial.errors import InvalidConfig
from seatrial.load.arrivals import Bursts, ClosedLoop, Poisson


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), (" 2.5 % ", 0.025), ("99.9%", 0.999)])
def test_a_percentage_is_a_share(text, share):
    assert percent_of(text, "--same-within") == pytest.approx(share)


@pytest.mark.parametrize("text", ["5", "0.05", "0%", "100%", "-5%", "five%", "5%%"])
def test_what_could_be_read_in_two_ways_is_no_percentage(text):
    with pytest.raises(InvalidConfig, match="--same-within must be a percentage"):
        percent_of(text, "--same-within")


def test_the_figure_is_the_median_of_lone_requests_or_the_throughput_of_several():
    assert CompareOptions().figure == "p50"
    assert CompareOptions(sessions=1).figure == "p50"
    assert CompareOptions(sessions=4).figure == "throughput"
    assert CompareOptions(sessions=4, percentile="p90").figure == "p90"
    assert CompareOptions(rate=5.0).figure == "p50"
    assert CompareOptions(same_within="2%").margin == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rounds": 5}, "--rounds must be 6 or more, not 5"),
        ({"block_s": 0.0}, "--block-s must be a number of more than 0"),
        ({"sessions": 0}, "--sessions must be a number of more than 0"),
        ({"rate": float("inf")}, "--rate must be a number of more than 0"),
        ({"warmup_s": -1.0}, "--warmup-s must be 0 or more"),
        ({"ready_s": -1.0}, "--ready-s must be 0 or more"),
        ({"timeout_s": 0.0}, "--timeout-s must be"),
        ({"image_limit": 0}, "--image-limit must be"),
        ({"same_within": "5"}, "--same-within must be a percentage"),
        ({"rate": 5.0, "sessions": 2}, "--rate sends requests by a schedule"),
        ({"rate": 5.0, "percentile": "p99"}, "p99 needs 662 requests in each block"),
        ({"rate": 5.0, "arrivals": "x.toml"}, "--rate is the rate of poisson"),
        ({"arrivals": "gusts"}, "unknown arrival law"),
    ],
)
def test_what_is_wrong_is_an_error(changes, words):
    with pytest.raises(InvalidConfig, match=words):
        check_compare(CompareOptions(**changes))


def test_what_is_right_is_not():
    check_compare(CompareOptions(rounds=6, warmup_s=0.0, ready_s=0.0, image_limit=1))
    check_compare(CompareOptions(rate=200.0, percentile="p99"))
    check_compare(CompareOptions(sessions=3))


def test_a_block_of_too_few_requests_is_told_how_long_it_should_be():
    options = CompareOptions(percentile="p99", block_s=5.0)
    check_count(662, options)
    with pytest.raises(InvalidConfig, match="one of 5 s has 331") as failed:
        check_count(331, options)
    assert failed.value.hint.startswith("--block-s 13,")
    check_count(1, CompareOptions(sessions=2))  # the throughput needs none


def test_the_blocks_of_a_round_are_alike_and_those_of_another_are_not():
    options = CompareOptions(block_s=3.0, warmup_s=0.5, timeout_s=9.0, seed=10)
    first, second = load_of(options, 0), load_of(options, 1)
    assert first == load_of(options, 0)
    assert (first.image_seed, first.schedule_seed, first.think_seed) == (10, 10, 10)
    assert second.image_seed == 11
    assert (first.measure_s, first.warmup_s, first.timeout_s) == (3.0, 0.5, 9.0)
    assert (first.arrivals, first.warmup_requests) == (ClosedLoop(1), 2)
    assert load_of(CompareOptions(sessions=3), 0).warmup_requests == 6


def test_a_load_is_any_law(tmp_path):
    assert law_of(CompareOptions(sessions=3)) == ClosedLoop(3)
    assert law_of(CompareOptions(rate=7.0)) == Poisson(7.0)
    file = tmp_path / "law.toml"
    file.write_text('[arrivals]\ntype = "bursts"\non_hz = 9.0\n')
    assert law_of(CompareOptions(arrivals=str(file))) == Bursts(on_hz=9.0)
