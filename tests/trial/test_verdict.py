"""Verdicts on reports whose figures are known."""

from __future__ import annotations

import msgspec
import pytest

from bench_reports import build_open_point, build_point, build_report
from seatrial.accuracy.evaluate import Figures
from seatrial.bench.report_data import Run
from seatrial.contract import AccuracyClause, Contract, LatencyClause, LoadClause, ServerClause
from seatrial.gate import Interval
from seatrial.load.images import ImagesSummary
from seatrial.load.rate_search import RateSearch
from seatrial.load.statistics import PERCENTILES, samples_needed
from seatrial.trial.verdict import Accuracy, elsewhere, judge_contract

IMAGES = ImagesSummary(
    "photos", 3, 3, 0, 256, 0, 9e4, 8, 10**5, 640, 640, 480, 480, 0.3, {"image/jpeg": 3}, "", 0, ()
)
FIGURES = Figures(0.44, 0.62, *[None] * 10)
ENDS = {"ap": Interval(0.40, 0.48, 0.95, 53), "ap50": Interval(0.58, 0.66, 0.95, 53)}
MEASURED = Accuracy(FIGURES, ENDS)


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
    verdict = judge_contract(Contract(accuracy=clause), accuracy=MEASURED)
    assert verdict.outcome == outcome


def test_an_undecided_accuracy_says_how_many_images_would_decide():
    (row,) = judge_contract(Contract(accuracy=AccuracyClause(ap=0.42)), accuracy=MEASURED).rows
    assert row.text == "0.4400 (95% interval 0.4000 to 0.4800, 53 images)"
    assert (row.measured, row.low, row.high, row.level) == (0.44, 0.40, 0.48, 0.95)
    assert row.images_needed == 210  # four times as many: half the width


@pytest.mark.parametrize(("images", "outcome"), [(5, "undecided"), (6, "holds")])
def test_a_handful_of_images_decides_no_accuracy(images, outcome):
    ends = {"ap": Interval(0.44, 0.44, 0.95, images)}
    verdict = judge_contract(
        Contract(accuracy=AccuracyClause(ap=0.4)), accuracy=Accuracy(FIGURES, ends)
    )
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
        verdict = judge_contract(Contract(latency=LatencyClause(limit, "p99")), report=report())
        assert outcomes(verdict) == {"latency.at_most_ms": outcome}
    (row,) = verdict.rows
    assert (row.measured, row.low, row.high) == (p99.value_ms, p99.value_ms, p99.upper_ms)
    assert row.level == 0.99
    assert (row.clause.limit, row.clause.label, row.clause.unit) == (1.0, "p99 latency", " ms")


def test_the_percentile_of_the_clause_is_judged():
    found = report().runs[0].points[0].latency.percentiles
    limit = (found["p50"].upper_ms + found["p99"].value_ms) / 2
    for name, outcome in (("p50", "holds"), ("p99", "fails")):
        verdict = judge_contract(Contract(latency=LatencyClause(limit, name)), report=report())
        assert verdict.outcome == outcome


def test_latency_is_read_from_lone_requests_alone():
    slow = build_report(IMAGES, [build_point(1, 40.0)], [build_point(1, 400.0)])
    contract = Contract(latency=LatencyClause(100.0))
    assert judge_contract(contract, report=slow).outcome == "holds"


def test_a_percentile_without_a_bound_is_undecided():
    # 8 of 100 failed: p90 is there, and its upper bound lies among the failed ones.
    measured = report(count=100, failed=8)
    assert measured.runs[0].points[0].latency.percentiles["p90"].upper_ms is None
    verdict = judge_contract(Contract(latency=LatencyClause(1000.0, "p90")), report=measured)
    assert verdict.outcome == "undecided"
    assert "no bound" in verdict.rows[0].text


