"""Verdicts on reports whose figures are known."""

from __future__ import annotations

import msgspec
import pytest

from bench_reports import build_point, build_report
from seatrial.accuracy.evaluate import Figures
from seatrial.accuracy.gate import Interval
from seatrial.contract import AccuracyClause, Contract, LatencyClause, LoadClause
from seatrial.load.images import ImagesSummary
from seatrial.trial.verdict import judge_accuracy, judge_service

IMAGES = ImagesSummary(
    "photos", 3, 3, 0, 256, 0, 9e4, 8, 10**5, 640, 640, 480, 480, 0.3, {"image/jpeg": 3}, "", 0, ()
)
FIGURES = Figures(0.44, 0.62, *[None] * 10)
ENDS = {"ap": Interval(0.40, 0.48, 0.95, 53), "ap50": Interval(0.58, 0.66, 0.95, 53)}


def outcomes(verdict):
    return {row.clause.metric: row.outcome for row in verdict.rows}


def report(**single):
    return build_report(IMAGES, [build_point(1, 40.0, **single)], [build_point(8, 160.0)])


@pytest.mark.parametrize(
    ("clause", "outcome"),
    [
        (AccuracyClause(ap=0.40), "holds"),
        (AccuracyClause(ap=0.401), "undecided"),
        (AccuracyClause(ap=0.48), "undecided"),
        (AccuracyClause(ap=0.481), "fails"),
        (AccuracyClause(ap=0.4, ap50=0.7), "fails"),
        (AccuracyClause(ap=0.4, ap50=0.6), "undecided"),
        (AccuracyClause(ap=0.4, ar100=0.1), "undecided"),
        (AccuracyClause(ap=0.5, ar100=0.1), "fails"),
        (AccuracyClause(), "holds"),
    ],
)
def test_accuracy_is_held_against_its_floor(clause, outcome):
    verdict = judge_accuracy(Contract(accuracy=clause), FIGURES, ENDS)
    assert verdict.outcome == outcome


def test_an_undecided_accuracy_says_how_many_images_would_decide():
    (row,) = judge_accuracy(Contract(accuracy=AccuracyClause(ap=0.42)), FIGURES, ENDS).rows
    assert row.text == "0.4400 (95% interval 0.4000 to 0.4800, 53 images)"
    assert (row.measured, row.low, row.high, row.level) == (0.44, 0.40, 0.48, 0.95)
    assert row.images_needed == 210  # four times as many: half the width


@pytest.mark.parametrize(("images", "outcome"), [(5, "undecided"), (6, "holds")])
def test_a_handful_of_images_decides_no_accuracy(images, outcome):
    ends = {"ap": Interval(0.44, 0.44, 0.95, images)}
    verdict = judge_accuracy(Contract(accuracy=AccuracyClause(ap=0.4)), FIGURES, ends)
    assert verdict.outcome == outcome


def test_latency_holds_only_with_its_upper_bound():
    point = report().runs[0].points[0]
    p99 = point.latency.percentiles["p99"]
    assert p99.value_ms < p99.upper_ms
    between = (p99.value_ms + p99.upper_ms) / 2
    below = p99.value_ms * (1 - 1e-9)
    for limit, outcome in [
        (p99.upper_ms, "holds"),
        (p99.upper_ms * (1 - 1e-9), "undecided"),
        (between, "undecided"),
        (p99.value_ms, "undecided"),
        (below, "fails"),
        (1.0, "fails"),
    ]:
        verdict = judge_service(Contract(latency=LatencyClause(limit, "p99")), report())
        assert outcomes(verdict) == {"latency.at_most_ms": outcome}
    (row,) = verdict.rows
    assert (row.measured, row.low, row.high) == (p99.value_ms, p99.value_ms, p99.upper_ms)
    assert row.level == 0.99
    assert (row.clause.limit, row.clause.label, row.clause.unit) == (1.0, "p99", " ms")


def test_the_percentile_of_the_clause_is_judged():
    found = report().runs[0].points[0].latency.percentiles
    limit = (found["p50"].upper_ms + found["p99"].value_ms) / 2
    for name, outcome in (("p50", "holds"), ("p99", "fails")):
        verdict = judge_service(Contract(latency=LatencyClause(limit, name)), report())
        assert verdict.outcome == outcome


def test_latency_is_read_from_lone_requests_alone():
    slow = build_report(IMAGES, [build_point(1, 40.0)], [build_point(1, 400.0)])
    contract = Contract(latency=LatencyClause(100.0))
    assert judge_service(contract, slow).outcome == "holds"


def test_a_percentile_without_a_bound_is_undecided():
    # 8 of 100 failed: p90 is there, and its upper bound lies among the failed ones.
    measured = report(count=100, failed=8)
    assert measured.runs[0].points[0].latency.percentiles["p90"].upper_ms is None
    verdict = judge_service(Contract(latency=LatencyClause(1000.0, "p90")), measured)
    assert verdict.outcome == "undecided"
    assert "no bound" in verdict.rows[0].text


