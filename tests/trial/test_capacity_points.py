from __future__ import annotations

import msgspec
import numpy as np
import pytest

from seatrial.errors import InvalidInput
from seatrial.load.images import load_images
from seatrial.load.statistics import LatencyHistogram
from seatrial.trial.capacity_points import (
    curve_of,
    empirical_shape,
    lanes_of,
    left_out,
    normal_shape,
    refused_from_hz,
    shape_of,
)
from simulated_machines import MACHINE, lone_point, server_point, server_report


@pytest.fixture
def report_of(image_folder):
    """A report of lone requests and of the given points of an open loop."""
    images = load_images(image_folder).summary
    return lambda *points: server_report(images, *points)


def test_points_have_the_rate_the_law_and_the_percentiles_of_the_report(report_of):
    measured = msgspec.structs.replace(server_point(20.0), failed=2)
    counted = msgspec.structs.replace(measured.latency, failed=2)
    measured = msgspec.structs.replace(measured, latency=counted)
    steady = server_point(30.0, law="constant")
    lone, random, constant = curve_of(report_of(measured, steady))
    assert (lone.rate_hz, lone.sessions, lone.count) == (None, 1, 2_000)
    assert (random.rate_hz, random.sessions) == (measured.generator.offered_per_s, 0)
    assert random.rate_hz == pytest.approx(20, rel=0.1)
    assert random.count == measured.latency.count + 2
    p99 = measured.latency.percentiles["p99"].value_ms
    assert (random.percentiles_ms["p99"], random.arrivals) == (p99, "poisson")
    assert (constant.arrivals, constant.words) == ("constant", f"{constant.rate_hz:.4g}/s")
    assert lone.words == "closed loop, 1"


def test_points_that_say_nothing_of_the_queue_are_left_out(report_of):
    good = server_point(20.0)
    generator = msgspec.structs.replace(good.generator, void=("late",))
    void = msgspec.structs.replace(good, generator=generator)
    refused = msgspec.structs.replace(good, failed=good.latency.count // 50)
    bursts = server_point(20.0, law="bursts")
    several = msgspec.structs.replace(good, images_per_query=4)
    report = report_of(void, refused, bursts, several, good)
    assert [point.sessions for point in curve_of(report)] == [1, 0]
    assert [text.partition("left out: ")[2] for text in left_out(report)] == [
        "late", "2.0% of its requests failed", "its rate changes",
        "its queries have several images",
    ]  # fmt: skip
    assert left_out(report)[0].startswith("server, Poisson, 20/s, was left out")
    few = msgspec.structs.replace(good, failed=good.latency.count // 200)
    assert len(curve_of(report_of(few))) == 2


def test_a_short_point_has_the_percentiles_that_it_carries(report_of):
    _, short = curve_of(report_of(server_point(20.0, seconds=6.0)))
    assert [*short.percentiles_ms] == ["p50", "p90"]


def test_a_report_without_a_percentile_is_an_error(make_report, point):
    with pytest.raises(InvalidInput, match=r"no point to plan from; .* too few requests"):
        curve_of(make_report(single=[point(1, count=5)]))


def test_lanes_are_as_the_service_says(make_report, point):
    def told(layout):
        return lanes_of(make_report(single=[point(1)], model={"name": "m", "layout": layout}))

    assert told({"workers": 2, "instances": 3, "threads": 1}) == 6
    assert told({"instances": 2}) == 2
    assert told({"workers": 2, "instances": "all"}) is None
    assert told({"workers": 0, "instances": 2}) is None
    assert told("two") is None
    assert lanes_of(make_report(single=[point(1)])) is None


def test_the_shape_is_that_of_lone_requests_and_normal_where_they_are_few(
    report_of, make_report, point
):
    measured = np.array(shape_of(report_of(server_point(20.0))))
    assert (measured.mean(), measured.std()) == pytest.approx((0, 1), abs=1e-9)
    assert measured == pytest.approx(np.array(normal_shape()), abs=0.35)
    assert measured.tolist() != list(normal_shape())
    assert shape_of(make_report(single=[point(1, count=300)])) == normal_shape()


def test_a_shape_of_two_kinds_of_images_has_two_heights():
    edges = tuple(np.linspace(10.0, 58.0, 49))
    counts = [0] * 48
    counts[2], counts[40] = 700, 200
    shape = np.array(empirical_shape(LatencyHistogram(edges, tuple(counts), over=100)))
    # 700 of 1,000 between 12 and 13 ms, 200 between 50 and 51, 100 at the last edge.
    assert (shape < 0).mean() == pytest.approx(0.7, abs=0.01)
    low, high, last = shape[100], shape[320], shape[-1]
    unit = (high - low) / np.log(50.5 / 12.5)
    assert len(shape) == 400
    assert shape[0] == pytest.approx(shape[279], abs=np.log(13 / 12) * unit * 1.05)
    assert (last - high) / unit == pytest.approx(np.log(58 / 50.5), abs=0.03)


def test_times_that_are_all_the_same_have_the_normal_shape():
    one = LatencyHistogram((10.0, 10.0000000001), (500,), over=0)
    assert empirical_shape(one) == normal_shape()


def test_lone_requests_are_simulated_as_they_are_measured():
    lone = lone_point()
    assert lone.latency.percentiles["p50"].value_ms == pytest.approx(
        MACHINE.overhead_ms + MACHINE.alone * 40 / np.exp(0.02), rel=0.02
    )


def test_requests_failed_from_a_rate_on_where_they_did_at_all_higher_ones(report_of):
    def point(rate_hz, failed):
        made = server_point(rate_hz)
        return msgspec.structs.replace(made, failed=round(failed * made.latency.count))

    calm, noisy, busy, full = (point(*one) for one in ((10, 0), (20, 0.3), (30, 0.005), (40, 0.1)))
    assert refused_from_hz(report_of(calm, busy)) is None
    assert refused_from_hz(report_of(calm, noisy, busy)) is None
    found = refused_from_hz(report_of(full, calm, noisy, busy))
    assert found == full.generator.offered_per_s
    both = refused_from_hz(report_of(full, noisy, calm))
    assert both == noisy.generator.offered_per_s