@pytest.mark.parametrize("percentile", PERCENTILES)
def test_each_percentile_is_judged_by_its_own_sample(percentile):
    needed = samples_needed(PERCENTILES[percentile])
    for count, limit_ms, outcome in (
        (needed, 1000.0, "holds"), (needed, 1.0, "fails"), (needed - 1, 1000.0, "undecided"),
    ):  # fmt: skip
        contract = Contract(latency=LatencyClause(limit_ms, percentile))
        verdict = judge_contract(contract, report=report(count=count))
        assert (verdict.outcome, verdict.rows[0].clause.label) == (outcome, f"{percentile} latency")


def test_a_sample_too_small_decides_nothing():
    contract = Contract(latency=LatencyClause(1000.0, "p99"))
    verdict = judge_contract(contract, report=report(count=100))
    assert verdict.outcome == "undecided"
    assert "662 are needed" in verdict.rows[0].text


def test_failed_requests_break_the_latency_clause():
    contract = Contract(latency=LatencyClause(1000.0, "p90"))
    verdict = judge_contract(contract, report=report(failed=200))
    assert verdict.outcome == "fails"
    assert verdict.rows[0].text == "200 of 700 requests failed"
    # 63 requests are too few for p90, however many of them failed.
    for count, outcome in ((63, "undecided"), (64, "fails")):
        assert judge_contract(contract, report=report(count=count, failed=20)).outcome == outcome


def test_lone_requests_that_were_not_measured_leave_latency_open():
    contract = Contract(latency=LatencyClause(1000.0))
    measured = build_report(IMAGES, None, [build_point(1)])
    assert judge_contract(contract, report=measured).outcome == "undecided"


def test_load_clauses():
    measured = report()
    ends = measured.runs[1].points[0].goodput_interval
    clause = LoadClause(goodput_per_s=ends.low_per_s, memory_mib=200.0)
    assert set(outcomes(judge_contract(Contract(load=clause), report=measured)).values()) == {
        "holds"
    }
    clause = LoadClause(goodput_per_s=ends.high_per_s + 0.01, memory_mib=199.0)
    assert outcomes(judge_contract(Contract(load=clause), report=report(failed=1))) == {
        "load.goodput_per_s": "fails",
        "load.error_rate": "fails",
        "load.memory_mib": "fails",
    }


def test_goodput_is_decided_by_its_interval():
    def judged(least, *points):
        measured = build_report(IMAGES, None, list(points))
        return judge_contract(Contract(load=LoadClause(goodput_per_s=least)), report=measured)

    steady, few = build_point(8, 160.0, count=400), build_point(8, 160.0, count=20)
    for point, low, high in ((steady, 49.6, 50.4), (few, 30.5, 77.3)):
        ends = point.goodput_interval
        assert (ends.low_per_s, ends.high_per_s) == pytest.approx((low, high), abs=0.2)
        rows = [judged(least, point).rows[0] for least in (low - 1, 50.0, high + 1)]
        assert [row.outcome for row in rows] == ["holds", "undecided", "fails"]
        assert (rows[0].measured, rows[0].low, rows[0].level) == (50.0, ends.low_per_s, 0.95)
        assert rows[0].text.startswith("50/s (95% interval ")
    # One point that surely holds is enough; all must surely fail.
    assert judged(39.0, few, build_point(4, 100.0, count=400)).rows[0].outcome == "holds"
    assert judged(41.0, few, build_point(4, 100.0, count=400)).rows[0].outcome == "undecided"
    assert judged(78.0, few, build_point(4, 100.0, count=400)).rows[0].outcome == "fails"
    old = msgspec.structs.replace(few, goodput_interval=None)
    assert judged(50.0, old).rows[0].outcome == "holds"  # as the release that measured it judged
    busy = build_point(8, 160.0, count=20, other_cores=1.0)
    assert judged(100.0, busy).rows[0].reason.startswith("other load on the machine")


