from __future__ import annotations

import math
import re

import msgspec
import pytest

from bench_reports import build_open_point
from drawings import assert_drawn
from seatrial.bench.report_chart_tail import tail

PLOT = 250.0 - 12.0 - 38.0  # height of the plotting area


def lines(drawing, kind):
    """The lines of a class, as lists of places."""
    found = re.findall(rf'<polyline points="([^"]*)" class="{kind}"', drawing)
    return [[tuple(map(float, place.split(","))) for place in one.split()] for one in found]


def levels(drawing):
    """Height of each named percentile."""
    found = re.findall(r'y="(\S+)" text-anchor="end" class="tick">([^<]*)<', drawing)
    return {name: float(y) - 4 for y, name in found}


def test_each_nine_of_a_percentile_takes_the_same_room(point):
    places = levels(tail(point(1, count=700)))
    assert list(places) == ["all", "p50", "p90", "p99", "p99.9"]
    assert places["p90"] - places["all"] == pytest.approx(PLOT / 3, abs=0.2)
    assert places["p99"] - places["p90"] == pytest.approx(PLOT / 3, abs=0.2)
    assert places["p50"] - places["all"] == pytest.approx(PLOT / 3 * math.log10(2), abs=0.2)


def test_the_slowest_request_stands_at_one_of_all(point):
    drawing = tail(point(1, count=1000))
    ((*_, last),) = lines(drawing, "series s0 faint")
    assert last[1] == pytest.approx(levels(drawing)["p99.9"], abs=0.2)


def test_what_the_sample_is_too_small_for_is_faint(point):
    drawing = tail(point(1, count=1000))
    (whole,), (faint,) = lines(drawing, "series s0"), lines(drawing, "series s0 faint")
    assert whole[-1] == faint[0]
    # p99 needs 662 requests, so with 1,000 it is told and p99.9 is not.
    assert levels(drawing)["p99"] < whole[-1][1] < levels(drawing)["p99.9"]


def test_marks_are_the_percentiles_that_are_printed(point):
    assert re.findall(r"<title>(p\d+)", tail(point(1, count=700))) == ["p50", "p90", "p99"]
    assert re.findall(r"<title>(p\d+)", tail(point(1, count=100))) == ["p50", "p90"]


def test_a_mark_lies_on_the_curve_at_its_level(point):
    measured = point(1, count=700)
    drawing = tail(measured)
    marks = re.findall(r'<circle cx="(\S+)" cy="(\S+)"[^>]*><title>(p\d+)', drawing)
    for _, y, name in marks:
        assert float(y) == pytest.approx(levels(drawing)[name], abs=0.2)
    (whole,) = lines(drawing, "series s0")
    for x, y, _ in marks:
        nearest = min(abs(float(x) - a) + abs(float(y) - b) for a, b in whole)
        assert nearest < 12


def test_a_value_stands_on_the_free_side_of_the_curve(point):
    drawing = tail(point(1, count=700))
    marks = re.findall(r'<circle cx="(\S+)" cy="(\S+)"', drawing)
    labels = re.findall(r'<text x="(\S+)" y="(\S+)" text-anchor="(\w+)" class="value">', drawing)
    # The last percentiles are near the right edge: below, and to the left.
    assert [anchor for *_, anchor in labels] == ["start", "end", "end"]
    for (cx, cy), (x, y, anchor) in zip(marks, labels, strict=True):
        right, down = float(x) - float(cx), float(y) - float(cy)
        assert (4 < right < 12, -8 < down < 0) == (anchor == "start", anchor == "start")
        assert (-12 < right < -4, 8 < down < 18) == (anchor == "end", anchor == "end")


def test_a_plateau_is_long_enough_to_be_seen(point):
    for failed, shortest in ((0, 15), (100, 40)):
        drawing = tail(point(1, count=1000, failed=failed))
        places = [x for one in lines(drawing, "series s0(?: faint)?") for x, _ in one]
        assert shortest < 406.0 - max(places) < shortest + 30


def test_failed_requests_never_come(point):
    drawing = tail(point(1, count=1000, failed=100))
    ((start, level, end),) = lines(drawing, "series lost")
    assert level[1] == end[1] == pytest.approx(levels(drawing)["p90"], abs=0.2)
    assert end[0] == 406.0
    assert start[0] == level[0] < end[0]
    assert "10% failed: without a good answer" in drawing
    assert "without a good answer" not in tail(point(1, count=1000))


def test_time_from_the_send_stands_beside_latency_of_an_open_loop(point):
    drawing = tail(build_open_point(20.0, late_ms=30.0))
    (sent,), (due,) = lines(drawing, "series thin s1"), lines(drawing, "series s0")
    assert min(x for x, _ in sent) < min(x for x, _ in due)
    assert lines(tail(point(1)), "series thin s1") == []


def test_latencies_of_different_sizes_stand_on_a_logarithmic_axis():
    drawing = tail(build_open_point(20.0, grows_ms=8000.0))
    ticks = re.findall(r'text-anchor="middle" class="tick">([^<]*)<', drawing)
    assert {"50", "100", "1000", "5000"} <= set(ticks)


def test_nothing_is_drawn_of_older_reports_and_of_a_single_answer(point):
    assert tail(msgspec.structs.replace(point(1), cdf=None)) is None
    assert tail(point(1, count=1)) is None
    assert tail(point(1, count=3, failed=3)) is None


@pytest.mark.parametrize("failed", [0, 1, 300, 790])
def test_all_stays_within_the_frame(failed):
    drawing = tail(build_open_point(20.0, failed=failed, late_ms=3.0, grows_ms=400.0))
    assert_drawn(drawing)
    for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", drawing):
        assert 52 <= float(x) <= 406.1
        assert 11.9 <= float(y) <= 212.1
