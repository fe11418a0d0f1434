"""Verdicts on reports whose figures are known."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bench_reports import build_point, build_report
from seatrial.accuracy.evaluate import Figures
from seatrial.contract import AccuracyClause, Contract, LatencyClause, LoadClause
from seatrial.errors import InvalidConfig
from seatrial.load.images import ImagesSummary
from seatrial.trial.verdict import judge_accuracy, judge_service

PICTURES = ImagesSummary(
    "photos", 3, 3, 0, 256, 0, 9e4, 8, 10**5, 640, 640, 480, 480, 0.3, {"image/jpeg": 3}, "", 0, ()
)
FIGURES = Figures(0.44, 0.62, *[None] * 10)


def outcomes(verdict):
    return {ruling.clause: ruling.outcome for ruling in verdict.rulings}


def report(**single):
    return build_report(PICTURES, [build_point(1, 40.0, **single)], [build_point(8, 160.0)])


@pytest.mark.parametrize(
    ("clause", "outcome"),
    [
        (AccuracyClause(ap=0.44), "holds"),
        (AccuracyClause(ap=0.441), "fails"),
        (AccuracyClause(ap=0.4, ap50=0.7), "fails"),
        (AccuracyClause(ap=0.4, ar100=0.1), "undecided"),
    ],
)
def test_accuracy_is_held_against_its_floor(clause, outcome):
    verdict = judge_accuracy(Contract(accuracy=clause), FIGURES)
    assert verdict.outcome == outcome


def test_latency_holds_only_with_its_upper_bound():
    point = report().runs[0].points[0]
    p99 = point.latency.percentiles["p99"]
    assert p99.value_ms < p99.upper_ms
    between = (p99.value_ms + p99.upper_ms) / 2
    for limit, outcome in ((p99.upper_ms, "holds"), (between, "undecided"), (1.0, "fails")):
        contract = Contract(latency=LatencyClause(limit, "p99"))
        assert outcomes(judge_service(contract, report())) == {"latency.at_most_ms": outcome}


def test_a_sample_too_small_decides_nothing():
    contract = Contract(latency=LatencyClause(1000.0, "p99"))
    verdict = judge_service(contract, report(count=100))
    assert verdict.outcome == "undecided"
    assert "662 are needed" in verdict.rulings[0].found


def test_failed_requests_break_the_latency_clause():
    contract = Contract(latency=LatencyClause(1000.0, "p90"))
    assert judge_service(contract, report(failed=200)).outcome == "fails"


def test_lone_requests_that_were_not_measured_leave_latency_open():
    contract = Contract(latency=LatencyClause(1000.0))
    measured = build_report(PICTURES, None, [build_point(1)])
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
    measured = build_report(PICTURES, [build_point(server_cores=None)])
    found = outcomes(judge_service(Contract(load=LoadClause(memory_mib=1.0)), measured))
    assert found == {"load.error_rate": "holds", "load.memory_mib": "undecided"}


def test_what_is_not_asked_is_not_judged():
    assert judge_service(Contract(), report()).rulings == ()


def test_contract_file_with_a_mistyped_key(tmp_path: Path):
    file = tmp_path / "contract.toml"
    file.write_text('name = "gate"\n[latency]\nat_most = 60\n')
    with pytest.raises(InvalidConfig, match=r"latency\.at_most'") as caught:
        Contract.read(file)
    assert "at_most_ms" in caught.value.hint
    file.write_text('name = "gate"\n[latency]\nat_most_ms = 60\npercentile = "p99"\n')
    assert Contract.read(file) == Contract("gate", latency=LatencyClause(60.0, "p99"))
    assert msgspec.structs.asdict(Contract.read(file))["load"] is None