def test_a_sample_too_small_decides_nothing():
    contract = Contract(latency=LatencyClause(1000.0, "p99"))
    verdict = judge_service(contract, report(count=100))
    assert verdict.outcome == "undecided"
    assert "662 are needed" in verdict.rows[0].text


def test_failed_requests_break_the_latency_clause():
    contract = Contract(latency=LatencyClause(1000.0, "p90"))
    verdict = judge_service(contract, report(failed=200))
    assert verdict.outcome == "fails"
    assert verdict.rows[0].text == "200 of 700 requests failed"
    # 63 requests are too few for p90, however many of them failed.
    for count, outcome in ((63, "undecided"), (64, "fails")):
        assert judge_service(contract, report(count=count, failed=20)).outcome == outcome


def test_lone_requests_that_were_not_measured_leave_latency_open():
    contract = Contract(latency=LatencyClause(1000.0))
    measured = build_report(IMAGES, None, [build_point(1)])
    assert judge_service(contract, measured).outcome == "undecided"


def test_load_clauses():
    measured = report()
    best = max(run.points[0].goodput_per_s for run in measured.runs)
    clause = LoadClause(goodput_per_s=best, memory_mib=200.0)
    assert set(outcomes(judge_service(Contract(load=clause), measured)).values()) == {"holds"}
    clause = LoadClause(goodput_per_s=best + 1, memory_mib=199.0)
    assert outcomes(judge_service(Contract(load=clause), report(failed=1))) == {
        "load.goodput_per_s": "fails",
        "load.error_rate": "fails",
        "load.memory_mib": "fails",
    }


def test_memory_of_a_service_elsewhere_is_not_known():
    measured = build_report(IMAGES, [build_point(server_cores=None)])
    found = outcomes(judge_service(Contract(load=LoadClause(memory_mib=1.0)), measured))
    assert found == {"load.error_rate": "holds", "load.memory_mib": "undecided"}


def test_the_error_rate_is_the_worst_of_all_points_and_counts_all_requests():
    single = build_point(1, 40.0, count=100, failed=1)
    scaling = [build_point(2, 40.0, count=200, failed=10), build_point(4, 40.0, count=100)]
    measured = build_report(IMAGES, [single], scaling)
    for limit, outcome in ((0.05, "holds"), (0.0499, "fails")):
        verdict = judge_service(Contract(load=LoadClause(error_rate=limit)), measured)
        assert outcomes(verdict) == {"load.error_rate": outcome}
    assert verdict.rows[0].measured == 0.05
    # No failure is allowed where the contract does not say otherwise.
    verdict = judge_service(Contract(load=LoadClause()), measured)
    assert outcomes(verdict) == {"load.error_rate": "fails"}


def test_a_window_in_which_nothing_ended_has_no_error_rate_to_divide_by():
    measured = build_report(IMAGES, [build_point(1, 40.0, count=1, failed=1)])
    assert judge_service(Contract(load=LoadClause()), measured).rows[0].measured == 1.0
    idle = msgspec.structs.replace(measured.runs[0].points[0], good=0, failed=0)
    nothing = build_report(IMAGES, [idle])
    assert judge_service(Contract(load=LoadClause()), nothing).rows[0].measured == 0.0


def test_the_worst_clause_decides():
    """A clause that fails outweighs one that is undecided; that outweighs one that holds."""
    few = report(count=100)
    undecided = LatencyClause(1000.0, "p99")
    holds, fails = LoadClause(), LoadClause(goodput_per_s=1e6)
    assert judge_service(Contract(load=holds), few).outcome == "holds"
    assert judge_service(Contract(latency=undecided, load=holds), few).outcome == "undecided"
    assert judge_service(Contract(latency=undecided, load=fails), few).outcome == "fails"
    verdict = judge_service(Contract("gate camera", latency=undecided, load=fails), few)
    assert verdict.name == "gate camera"
    assert [row.clause.metric for row in verdict.rows] == [
        "latency.at_most_ms",
        "load.goodput_per_s",
        "load.error_rate",
    ]


def test_memory_is_the_largest_of_all_points_in_mebibytes():
    contract = Contract(load=LoadClause(memory_mib=200.0))
    measured = build_report(
        IMAGES, [build_point(rss_mib=150)], [build_point(2), build_point(4, rss_mib=90)]
    )
    row = judge_service(contract, measured).rows[1]
    assert (row.measured, row.outcome, row.text) == (200.0, "holds", "200 MiB")


def test_what_is_not_asked_is_not_judged():
    assert judge_service(Contract(), report()).rows == ()