def test_memory_of_a_service_elsewhere_is_not_known():
    measured = build_report(IMAGES, [build_point(server_cores=None)])
    found = outcomes(judge_contract(Contract(load=LoadClause(memory_mib=1.0)), report=measured))
    assert found == {"load.error_rate": "holds", "load.memory_mib": "undecided"}


def test_the_error_rate_is_the_worst_of_all_points_and_counts_all_requests():
    single = build_point(1, 40.0, count=100, failed=1)
    scaling = [build_point(2, 40.0, count=200, failed=10), build_point(4, 40.0, count=100)]
    measured = build_report(IMAGES, [single], scaling)
    for limit, outcome in ((0.05, "holds"), (0.0499, "fails")):
        verdict = judge_contract(Contract(load=LoadClause(error_rate=limit)), report=measured)
        assert outcomes(verdict) == {"load.error_rate": outcome}
    assert verdict.rows[0].measured == 0.05
    # No failure is allowed where the contract does not say otherwise.
    verdict = judge_contract(Contract(load=LoadClause()), report=measured)
    assert outcomes(verdict) == {"load.error_rate": "fails"}


def test_a_window_in_which_nothing_ended_has_no_error_rate_to_divide_by():
    measured = build_report(IMAGES, [build_point(1, 40.0, count=1, failed=1)])
    assert judge_contract(Contract(load=LoadClause()), report=measured).rows[0].measured == 1.0
    idle = msgspec.structs.replace(measured.runs[0].points[0], good=0, failed=0)
    nothing = build_report(IMAGES, [idle])
    assert judge_contract(Contract(load=LoadClause()), report=nothing).outcome == "undecided"


def test_the_worst_clause_decides():
    """A clause that fails outweighs one that is undecided; that outweighs one that holds."""
    few = report(count=100)
    unknown = LatencyClause(1000.0, "p99")
    holds, fails = LoadClause(), LoadClause(goodput_per_s=1e6)
    assert judge_contract(Contract(load=holds), report=few).outcome == "holds"
    assert judge_contract(Contract(latency=unknown, load=holds), report=few).outcome == "undecided"
    assert judge_contract(Contract(latency=unknown, load=fails), report=few).outcome == "fails"
    verdict = judge_contract(Contract("gate camera", latency=unknown, load=fails), report=few)
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
    row = judge_contract(contract, report=measured).rows[1]
    assert (row.measured, row.outcome, row.text) == (200.0, "holds", "200 MiB")


def test_what_is_not_asked_is_not_judged():
    assert judge_contract(Contract(), report=report()).rows == ()


def loaded(single_elsewhere=0.0, scaling_elsewhere=0.0, *, steal=0.0, **point):
    """A report of two cores, with the cores that other programs had at each of its two points."""
    return build_report(
        IMAGES,
        [build_point(1, 40.0, other_cores=single_elsewhere, steal_share=steal, **point)],
        [build_point(8, 160.0, other_cores=scaling_elsewhere, **point)],
    )


@pytest.mark.parametrize(
    ("busy", "steal", "outcome"),
    [
        (0.0, 0.0, "fails"),
        (0.2, 0.0, "fails"),  # 10 % of two cores: not over the limit
        (0.21, 0.0, "undecided"),
        (0.0, 0.11, "undecided"),  # other machines on the same processor
        (0.12, 0.05, "undecided"),
        (1.5, 0.0, "undecided"),
    ],
)
def test_a_figure_that_other_load_spoiled_is_undecided_and_not_failed(busy, steal, outcome):
    contract = Contract(latency=LatencyClause(30.0))
    (row,) = judge_contract(contract, report=loaded(busy, steal=steal)).rows
    assert row.outcome == outcome
    assert row.reason.startswith("other load on the machine had ") == (outcome == "undecided")
    share = elsewhere(loaded(busy, steal=steal).runs[0].points[0], 2)
    assert share == pytest.approx(busy / 2 + steal)


