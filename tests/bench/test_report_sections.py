from __future__ import annotations

import msgspec
import pytest

from bench_reports import build_open_point
from seatrial.bench.analysis import analyse
from seatrial.bench.findings import interpret
from seatrial.bench.report import to_html
from seatrial.bench.report_data import Run
from seatrial.bench.report_sections import loop_words, run_sections
from seatrial.load.rate_search import RateSearch


@pytest.fixture(scope="module")
def steps():
    return [build_open_point(10.0), build_open_point(20.0), build_open_point(30.0, grows_ms=9000.0)]


def test_the_title_has_a_word_for_each_kind_of_load(make_report, point, steps):
    assert loop_words(make_report(single=[point(1)])) == "closed loop"
    assert loop_words(make_report(server=steps)) == "open loop"
    assert loop_words(make_report(single=[point(1)], server=steps)) == "closed loop and open loop"


def test_each_run_has_a_section_with_its_loop(full_report):
    assert [section.title for section in run_sections(full_report)] == [
        "single-stream, closed loop",
        "scaling, closed loop",
    ]
    goodput, latency = run_sections(full_report)[1].charts
    assert [(entry.name, entry.colour) for entry in latency.legend] == [
        ("p50", "s0"), ("p90", "s1"), ("p95", "s2"), ("p99", "s3"),
    ]  # fmt: skip
    assert 'class="knee"' in goodput.drawing
    assert 'class="knee"' in latency.drawing


def test_an_open_loop_of_several_rates_has_all_six_pictures(make_report, steps):
    (section,) = run_sections(make_report(server=steps))
    assert section.title == "server, open loop"
    assert [(chart.title, chart.caption) for chart in section.charts] == [
        ("Goodput over the offered rate", "Requests per second"),
        ("Latency over the offered rate", "Milliseconds from the due time"),
        # The distribution is that of the knee, the timeline that of the last rate.
        ("Latency with its tail", "Share of the requests that took longer; Poisson, 20/s"),
        ("Requests by latency", "400 good answers; Poisson, 20/s".replace("400", "800")),
        ("Requests over time", "Poisson, 30/s"),
        ("Latency and machine over time", "Poisson, 30/s"),
    ]
    assert "knee" in section.charts[0].drawing


def test_a_knee_above_all_rates_is_said_and_not_drawn(make_report, steps):
    (section,) = run_sections(make_report(server=steps[:2]))
    assert "the knee lies above these rates" in section.charts[0].caption
    assert all("knee" not in chart.drawing for chart in section.charts[:2])


def test_a_single_rate_has_no_curve_over_rates(make_report, steps):
    (section,) = run_sections(make_report(server=steps[:1]))
    assert [chart.title for chart in section.charts] == [
        "Latency with its tail",
        "Requests by latency",
        "Requests over time",
        "Latency and machine over time",
    ]


def test_void_is_said_in_caption_and_legend(make_report, steps):
    late = build_open_point(40.0, late_ms=50.0)
    (section,) = run_sections(make_report(server=[late]))
    for chart in section.charts:
        over_time = "over time" in chart.title
        assert ("void: 50.0% of the requests were sent more than" in chart.caption) or not over_time
        assert ("void" in [entry.name for entry in chart.legend]) is over_time


def test_a_void_point_is_on_the_curves_and_no_other_chart_is_of_it(make_report, steps):
    late = build_open_point(40.0, late_ms=50.0)
    (section,) = run_sections(make_report(server=[*steps[:2], late]))
    assert "void points are hollow" in section.charts[0].caption
    assert section.charts[0].drawing.count("hollow") == 2
    assert {chart.caption.rpartition("; ")[2] for chart in section.charts[2:]} == {"Poisson, 20/s"}


def test_a_search_is_a_band_and_what_holds_is_drawn(make_report):
    points = (
        build_open_point(12.0),
        build_open_point(20.1, seconds=50.0),
        build_open_point(20.2, seconds=10.0),
        build_open_point(24.0),
    )
    report = make_report(server=list(points))
    search = RateSearch(20.4, 20.0, 21.0, "found", 200.0, ())
    run = Run("server", points, "open", search, 100.0, "p99")
    analysis = analyse([("server", points)], 2, searched=[0])
    report = msgspec.structs.replace(report, runs=(run,), analysis=analysis)
    (section,) = run_sections(report)
    assert 'class="band"' in section.charts[0].drawing
    assert 'class="knee"' not in section.charts[0].drawing
    assert "the band is where the highest rate that holds lies" in section.charts[0].caption
    assert section.charts[2].caption.endswith("; Poisson, 20.1/s")
    assert "limit 100 ms" in section.charts[1].drawing
    assert not any(finding.id.startswith("rate-knee") for finding in interpret(report))
    assert "Highest rate, p99 within 100 ms" in to_html(report)
    assert "20.0/s to 21.0/s" in to_html(report)
    # A search has no caveats of its own, and an empty list would be a bare line.
    empty = msgspec.structs.replace(report, findings=(report.of_kind("headline")[0],))
    assert '<ul class="findings' not in to_html(empty)


def test_a_search_without_an_answer_has_no_band(make_report, steps):
    search = RateSearch(0.0, 0.0, 0.0, "void", 200.0, ())
    run = Run("server", tuple(steps), "open", search, 100.0, "p99")
    report = msgspec.structs.replace(make_report(server=steps), runs=(run,))
    (section,) = run_sections(report)
    assert "band" not in section.charts[0].drawing
    assert "band" not in section.charts[0].caption


def test_a_run_of_which_nothing_can_be_drawn_has_no_section(make_report, point):
    assert run_sections(make_report(single=[point(1, count=1)])) == []
