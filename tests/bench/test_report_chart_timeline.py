from __future__ import annotations

import re

import msgspec
import pytest

from bench_reports import build_open_point
from drawings import assert_drawn
from seatrial.bench.report_chart_timeline import machine, requests
from seatrial.load.usage import MachineTrace


def lines(drawing, kind):
    found = re.findall(rf'<polyline points="([^"]*)" class="{kind}"', drawing)
    return [[tuple(map(float, place.split(","))) for place in one.split()] for one in found]


def stolen(seconds, share, rss=0):
    """A trace of two cores of whose time the hypervisor took a share."""
    trace = MachineTrace()
    for n in range(int(seconds) + 1):
        ticks = [0] * 8
        ticks[0], ticks[7] = round(200 * n * (1 - share)), round(200 * n * share)
        trace.add(n * 10**9, ticks, rss and rss + n * 2**20)
    return trace


def with_void(point, *numbers):
    """The same point with void slices."""
    slices = tuple(
        msgspec.structs.replace(one, void="late") if n in numbers else one
        for n, one in enumerate(point.timeline.slices)
    )
    return msgspec.structs.replace(
        point, timeline=msgspec.structs.replace(point.timeline, slices=slices)
    )


def test_a_queue_that_grows_rises_below_even_arrivals():
    drawing = requests(build_open_point(20.0, grows_ms=4000.0))
    (due,), (answered,) = lines(drawing, "series slim broad s3"), lines(drawing, "series slim s1")
    good, queue = lines(drawing, "series slim s0")
    assert len({y for _, y in due}) == 1
    assert due == good
    assert answered[-1][1] > due[-1][1]  # fewer
    assert [y for _, y in queue] == sorted((y for _, y in queue), reverse=True)
    assert queue[0][1] - queue[-1][1] > 60
    assert min(y for _, y in queue) > max(y for _, y in due)  # in a panel of its own


def test_void_slices_are_shaded_in_every_panel():
    drawing = requests(with_void(build_open_point(20.0), 3, 4))
    tips = re.findall(r'class="voided"><title>([^<]*)<', drawing)
    assert tips == ["void: late"] * 4
    assert "voided" not in requests(build_open_point(20.0))


def test_stolen_time_and_memory_have_panels_where_they_are_known():
    bare = machine(build_open_point(20.0), memory=True)
    assert "hypervisor" not in bare
    point = build_open_point(20.0, trace=stolen(40, 0.04, 300 * 2**20))
    drawing = machine(point)
    assert "stolen by the hypervisor, %" in drawing
    assert "memory" not in drawing
    both = machine(point, memory=True)
    assert "memory of the service, MiB" in both
    heights = [
        float(re.search(r'viewBox="0 0 \S+ (\S+)"', one)[1]) for one in (bare, drawing, both)
    ]
    assert heights[0] < heights[1] < heights[2]
    (memory,) = lines(both, "series slim s3")
    assert memory[0][1] - memory[-1][1] > 50  # its axis does not begin at 0


def value_at(drawing, y, panel):
    """The value that a height means in a panel, by the labels of its axis."""
    labels = [
        (float(one.get("y")) - 4, float(one.text))
        for one in assert_drawn(drawing).iter("text")
        if one.get("class") == "tick" and one.get("text-anchor") == "end"
    ]
    top = 20 + 126 * panel
    (y0, low), *_, (y1, high) = [row for row in labels if top - 1 <= row[0] <= top + 93]
    return low + (y - y0) / (y1 - y0) * (high - low)


def test_heights_mean_what_the_axis_says():
    point = build_open_point(20.0, trace=stolen(40, 0.04, 300 * 2**20))
    drawing = machine(point, memory=True)
    (steal,), (memory,) = lines(drawing, "series slim s2"), lines(drawing, "series slim s3")
    assert value_at(drawing, steal[7][1], 1) == pytest.approx(4.0, abs=0.05)
    assert value_at(drawing, memory[0][1], 2) == pytest.approx(301.0, abs=0.5)
    assert value_at(drawing, memory[-1][1], 2) == pytest.approx(340.0, abs=0.5)
    flow = requests(point)
    (due,), (_, queue) = lines(flow, "series slim broad s3"), lines(flow, "series slim s0")
    assert value_at(flow, due[3][1], 0) == pytest.approx(20.0, abs=0.2)
    assert value_at(flow, queue[5][1], 1) == pytest.approx(20 * 0.0445, abs=0.02)


