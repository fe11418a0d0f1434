"""Measurements against a contract: each clause holds, fails, or cannot be decided."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from seatrial.accuracy.gate import Clause, Interval, Row, Verdict, judge, rule
from seatrial.bench.report_data import BenchReport
from seatrial.contract import AccuracyClause, Contract, LatencyClause, LoadClause
from seatrial.load.statistics import CONFIDENCE

if TYPE_CHECKING:
    from seatrial.accuracy.evaluate import Figures

MIB = 2**20


def judge_accuracy(
    contract: Contract, figures: Figures, intervals: Mapping[str, Interval]
) -> Verdict:
    """Compare measured accuracy with the contract's accuracy clauses.

    Args:
        contract: The contract.
        figures: The figures as measured.
        intervals: Name of a figure -> its interval: the images are a sample of what will be seen.
    """
    clause = contract.accuracy or AccuracyClause()
    return judge(_accuracy(clause, figures, intervals), name=contract.name)


def judge_service(contract: Contract, report: BenchReport) -> Verdict:
    """Compare a benchmark with the contract's latency and load clauses."""
    rows: list[Row] = []
    if contract.latency is not None:
        rows.append(_latency(contract.latency, report))
    if contract.load is not None:
        rows += _load(contract.load, report)
    return judge(rows, name=contract.name)


def _accuracy(
    clause: AccuracyClause, figures: Figures, intervals: Mapping[str, Interval]
) -> Iterator[Row]:
    for name, least in msgspec.structs.asdict(clause).items():
        if least is None:
            continue
        found: float | None = getattr(figures, name)
        interval = intervals.get(name)
        if found is None or interval is None:
            text = "no objects to measure on"
        else:
            text = (
                f"{found:.4f} ({interval.level:.0%} interval {interval.low:.4f} to "
                f"{interval.high:.4f}, {interval.images} images)"
            )
        yield rule(Clause(f"accuracy.{name}", least, "at_least"), found, interval, text=text)


def _latency(clause: LatencyClause, report: BenchReport) -> Row:
    limit = Clause("latency.at_most_ms", clause.at_most_ms, label=clause.percentile, unit=" ms")
    point = next((r.points[0] for r in report.runs if r.scenario == "single-stream"), None)
    if point is None:
        return rule(limit, None, text="single-stream was not measured")
    found = point.latency.percentiles[clause.percentile]
    if found.value_ms is None:
        # Failed requests rank above all latencies: in a sample that is large enough they decide.
        enough = point.latency.count + point.latency.failed >= found.needed
        return rule(limit, math.inf if enough else None, text=found.reason)
    bound = "no bound" if found.upper_ms is None else f"at most {found.upper_ms:.1f} ms"
    return rule(
        limit,
        found.value_ms,
        # The bound is one-sided: a percentile over the limit fails, whatever its bound.
        Interval(low=found.value_ms, high=found.upper_ms, level=CONFIDENCE),
        text=f"{found.value_ms:.1f} ms, {bound} at {CONFIDENCE:.0%} confidence",
    )


def _load(clause: LoadClause, report: BenchReport) -> Iterator[Row]:
    points = [point for run in report.runs for point in run.points]
    if clause.goodput_per_s is not None:
        best = max(point.goodput_per_s for point in points)
        limit = Clause("load.goodput_per_s", clause.goodput_per_s, "at_least", unit="/s")
        yield rule(limit, best, text=f"{best:.4g}/s")
    # A window in which nothing came to an end has no failures.
    rate = max(point.failed / max(1, point.good + point.failed) for point in points)
    yield rule(Clause("load.error_rate", clause.error_rate), rate, text=f"{rate:.4g}")
    if clause.memory_mib is not None:
        limit = Clause("load.memory_mib", clause.memory_mib, unit=" MiB")
        seen = [p.usage.server.rss_peak_bytes for p in points if p.usage.server is not None]
        peak = max(seen) / MIB if seen else None
        text = "the service's processes are not visible" if peak is None else f"{peak:.4g} MiB"
        yield rule(limit, peak, text=text)
