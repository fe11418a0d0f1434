from __future__ import annotations

import msgspec
import pytest

from bench_reports import build_open_point
from seatrial.bench.analysis import analyse
from seatrial.bench.findings import interpret
from seatrial.bench.report_data import Run
from seatrial.load.rate_search import RateSearch


def test_a_run_without_lone_requests_or_a_curve_has_a_headline(make_report, point):
    report = make_report(scaling=[point(8, 100.0)])
    assert report.findings[0].severity == "good"
    assert "80.0 good answers a second" in report.findings[0].text


def test_failed_requests_come_first_in_the_headline(make_report, assert_traceable):
    report = make_report(server=[build_open_point(20.0, failed=200)])
    assert_traceable(report)
    assert "25% of the requests failed; " in report.findings[0].text
    few = make_report(server=[build_open_point(20.0, failed=4)])
    assert "requests failed" not in few.findings[0].text


def test_no_request_in_the_window_is_no_fault_of_the_service(make_report, point):
    nothing = msgspec.structs.replace(point(1), good=0, failed=0)
    first = make_report(single=[nothing]).findings[0]
    assert first.severity == "warn"
    assert "no request came to an end in the window" in first.text


def test_runs_without_a_curve_are_named_with_their_unit(make_report, point, assert_traceable):
    several = msgspec.structs.replace(point(1), images_per_query=8, goodput_per_s=2.0)
    whole = msgspec.structs.replace(point(8), goodput_per_s=17.0)
    report = make_report(single=[several])
    runs = (Run("multi-stream", (several,)), Run("offline", (whole,)))
    draft = msgspec.structs.replace(
        report, runs=runs, analysis=analyse([(run.scenario, run.points) for run in runs], 2)
    )
    made = msgspec.structs.replace(draft, findings=interpret(draft))
    assert_traceable(made)
    assert "2.00 queries of 8 images a second (multi-stream); 17.0 good" in made.findings[0].text


@pytest.mark.parametrize(
    ("low_hz", "bounded", "words"),
    [
        (9.0, True, "holds up to about 10.0/s (9.00 to 11.0: the search had no more time)"),
        (9.0, False, "holds at 9.00/s; of higher rates nothing was shown"),
        (0.0, True, "holds up to about 10.0/s by trials that were too short to be sure of any"),
        (0.0, False, "neither to hold nor to fail at any rate"),
    ],
)
def test_a_search_says_of_no_rate_what_was_not_shown(
    make_report, assert_traceable, low_hz, bounded, words
):
    report = make_report(server=[build_open_point(10.0)])
    found = RateSearch(10.0, low_hz, 11.0, "budget", 9.0, (), bounded)
    run = Run("server", report.runs[0].points, "open", found, 100.0, "p99")
    draft = msgspec.structs.replace(report, runs=(run,))
    made = msgspec.structs.replace(draft, findings=interpret(draft))
    assert_traceable(made)
    assert words in made.findings[0].text
    assert ("does not hold at" in made.findings[0].text) == (not low_hz and bounded)