def test_what_holds_in_spite_of_other_load_holds():
    contract = Contract(latency=LatencyClause(300.0), load=LoadClause(goodput_per_s=1.0))
    verdict = judge_contract(contract, report=loaded(1.0, 1.0))
    assert (verdict.outcome, [row.reason for row in verdict.rows]) == ("holds", ["", "", ""])


def test_the_reason_names_the_share_and_what_to_do():
    verdict = judge_contract(Contract(latency=LatencyClause(30.0)), report=loaded(0.68))
    assert verdict.statement == (
        "The contract cannot be decided: 40.8 ms, at most 40.9 ms at 99% confidence. Other load on "
        "the machine had 34% of the cores while this was measured, and over 10% spoils it: measure "
        "again on a quiet machine."
    )


def test_each_clause_looks_at_the_windows_that_its_figure_comes_from():
    contract = Contract(
        latency=LatencyClause(30.0), load=LoadClause(goodput_per_s=1e6, memory_mib=100.0)
    )
    assert outcomes(judge_contract(contract, report=loaded(0.0, 1.0))) == {
        "latency.at_most_ms": "fails",  # lone requests had the machine for themselves
        "load.goodput_per_s": "undecided",
        "load.error_rate": "holds",
        "load.memory_mib": "fails",  # other load takes no memory of the service
    }


def test_failures_of_a_quiet_window_count_whatever_the_other_windows_saw():
    contract = Contract(load=LoadClause(error_rate=0.01))
    failing = build_point(1, 40.0, count=100, failed=5)
    busy = build_point(8, 40.0, count=100, failed=50, other_cores=1.0)
    (row,) = judge_contract(contract, report=build_report(IMAGES, [failing], [busy])).rows
    assert (row.outcome, row.measured) == ("fails", 0.05)
    healthy = build_point(1, 40.0, count=100)
    (row,) = judge_contract(contract, report=build_report(IMAGES, [healthy], [busy])).rows
    assert (row.outcome, row.measured) == ("undecided", 0.5)


def test_a_machine_whose_load_is_not_known_is_taken_as_it_is():
    point = build_point(1, 40.0, server_cores=None, other_cores=1.9)
    verdict = judge_contract(
        Contract(latency=LatencyClause(30.0)), report=build_report(IMAGES, [point])
    )
    assert verdict.outcome == "fails"


def test_a_figure_on_images_that_chose_the_epoch_holds_nothing_and_can_fail():
    seen = Accuracy(FIGURES, ENDS, "the same images chose the epoch of digits")
    for least, outcome in ((0.3, "undecided"), (0.44, "undecided"), (0.5, "fails")):
        contract = Contract(accuracy=AccuracyClause(ap=least))
        (row,) = judge_contract(contract, accuracy=seen).rows
        assert row.outcome == outcome
        assert bool(row.reason) == (outcome == "undecided")
        assert row.images_needed is None  # more of the same images would not help


def test_one_verdict_rules_on_all_clauses_in_the_order_of_the_contract():
    contract = Contract(
        accuracy=AccuracyClause(ap=0.4), latency=LatencyClause(1000.0), load=LoadClause()
    )
    verdict = judge_contract(contract, accuracy=MEASURED, report=report())
    assert outcomes(verdict) == {
        "accuracy.ap": "holds",
        "latency.at_most_ms": "holds",
        "load.error_rate": "holds",
    }
    assert verdict.outcome == "holds"
    assert outcomes(judge_contract(contract, accuracy=MEASURED)) == {"accuracy.ap": "holds"}
    assert judge_contract(contract).rows == ()


def server_report(*points):
    return build_report(IMAGES, server=list(points))


