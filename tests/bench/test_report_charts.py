from __future__ import annotations

import re

import msgspec
import pytest

from seatrial.bench import report_charts as charts
from seatrial.load.statistics import Percentile
from seatrial.report.svg import Frame

STAGES = {"decode": 2.0, "queue": 10.0, "infer": 6.0, "odd": 1.0, "odder": 1.0}


def circles(drawing):
    """(x, y, text under the pointer) of every point of a drawing."""
    found = re.findall(r'<circle cx="(\S+)" cy="(\S+)"[^>]*><title>([^<]*)</title>', drawing)
    return [(float(x), float(y), tip) for x, y, tip in found]


def labels(drawing, kind):
    """(x, y, anchor, text) of every label of a kind."""
    pattern = rf'<text x="(\S+)" y="(\S+)" text-anchor="(\w+)" class="{kind}">([^<]*)<'
    return [
        (float(x), float(y), anchor, text) for x, y, anchor, text in re.findall(pattern, drawing)
    ]


def line_of(drawing, kind):
    """The places that a line goes through."""
    (points,) = re.findall(rf'<polyline points="([^"]*)"[^>]*class="{kind}"', drawing)
    return [tuple(map(float, place.split(","))) for place in points.split()]


@pytest.fixture
def curve(point):
    return [point(1, 40.0), point(2, 42.0), point(4, 83.0), point(8, 166.0)]


def test_throughput_shows_every_point_higher_up_where_goodput_is_higher(curve):
    drawn = circles(charts.throughput(curve, None))
    assert [tip for *_, tip in drawn] == [
        f"{p.sessions} session{'s' if p.sessions > 1 else ''}: {p.goodput_per_s:.1f}/s"
        for p in curve
    ]
    assert [x for x, *_ in drawn] == sorted(x for x, *_ in drawn)
    assert drawn[0][1] > drawn[1][1] > drawn[2][1]


def test_throughput_shows_ideal_scaling_and_the_knee_where_it_is_known(curve):
    drawing = charts.throughput(curve, 1)
    knee = re.search(r'<line x1="(\S+)" y1="\S+" x2="(\S+)" y2="\S+" class="knee">', drawing)
    assert knee[1] == knee[2] == f"{circles(drawing)[1][0]:g}"
    assert 'class="ideal"' in drawing
    assert 'class="knee"' not in charts.throughput(curve, None)
    assert charts.throughput(curve[:1], None) is None
    assert charts.throughput(curve[:2], None) is not None


def test_the_ideal_line_is_straight_from_the_first_point_to_an_edge(curve):
    drawing = charts.throughput(curve, None)
    ideal, drawn = line_of(drawing, "ideal"), circles(drawing)
    assert ideal[0] == pytest.approx(drawn[0][:2], abs=0.2)
    slopes = [(y - ideal[0][1]) / (x - ideal[0][0]) for x, y in ideal[1:]]
    assert all(slope == pytest.approx(slopes[-1], rel=0.1) for slope in slopes)
    assert slopes[-1] < 0  # up
    assert ideal[-1][1] == pytest.approx(Frame((0, 1), 1).top, abs=0.2)
    assert all(0 <= x <= 420 and 0 <= y <= 250 for x, y in ideal)


def test_the_first_figure_stands_below_its_point_and_the_others_above(curve):
    drawing = charts.throughput(curve, None)
    steps = [
        (lx - x, ly - y)
        for (lx, ly, _, _), (x, y, _) in zip(
            labels(drawing, "value"), circles(drawing), strict=True
        )
    ]
    assert all(abs(x) < 0.2 for x, _ in steps)
    assert 10 < steps[0][1] < 22
    assert all(-15 < y < -5 for _, y in steps[1:])


def test_the_word_knee_stands_beside_its_line(curve):
    drawing = charts.throughput(curve, 1)
    ((x, y, anchor, text),) = labels(drawing, "kneelabel")
    assert (anchor, text) == ("start", "knee")
    assert 0 < x - circles(drawing)[1][0] < 10
    assert 0 < Frame((0, 1), 1).floor - y < 15


def test_percentiles_of_a_distribution_stand_under_one_another_within_the_frame(point):
    drawing = charts.distribution(point(1, 40.0, count=700))
    frame = Frame((0, 1), 1)
    found = [labels(drawing, f"value s{n}") for n in range(4)]
    levels = [y for ((_, y, _, _),) in found]
    assert levels == [levels[0] + 15 * n for n in range(4)]
    assert frame.top < levels[0] < frame.floor - 45
    quantiles = re.findall(r'<line x1="(\S+)" [^>]*class="quantile s\d"', drawing)
    for ((x, _, anchor, _),), line in zip(found, quantiles, strict=True):
        near = float(line) > frame.width - frame.right - 90
        assert (anchor, x > float(line)) == (("end", False) if near else ("start", True))


def test_a_percentile_near_the_right_edge_is_named_to_the_left_of_its_line(point):
    measured, frame = point(1, 40.0, count=700), Frame((0, 1), 1)
    low, high = measured.histogram.edges_ms[0], measured.histogram.edges_ms[-1]
    unit = (high - low) * 1.06 / (frame.width - frame.left - frame.right)
    for x, anchor in ((312.0, "start"), (320.0, "end")):
        value = low - (high - low) * 0.03 + (x - frame.left) * unit
        found = dict.fromkeys(["p50"], Percentile(value, None, 1))
        latency = msgspec.structs.replace(measured.latency, percentiles=found)
        drawing = charts.distribution(msgspec.structs.replace(measured, latency=latency))
        ((place, level, side, _),) = labels(drawing, "value s0")
        assert (side, abs(place - x) < 10) == (anchor, True)
        (line,) = re.findall(r'<line ([^>]*)class="quantile s0"', drawing)
        x1, y1, x2, y2 = map(float, re.findall(r'"(\S+)"', line))
        assert x1 == x2 == pytest.approx(x, abs=0.2)
        assert frame.top < y1 < level < y2 == frame.floor


