from __future__ import annotations

import json

import pytest

from seatrial.bench.loadgen_log import DETAIL, read_log
from seatrial.errors import ServiceFailed


@pytest.fixture
def log(tmp_path):
    """Writes a detail log of these keys and values, and reads it."""

    def write(*, error: str = "", warning: str = "", **values):
        lines = ["not a line of the log", ':::MLLOG {"key": "cut off']
        for key, value in {"result_validity": "VALID", **values}.items():
            lines.append(":::MLLOG " + json.dumps({"key": key, "value": value}))
        for text, kind in ((error, "is_error"), (warning, "is_warning")):
            if text:
                said = {"key": "generic", "value": text, "metadata": {kind: True}}
                lines.append(":::MLLOG " + json.dumps(said))
        (tmp_path / DETAIL).write_text("\n".join(lines))
        return read_log(tmp_path)

    return write


def test_a_valid_run(log):
    found = log(
        loadgen_version="6.0.17 @ abc",
        effective_scenario="Server",
        effective_target_qps=20,
        result_query_count=700,
        result_completed_samples_per_sec=19.5,
        result_mean_latency_ns=2_500_000,
        early_stopping_met=True,
        early_stopping_result=" * Run successful. ",
        **{"result_50.00_percentile_latency_ns": 2_000_000},
        **{"result_99.90_percentile_latency_ns": 9_000_000},
    )
    assert (found.version, found.validity, found.reasons) == ("6.0.17 @ abc", "VALID", ())
    assert (found.queries, found.rate_per_s, found.mean_ms) == (700, 19.5, 2.5)
    assert found.percentiles_ms == {"p50": 2.0, "p99.9": 9.0}
    assert found.settings == {"scenario": "Server", "target_qps": 20}
    assert found.early_stopping == "* Run successful."


def test_an_invalid_run_has_its_reasons(log):
    found = log(
        result_validity="INVALID",
        result_perf_constraints_met=False,
        result_min_duration_met=False,
        result_min_queries_met=False,
        early_stopping_met=False,
        result_invalid_reason="Reduce target QPS to improve latency. ",
        error="ran out of queries",
        warning="slow",
    )
    assert [reason.split()[0:2] for reason in found.reasons[:4]] == [
        ["the", "percentile"],
        ["the", "run"],
        ["the", "run"],
        ["early", "stopping:"],
    ]
    assert found.reasons[4:] == ("ran out of queries", "Reduce target QPS to improve latency")
    assert found.warnings == ("slow",)


def test_a_query_of_several_images_is_judged_as_a_whole(log):
    found = log(
        result_mean_query_latency_ns=4_000_000,
        result_mean_latency_ns=1_000_000,
        **{"result_90.00_percentile_per_query_latency_ns": 5_000_000},
        **{"result_90.00_percentile_latency_ns": 1_000_000},
    )
    assert (found.percentiles_ms, found.mean_ms) == ({"p90": 5.0}, 4.0)
    assert (found.rate_per_s, found.queries) == (None, 0)


def test_a_log_without_a_result_is_an_error(tmp_path):
    with pytest.raises(ServiceFailed, match="left no log"):
        read_log(tmp_path)
    (tmp_path / DETAIL).write_text(':::MLLOG {"key": "loadgen_version", "value": "6"}\n')
    with pytest.raises(ServiceFailed, match="did not finish"):
        read_log(tmp_path)