def test_the_server_clause_is_judged_at_its_own_rate():
    contract = Contract(server=ServerClause(rate_per_s=20.0, at_most_ms=60.0))
    measured = server_report(build_open_point(10.0, 500.0), build_open_point(20.0, 40.0))
    verdict = judge_contract(contract, report=measured)
    assert outcomes(verdict) == {"server.at_most_ms": "holds"}
    (row,) = verdict.rows
    assert row.clause.label == "p99 latency (Poisson, 20/s)"
    assert row.measured == 49.0
    slow = server_report(build_open_point(20.0, 55.0))
    assert judge_contract(contract, report=slow).outcome == "fails"
    other = judge_contract(contract, report=server_report(build_open_point(10.0)))
    assert (other.outcome, other.rows[0].text) == ("undecided", "server was not measured at 20/s")


def test_failed_requests_break_the_server_clause():
    contract = Contract(server=ServerClause(rate_per_s=20.0, at_most_ms=60.0))
    measured = server_report(build_open_point(20.0, failed=9))
    assert judge_contract(contract, report=measured).outcome == "fails"
    few = Contract(server=ServerClause(rate_per_s=20.0, at_most_ms=60.0, percentile="p90"))
    assert judge_contract(few, report=measured).outcome == "holds"


def test_a_void_window_decides_nothing():
    for limit_ms in (1000.0, 1.0):
        contract = Contract(server=ServerClause(rate_per_s=20.0, at_most_ms=limit_ms))
        measured = server_report(build_open_point(20.0, late_ms=30.0))
        verdict = judge_contract(contract, report=measured)
        assert verdict.outcome == "undecided"
        assert "the window is void: 50.0% of the requests were sent" in verdict.rows[0].reason


def test_arrivals_decide_nothing_of_the_load_clause():
    """A void window, and a trial of a search that was too much on purpose."""
    contract = Contract(load=LoadClause(goodput_per_s=10.0, error_rate=0.0))
    late = build_open_point(20.0, late_ms=30.0)
    refused = build_open_point(80.0, failed=1000)
    for points in ([late], [refused], [build_open_point(20.0)]):
        verdict = judge_contract(contract, report=server_report(*points))
        assert verdict.outcome == "undecided"
        assert "no closed loop was measured" in verdict.rows[0].text
    scaling = [build_point(4, 40.0)]
    both = build_report(IMAGES, scaling=scaling, server=[refused])
    alone = build_report(IMAGES, scaling=scaling)
    assert outcomes(judge_contract(contract, report=both)) == outcomes(
        judge_contract(contract, report=alone)
    )


def test_no_request_at_all_holds_no_error_rate():
    nothing = msgspec.structs.replace(build_point(4, 40.0), good=0, failed=0)
    contract = Contract(load=LoadClause(error_rate=0.5))
    verdict = judge_contract(contract, report=build_report(IMAGES, scaling=[nothing]))
    assert (verdict.outcome, verdict.rows[0].text) == ("undecided", "no request came to an end")


def test_a_percentile_that_an_older_report_lacks_decides_nothing():
    point = build_point(1, 40.0)
    latency = msgspec.structs.replace(point.latency, percentiles={})
    older = msgspec.structs.replace(point, latency=latency)
    contract = Contract(latency=LatencyClause(at_most_ms=100.0, percentile="p95"))
    made = msgspec.structs.replace(report(), runs=(Run("single-stream", (older,)),))
    assert judge_contract(contract, report=made).outcome == "undecided"


def test_a_search_that_met_no_rate_that_fails_has_no_upper_end():
    contract = Contract(server=ServerClause(rate_per_s=20.0, at_most_ms=60.0))
    report = server_report(build_open_point(20.0))
    for found, outcome in (
        (RateSearch(30.0, 25.0, 40.0, "budget", 9.0, (), bounded=False), "holds"),
        (RateSearch(0.0, 0.0, 10.0, "budget", 9.0, (), bounded=False), "undecided"),
        (RateSearch(0.0, 0.0, 10.0, "budget", 9.0, (), bounded=True), "fails"),
    ):
        run = msgspec.structs.replace(report.runs[0], search=found, limit_ms=60.0, percentile="p99")
        made = msgspec.structs.replace(report, runs=(run,))
        assert judge_contract(contract, report=made).outcome == outcome