def test_bars_of_a_distribution_stand_on_the_floor(point):
    drawing = charts.distribution(point(1, 40.0, count=100))
    bars = re.findall(r'<rect x="(\S+)" y="(\S+)" width="(\S+)" height="(\S+)"', drawing)
    assert len(bars) > 10
    for bar in bars:
        x, y, width, height = map(float, bar)
        assert y + height == pytest.approx(Frame((0, 1), 1).floor, abs=0.2)
        assert x >= Frame((0, 1), 1).left
        assert width > 0


def test_the_knee_is_in_the_chart_of_latency_too(curve):
    assert 'class="knee"' in charts.latency(curve, 1)
    assert 'class="knee"' not in charts.latency(curve, None)


def test_each_bar_of_stages_has_its_name_on_the_left_and_its_total_on_the_right(point):
    one, other = point(1, 25.0, stages=STAGES), point(2, 50.0, stages=STAGES)
    bars = charts.stage_bars([("alone", one.stages), ("both", other.stages)])
    drawing = charts.stages(bars)
    names, totals = labels(drawing, "tick"), labels(drawing, "value")
    assert [(anchor, text) for _, _, anchor, text in names] == [
        ("start", "alone"),
        ("start", "both"),
    ]
    assert [text for *_, text in totals] == [f"{bar.total_ms:.1f} ms" for bar in bars]
    assert all(anchor == "end" and 400 < x <= 420 for x, _, anchor, _ in totals)
    levels = [y for _, y, _, _ in names]
    assert [y for _, y, _, _ in totals] == levels
    assert levels[1] - levels[0] == 42
    tops = [float(y) for y in re.findall(r'<rect [^>]*y="(\S+)"', drawing)]
    assert min(tops) > levels[0]
    assert max(tops) > levels[1]


def test_no_ideal_line_without_a_good_answer_to_begin_with(point):
    failing = [point(n, 40.0, count=20, failed=20) for n in (1, 2)]
    assert 'class="ideal"' not in charts.throughput(failing, None)


def test_latency_shows_percentiles_that_the_sample_carries(point):
    points = [point(1, 40.0, count=100), point(2, 42.0, count=100)]
    drawing = charts.latency(points, None)
    names = [tip.partition(",")[0] for *_, tip in circles(drawing)]
    assert names == ["p50", "p50", "p90", "p90"]
    assert charts.latency_names(points) == {"p50": "s0", "p90": "s1"}
    found = points[0].latency.percentiles["p50"]
    assert f"p50, 1 session: {found.value_ms:.1f} ms, at most {found.upper_ms:.1f} ms" in drawing
    # Each with a whisker: a line up and one across.
    assert drawing.count('class="whisker s0"') == 4


def test_a_percentile_without_a_bound_has_no_whisker(point):
    points = [point(n, 40.0, count=100, failed=8) for n in (1, 2)]
    drawing = charts.latency(points, None)
    assert 'class="mark s1"' in drawing
    assert 'class="whisker s1"' not in drawing


def test_no_latency_chart_of_a_single_point_or_of_small_samples(point):
    assert charts.latency([point(1)], None) is None
    assert charts.latency([point(n, count=5) for n in (1, 2)], None) is None


def test_distribution_counts_every_request(point):
    measured = point(1, 40.0, count=100)
    drawing = charts.distribution(measured)
    counts = [int(n) for n in re.findall(r": (\d+) requests</title>", drawing)]
    assert sum(counts) + measured.histogram.over == 100
    for name in ("p50", "p90"):
        assert f"{name} {measured.latency.percentiles[name].value_ms:.1f} ms" in drawing
    assert "p99" not in drawing
    assert charts.distribution(point(1, count=1)) is None
    assert charts.distribution(point(1, count=4, failed=4)) is None


def test_stages_are_drawn_in_proportion_and_end_with_transport(point):
    measured = point(1, 25.0, stages=STAGES)
    (bar,) = charts.stage_bars([("alone", measured.stages)])
    assert [segment.name for segment in bar.segments] == [*STAGES, "transport"]
    assert [s.colour for s in bar.segments][:5] == ["decode", "queue", "infer", "spare1", "spare2"]
    assert bar.total_ms == pytest.approx(measured.stages.latency_ms)
    widths = [float(w) for w in re.findall(r'<rect [^>]*width="(\S+)"', charts.stages([bar]))]
    assert sum(widths) == pytest.approx(416.0, abs=0.5)
    assert widths[1] / widths[0] == pytest.approx(5.0, abs=0.05)
    assert charts.stages([]) is None


def test_a_stage_has_one_colour_in_all_bars(point):
    one = point(1, 25.0, stages={"odd": 1.0, "odder": 2.0})
    other = point(2, 25.0, stages={"odder": 2.0, "odd": 1.0})
    bars = charts.stage_bars([("one", one.stages), ("other", other.stages)])
    colours = [{s.name: s.colour for s in bar.segments} for bar in bars]
    assert colours[0] == colours[1]
    assert colours[0]["odd"] != colours[0]["odder"]


@pytest.mark.parametrize(("last", "log"), [(16, False), (17, True)])
def test_many_sessions_stand_on_a_logarithmic_axis(point, last, log):
    drawn = circles(charts.throughput([point(1), point(4, 160.0), point(last, 640.0)], None))
    left, middle, right = (x for x, *_ in drawn)
    linear = (middle - left) / (right - left) == pytest.approx(3 / (last - 1), abs=0.01)
    assert linear is not log
