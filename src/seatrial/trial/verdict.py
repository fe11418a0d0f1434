"""The one verdict on a contract: each clause holds, fails, or cannot be decided.

`seatrial evaluate`, `bench` and `judge` all rule here, by `seatrial.gate`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from seatrial.contract import AccuracyClause, Contract, LatencyClause, LoadClause, ServerClause
from seatrial.gate import Clause, Interval, Row, Verdict, judge, rule
from seatrial.load.arrivals import LAWS_BY_RATE
from seatrial.load.statistics import CONFIDENCE, RATE_LEVEL
from seatrial.report.numbers import percent

if TYPE_CHECKING:  # accuracy is judged without the extra for benchmarks, and load without that one
    from seatrial.accuracy.evaluate import Figures
    from seatrial.bench.measurement import Measurement
    from seatrial.bench.report_data import BenchReport, Run
    from seatrial.load.rate_search import RateSearch

MIB = 2**20
# A figure that was measured while other load had more of the cores than this is not the service's.
SPOILED = 0.10
LABELS = {"ap": "AP", "ap50": "AP50", "ar100": "AR100"}


class Accuracy(msgspec.Struct, frozen=True):
    """Measured accuracy, as it is judged.

    Attributes:
        figures: Figures as measured.
        intervals: Name of a figure -> its interval: the images are a sample of what will be seen.
        flattered: Why the figures are better than they are; see `seatrial.trial.unseen`.
        drop: Loss of AP against the float32 graph of the model; None where that was not measured.
        drop_interval: Its interval.
    """

    figures: Figures
    intervals: Mapping[str, Interval]
    flattered: str = ""
    drop: float | None = None
    drop_interval: Interval | None = None


def judge_contract(
    contract: Contract, *, accuracy: Accuracy | None = None, report: BenchReport | None = None
) -> Verdict:
    """Compare what was measured with the contract; the clauses of what was not are left out.

    Args:
        contract: The contract.
        accuracy: Rules on the accuracy clauses.
        report: Benchmark of the service; rules on the clauses of latency and load.
    """
    rows: list[Row] = []
    if accuracy is not None and contract.accuracy is not None:
        rows += _accuracy(contract.accuracy, accuracy)
    if report is not None and contract.latency is not None:
        rows.append(_latency(contract.latency, report))
    if report is not None and contract.load is not None:
        rows += _load(contract.load, report)
    if report is not None and contract.server is not None:
        rows.append(_server(contract.server, report))
    return judge(rows, name=contract.name)


def _accuracy(clause: AccuracyClause, measured: Accuracy) -> Iterator[Row]:
    for name, label in LABELS.items():
        least: float | None = getattr(clause, name)
        if least is None:
            continue
        found: float | None = getattr(measured.figures, name)
        interval = measured.intervals.get(name)
        if found is None or interval is None:
            text = "no objects to measure on"
        else:
            text = (
                f"{found:.4f} ({interval.level:.0%} interval {interval.low:.4f} to "
                f"{interval.high:.4f}, {interval.images} images)"
            )
        limit = Clause(f"accuracy.{name}", least, "at_least", label=label)
        yield rule(limit, found, interval, text=text, flattered=measured.flattered)
    if clause.max_drop_ap is not None:
        yield _drop(clause.max_drop_ap, measured)


def _drop(most: float, measured: Accuracy) -> Row:
    """Rule on the loss of AP; a set that training has seen flatters both sides alike."""
    limit = Clause("accuracy.max_drop_ap", most, label="loss of AP")
    found, ends = measured.drop, measured.drop_interval
    if found is None or ends is None:
        unmeasured = "the float32 graph of the model was not measured beside it (seatrial trial)"
        return rule(limit, None, text=unmeasured)
    text = (
        f"AP is {found:.4f} lower ({ends.level:.0%} interval {ends.low:.4f} to {ends.high:.4f})"
        if found >= 0
        else f"AP is {-found:.4f} higher (loss: {ends.level:.0%} interval {ends.low:.4f} to "
        f"{ends.high:.4f})"
    )
    return rule(limit, found, ends, text=text)


def _latency(clause: LatencyClause, report: BenchReport) -> Row:
    label = f"{clause.percentile} latency"
    limit = Clause("latency.at_most_ms", clause.at_most_ms, label=label, unit=" ms")
    point = next((r.points[0] for r in report.runs if r.scenario == "single-stream"), None)
    if point is None:
        return rule(limit, None, text="single-stream was not measured")
    return _percentile(limit, point, clause.percentile, spoiled=_spoiled([point], report))


def _percentile(limit: Clause, point: Measurement, name: str, *, spoiled: str) -> Row:
    """Rule on a percentile of latency by its upper bound."""
    found = point.latency.at(name)
    if found.value_ms is None:
        # Failed requests rank above all latencies: in a sample that is large enough they decide.
        enough = 0 < found.needed <= point.latency.count + point.latency.failed
        return rule(limit, math.inf if enough else None, text=found.reason, spoiled=spoiled)
    bound = "no bound" if found.upper_ms is None else f"at most {found.upper_ms:.1f} ms"
    return rule(
        limit,
        found.value_ms,
        # The bound is one-sided: a percentile over the limit fails, whatever its bound.
        Interval(low=found.value_ms, high=found.upper_ms, level=CONFIDENCE),
        text=f"{found.value_ms:.1f} ms, {bound} at {CONFIDENCE:.0%} confidence",
        spoiled=spoiled,
    )


def _server(clause: ServerClause, report: BenchReport) -> Row:
    """Rule on the latency of requests that arrive at the rate of the contract."""
    law = LAWS_BY_RATE[clause.arrivals](clause.rate_per_s).words()
    limit = Clause(
        "server.at_most_ms", clause.at_most_ms, label=f"{clause.percentile} latency ({law})",
        unit=" ms",
    )  # fmt: skip
    runs = [run for run in report.runs if run.scenario == "server"]
    for run in runs:
        if run.search is not None and _is_of(run, clause, report):
            return _highest(clause, run.search)
    points = [point for run in runs for point in run.points]
    point = next((point for point in points if point.law == law), None)
    if point is None:
        return rule(limit, None, text=f"server was not measured at {clause.rate_per_s:g}/s")
    if point.void:
        reason = f"the window is void: {'; '.join(point.void)}"
        return rule(limit, None, text="a void window", spoiled=reason)
    return _percentile(limit, point, clause.percentile, spoiled=_spoiled([point], report))


def _is_of(run: Run, clause: ServerClause, report: BenchReport) -> bool:
    """Whether a search was made for a clause."""
    wanted = (clause.at_most_ms, clause.percentile, clause.arrivals)
    return (run.limit_ms, run.percentile, report.options.arrivals) == wanted


def _highest(clause: ServerClause, found: RateSearch) -> Row:
    """Rule on the rate of a clause by the highest rate at which its latency holds."""
    limit = Clause(
        "server.rate_per_s", clause.rate_per_s, "at_least",
        label=f"rate with {clause.percentile} latency at most {clause.at_most_ms:g} ms", unit="/s",
    )  # fmt: skip
    interval = Interval(found.low_hz, found.high_hz if found.bounded else None, RATE_LEVEL)
    if found.ended == "void":
        return rule(limit, None, text="too many windows were void to find the highest rate")
    return rule(
        limit,
        found.rate_hz,
        interval,
        text=f"{found.rate_hz:.4g}/s ({RATE_LEVEL:.0%} interval {found.low_hz:.4g} to "
        + (f"{found.high_hz:.4g})" if found.bounded else "an end that was not reached)"),
    )


def _load(clause: LoadClause, report: BenchReport) -> Iterator[Row]:
    # Arrivals at a rate are the matter of [server]: trials of a search are too many on purpose.
    points = [point for run in report.runs for point in run.points if run.loop == "closed"]
    limit = Clause("load.error_rate", clause.error_rate, label="error rate")
    if not any(point.good + point.failed for point in points):
        none = "no closed loop was measured (seatrial bench scaling)"
        yield rule(limit, None, text="no request came to an end" if points else none)
        return
    if clause.goodput_per_s is not None:
        yield _goodput(clause.goodput_per_s, points, spoiled=_spoiled(points, report))
    quiet = [point for point in points if not _is_spoiled(point, report)]
    broken = _error_rate(quiet) > clause.error_rate  # without the help of other load
    rate = _error_rate(quiet if broken else points)
    yield rule(limit, rate, text=f"{rate:.4g}", spoiled="" if broken else _spoiled(points, report))
    if clause.memory_mib is not None:  # which other load does not change
        limit = Clause("load.memory_mib", clause.memory_mib, label="memory", unit=" MiB")
        seen = [p.usage.server.rss_peak_bytes for p in points if p.usage.server is not None]
        peak = max(seen) / MIB if seen else None
        unseen = "the service's processes are not visible"
        text = unseen if peak is None else f"{peak:.4g} MiB"
        yield rule(limit, peak, text=text, spoiled=unseen if peak is None else "")


def _goodput(least: float, points: Sequence[Measurement], *, spoiled: str) -> Row:
    """The best of the points; any of them may have been that on a quiet machine.

    One point that holds by its whole interval is enough, and all must fail by theirs.
    """
    limit = Clause("load.goodput_per_s", least, "at_least", label="goodput", unit="/s")
    best, text = max(point.goodput_per_s for point in points), ""
    known = [point.goodput_interval for point in points if point.goodput_interval is not None]
    interval = None  # in reports from before it was measured
    if known:
        low, high = max(one.low_per_s for one in known), max(one.high_per_s for one in known)
        interval = Interval(low, high, RATE_LEVEL)
        text = f" ({RATE_LEVEL:.0%} interval {low:.4g} to {high:.4g})"
    return rule(limit, best, interval, text=f"{best:.4g}/s{text}", spoiled=spoiled)


def _error_rate(points: Sequence[Measurement]) -> float:
    """Largest share of failed requests; a window in which nothing came to an end has none."""
    return max((p.failed / max(1, p.good + p.failed) for p in points), default=0.0)


def elsewhere(point: Measurement, cores: int) -> float:
    """Share of the usable cores that other load had while a point was measured; 0: not known.

    Other programs of this machine count, and other machines on its processor (steal).
    """
    machine = point.usage.machine
    if machine is None:
        return 0.0
    return (machine.other_cores or 0.0) / cores + machine.steal_share


def _is_spoiled(point: Measurement, report: BenchReport) -> bool:
    return elsewhere(point, report.environment.cpu.cores) > SPOILED


def _spoiled(points: Sequence[Measurement], report: BenchReport) -> str:
    """Words for the load that spoiled the points; empty where none did."""
    most = max(elsewhere(point, report.environment.cpu.cores) for point in points)
    if most <= SPOILED:
        return ""
    return (
        f"other load on the machine had {percent(most)} of the cores while this was measured, and "
        f"over {percent(SPOILED)} spoils it: measure again on a quiet machine"
    )