def test_latencies_of_one_size_stand_on_an_axis_from_zero():
    assert value_at(machine(build_open_point(20.0)), 20 + 92.0, 0) == pytest.approx(0.0, abs=0.5)
    ticks = re.findall(r'class="tick">(\d+)<', machine(build_open_point(20.0, grows_ms=9000.0)))
    assert {"200", "1000"} <= set(ticks)


def test_steady_memory_is_a_line_in_the_middle():
    point = build_open_point(20.0, trace=stolen(40, 0.0, 300 * 2**20))
    slices = tuple(
        msgspec.structs.replace(one, rss_bytes=300 * 2**20) for one in point.timeline.slices
    )
    cut = msgspec.structs.replace(point.timeline, slices=slices)
    drawing = machine(msgspec.structs.replace(point, timeline=cut), memory=True)
    ((first, *_),) = lines(drawing, "series slim s3")
    assert 272 + 20 < first[1] < 272 + 80


def test_the_slowest_lies_above_the_median_on_one_axis():
    drawing = machine(build_open_point(20.0))
    (slowest,), (median,) = lines(drawing, "series slim s1"), lines(drawing, "series slim s0")
    assert all(a[1] < b[1] for a, b in zip(slowest, median, strict=True))


def test_a_line_is_cut_where_nothing_was_good():
    point = build_open_point(20.0)
    slices = list(point.timeline.slices)
    slices[6] = msgspec.structs.replace(slices[6], p50_ms=46.25)
    for n in (5, 7):
        slices[n] = msgspec.structs.replace(slices[n], p50_ms=None, mean_ms=None, max_ms=None)
    cut = msgspec.structs.replace(point.timeline, slices=tuple(slices))
    drawing = machine(msgspec.structs.replace(point, timeline=cut))
    assert [len(one) for one in lines(drawing, "series slim s0")] == [5, 32]
    # The slice between two gaps is a dot, with its own value.
    (x, tip) = re.findall(r'<circle cx="(\S+)"[^>]*class="mark s0"><title>([^<]*)<', drawing)[0]
    assert tip == "46.2"
    assert lines(drawing, "series slim s0")[0][-1][0] < float(x)


@pytest.mark.parametrize(
    ("seconds", "unit", "last"),
    [
        (170.0, "time, s", "150"),
        (190.0, "time, min", "3"),
        (10_700.0, "time, min", "150"),
        (10_900.0, "time, h", "3"),
    ],
)
def test_time_is_in_the_unit_of_the_window(seconds, unit, last):
    drawing = requests(build_open_point(1.0, seconds=seconds))
    assert f">{unit}<" in drawing
    assert re.findall(r'text-anchor="middle" class="tick">([^<]*)<', drawing)[-1] == last


def test_a_short_window_has_no_timeline():
    short = build_open_point(20.0, seconds=2.0)
    assert requests(short) is None
    assert machine(short) is None
    old = msgspec.structs.replace(short, timeline=None)
    assert requests(old) is None
    assert machine(old) is None
    assert machine(build_open_point(20.0, seconds=10.0, failed=200)) is None


def test_all_stays_within_the_drawing():
    point = build_open_point(20.0, grows_ms=9000.0, trace=stolen(40, 0.3, 2**30))
    for drawing in (requests(point), machine(point, memory=True)):
        assert_drawn(drawing)
        height = float(re.search(r'viewBox="0 0 \S+ (\S+)"', drawing)[1])
        for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", drawing):
            assert 46 <= float(x) <= 406.1
            assert 19 <= float(y) <= height - 37
