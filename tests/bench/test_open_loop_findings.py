from __future__ import annotations

import msgspec
import pytest

from bench_reports import build_open_point
from seatrial.bench.analysis import analyse
from seatrial.bench.conditions import change
from seatrial.bench.quotes import Scope
from seatrial.load.trend import Slope, Trend


def ids(report):
    return {finding.id for finding in report.findings}


def text_of(report, code):
    return next(finding.text for finding in report.findings if finding.id == code)


@pytest.fixture(scope="module")
def fine():
    return build_open_point(10.0), build_open_point(20.0)


@pytest.fixture(scope="module")
def behind():
    return build_open_point(40.0, grows_ms=8000.0)


def test_a_closed_loop_has_no_rates(point):
    found = analyse([("scaling", [point(1), point(2)])], cores=2)
    assert (found.following, found.behind, found.soak) == (None, None, None)


def test_figures_of_arrivals_are_those_of_a_rate_that_is_followed(fine, behind):
    found = analyse([("server", [*fine, behind])], cores=2)
    assert found.arrivals == found.following == "/runs/0/points/1"
    assert found.behind == "/runs/0/points/2"
    assert analyse([("server", [behind])], cores=2).arrivals == "/runs/0/points/0"


def test_the_knee_is_said_with_the_rates_around_it(make_report, fine, behind, assert_traceable):
    report = make_report(server=[*fine, behind])
    assert_traceable(report)
    assert "up to 20.0/s, where it is 20.0/s. With 40.0/s offered" in text_of(report, "rate-knee")
    above = make_report(server=[*fine])
    assert_traceable(above)
    assert "20.0/s: the knee lies above it" in text_of(above, "rate-knee-above")
    below = make_report(server=[behind, msgspec.structs.replace(behind)])
    assert_traceable(below)
    assert "lies below it" in text_of(below, "rate-knee-below")


def soaked(point, latency=None, memory=None):
    """The point with slopes: (per hour, its ends), over 2 hours, of a median of 100."""

    def slope(ends):
        low, middle, high = ends
        return Slope(middle, low, high, 100.0, 2.0, 60)

    found = Trend(latency and slope(latency), memory and slope(memory))
    return msgspec.structs.replace(point, trend=found)


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((-1.0, 0.5, 2.4), "level"),
        ((1.0, 2.0, 2.4), "level"),  # more than chance, and too little to matter
        ((-9.0, -8.0, -7.0), "level"),
        ((1.0, 2.0, 2.6), "grows"),
        ((0.0, 2.0, 2.6), "unclear"),
        ((-1.0, 2.0, 9.0), "unclear"),
    ],
)
def test_growth_is_told_by_the_whole_interval(make_report, fine, ends, said, assert_traceable):
    report = make_report(soak=[soaked(fine[0], latency=ends)])
    assert change(Scope(report), "latency_ms") == said
    assert change(Scope(report), "memory_bytes") is None
    assert_traceable(report)
    assert {f"soak-latency-{said}"} == {code for code in ids(report) if code.startswith("soak")}


def test_memory_is_held_to_less_than_latency(make_report, fine, assert_traceable):
    report = make_report(soak=[soaked(fine[0], (0.1, 1.0, 2.0), (0.1, 1.0, 2.0))])
    assert_traceable(report)
    assert {"soak-latency-level", "soak-memory-grows"} <= ids(report)
    assert "Latency grows by less than 5.0% of its median" in text_of(report, "soak-latency-level")
    assert "Memory grows over the soak" in text_of(report, "soak-memory-grows")


def test_a_trend_is_told_of_soaks_alone(make_report, fine):
    assert fine[0].trend is not None
    report = make_report(server=[fine[0]])
    assert not any(code.startswith("soak") for code in ids(report))


def test_a_real_queue_that_grows_is_told(make_report, behind):
    report = make_report(soak=[behind])
    assert "soak-latency-grows" in ids(report)
