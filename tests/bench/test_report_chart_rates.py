from __future__ import annotations

import re

import pytest

from bench_reports import build_open_point
from drawings import assert_drawn
from seatrial.bench.report_chart_rates import by_rate, latencies, names, rates
from seatrial.load.rate_search import RateSearch


def found(low_hz, high_hz):
    """The answer of a search."""
    return RateSearch((low_hz + high_hz) / 2, low_hz, high_hz, "found", 100.0, ())


@pytest.fixture(scope="module")
def steps():
    """Rates of which the third is void and the last is too much."""
    return [
        build_open_point(10.0),
        build_open_point(20.0),
        build_open_point(30.0, late_ms=40.0),
        build_open_point(40.0, grows_ms=8000.0, limit_ms=100.0),
    ]


def circles(drawing, kind):
    """(x, y, text under the pointer) of every point of a kind."""
    found = re.findall(
        rf'<circle cx="(\S+)" cy="(\S+)" r="\S+" class="{kind}"><title>([^<]*)<', drawing
    )
    return [(float(x), float(y), tip) for x, y, tip in found]


def lines(drawing, kind):
    found = re.findall(rf'<polyline points="([^"]*)" class="{kind}"', drawing)
    return [[tuple(map(float, place.split(","))) for place in one.split()] for one in found]


def test_points_stand_by_offered_rate_whatever_their_order(steps, point):
    assert [rate for rate, _ in by_rate([*reversed(steps), point(1)])] == [10.0, 20.0, 30.0, 40.0]


def test_goodput_that_follows_lies_on_the_ideal_line_and_the_other_below(steps):
    drawing = rates(steps, steps[1])
    ((begin, end),) = lines(drawing, "ideal")
    slope = (end[1] - begin[1]) / (end[0] - begin[0])
    places = circles(drawing, "mark s0")
    assert len(places) == 3
    above = [y - (begin[1] + slope * (x - begin[0])) for x, y, _ in places]
    assert above[:2] == pytest.approx([0.0, 0.0], abs=0.3)
    assert above[2] > 20  # lower on the page
    assert circles(drawing, "mark s1")[2][2].startswith("throughput, 40.0/s offered")


def test_a_void_point_is_hollow_named_and_off_the_line(steps):
    for drawing in (rates(steps, None), latencies(steps, None)):
        ((x, y, tip),) = circles(drawing, "mark hollow s0")
        assert tip.startswith("void (50.0% of the requests were sent more than")
        assert drawing.count(">void<") == 1
        (joined,) = lines(drawing, "series s0")
        assert len(joined) == 3
        (label,) = re.findall(
            r'<text x="(\S+)" y="(\S+)" text-anchor="middle" class="voidlabel"', drawing
        )
        assert float(label[0]) == x
        assert 4 < y - float(label[1]) < 12
        assert all(abs(x - a) > 10 or abs(y - b) > 10 for a, b in joined)


def test_the_knee_is_a_line_at_its_rate(steps):
    for drawing in (rates(steps, steps[1]), latencies(steps, steps[1])):
        (x,) = re.findall(r'<line x1="(\S+)" [^>]*class="knee"', drawing)
        assert float(x) == pytest.approx(circles(drawing, "mark s0")[1][0], abs=0.1)
        assert drawing.count(">knee<") == 1
        assert_drawn(drawing)
        (label,) = re.findall(
            r'<text x="(\S+)" y="22" text-anchor="start" class="kneelabel"', drawing
        )
        assert 0 < float(label) - float(x) < 10
    assert "knee" not in rates(steps, None)


def test_the_interval_of_a_search_is_a_band_and_its_trials_are_not_joined(steps):
    for draw in (rates, latencies):
        drawing = draw(steps, None, found(15.0, 20.0))
        ((x, width, tip),) = re.findall(
            r'<rect x="(\S+)" y="\S+" width="(\S+)" height="\S+" class="band"><title>([^<]*)<',
            drawing,
        )
        assert float(x) + float(width) == pytest.approx(circles(drawing, "mark s0")[1][0], abs=0.2)
        assert tip == "highest rate that holds: 15.0/s to 20.0/s"
        assert lines(drawing, "series s0") == []


def test_a_knee_near_the_right_edge_is_named_on_its_left(steps):
    drawing = rates(steps[:2], steps[1])
    assert_drawn(drawing)
    (x,) = re.findall(r'<line x1="(\S+)" [^>]*class="knee"', drawing)
    (label,) = re.findall(r'<text x="(\S+)" y="22" text-anchor="end" class="kneelabel"', drawing)
    assert 0 < float(x) - float(label) < 10


def test_an_exact_search_is_a_thin_band(steps):
    (band,) = [
        one
        for one in assert_drawn(rates(steps, None, found(20.0, 20.0))).iter("rect")
        if one.get("class") == "band"
    ]
    assert float(band.get("width")) == 1.5


def test_a_band_beyond_the_points_is_in_the_frame(steps):
    drawing = rates(steps[:2], None, found(20.0, 60.0))
    assert_drawn(drawing)
    assert "20.0/s to 60.0/s" in drawing


def test_the_limit_of_latency_is_a_line(steps):
    drawing = latencies(steps, None, limit_ms=100.0)
    (line,) = [one for one in assert_drawn(drawing).iter("line") if one.get("class") == "limit"]
    (label,) = [one for one in assert_drawn(drawing).iter("text") if one.text == "limit 100 ms"]
    assert line.get("y1") == line.get("y2")
    assert 0 < float(line.get("y1")) - float(label.get("y")) < 10
    assert (float(line.get("x1")), float(line.get("x2"))) == (42.0, 406.0)
    assert "limit" not in latencies(steps, None)


def test_percentiles_that_no_sample_carries_have_no_line():
    few = [build_open_point(rate, seconds=5.0) for rate in (10.0, 30.0)]
    assert names(few) == {"p50": "s0", "p90": "s1"}
    drawing = latencies(few, None)
    assert circles(drawing, "mark s2") == []
    assert len(circles(drawing, "mark s1")) == 1


def test_one_rate_is_no_curve(steps, point):
    assert rates(steps[:1], None) is None
    assert latencies(steps[:1], None) is None
    assert rates([point(1), point(2)], None) is None


def test_nothing_answered_is_drawn_at_zero():
    failing = [build_open_point(rate, seconds=10.0, failed=1000) for rate in (10.0, 20.0)]
    assert [y for _, y, _ in circles(rates(failing, None), "mark s0")] == [212.0, 212.0]
    assert latencies(failing, None) is None
