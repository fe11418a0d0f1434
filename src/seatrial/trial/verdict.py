"""From measurements to a verdict: each clause of a contract holds, fails, or cannot be decided."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from seatrial.accuracy.evaluate import Figures
from seatrial.bench.report_data import BenchReport
from seatrial.contract import AccuracyClause, Contract, LatencyClause, LoadClause

Outcome = Literal["holds", "fails", "undecided"]
MIB = 2**20


class Ruling(msgspec.Struct, frozen=True):
    """One clause and what was found.

    Attributes:
        clause: Its key in the contract.
        wanted: In words, with unit.
        found: The same.
        outcome: ``undecided`` where the sample is too small to tell.
    """

    clause: str
    wanted: str
    found: str
    outcome: Outcome


class Verdict(msgspec.Struct, frozen=True):
    """All rulings of one measurement.

    Attributes:
        contract: Its name.
        outcome: ``fails`` if any clause does; else ``undecided`` if any is.
    """

    contract: str
    outcome: Outcome
    rulings: tuple[Ruling, ...]


def judge_accuracy(contract: Contract, figures: Figures) -> Verdict:
    """Hold measured accuracy against the contract's accuracy clauses."""
    return _verdict(contract, _accuracy(contract.accuracy or AccuracyClause(), figures))


def judge_service(contract: Contract, report: BenchReport) -> Verdict:
    """Hold a benchmark against the contract's latency and load clauses."""
    rulings: list[Ruling] = []
    if contract.latency is not None:
        rulings.append(_latency(contract.latency, report))
    if contract.load is not None:
        rulings += _load(contract.load, report)
    return _verdict(contract, rulings)


def _verdict(contract: Contract, rulings: Iterable[Ruling]) -> Verdict:
    rulings = tuple(rulings)
    outcomes = {ruling.outcome for ruling in rulings}
    order: Sequence[Outcome] = ("fails", "undecided", "holds")
    worst: Outcome = next((outcome for outcome in order if outcome in outcomes), "holds")
    return Verdict(contract.name, worst, rulings)


def _accuracy(clause: AccuracyClause, figures: Figures) -> Iterable[Ruling]:
    for name, least in msgspec.structs.asdict(clause).items():
        if least is None:
            continue
        found: float | None = getattr(figures, name)
        outcome: Outcome = "undecided"
        if found is not None:
            outcome = "holds" if found >= least else "fails"
        shown = "no objects to measure on" if found is None else f"{found:.4f}"
        yield Ruling(f"accuracy.{name}", f"at least {least:g}", shown, outcome)


def _latency(clause: LatencyClause, report: BenchReport) -> Ruling:
    name, wanted = "latency.at_most_ms", f"{clause.percentile} at most {clause.at_most_ms:g} ms"
    point = next((r.points[0] for r in report.runs if r.scenario == "single-stream"), None)
    if point is None:
        return Ruling(name, wanted, "single-stream was not measured", "undecided")
    found = point.latency.percentiles[clause.percentile]
    if found.value_ms is None:
        # Failed requests rank above all latencies: enough of them decide the percentile.
        failed = point.failed and point.latency.count + point.failed >= found.needed
        return Ruling(name, wanted, found.reason, "fails" if failed else "undecided")
    if found.value_ms > clause.at_most_ms:
        outcome: Outcome = "fails"
    elif found.upper_ms is None or found.upper_ms > clause.at_most_ms:
        outcome = "undecided"
    else:
        outcome = "holds"
    bound = "no bound" if found.upper_ms is None else f"at most {found.upper_ms:.1f} ms"
    return Ruling(name, wanted, f"{found.value_ms:.1f} ms, {bound} at 99 % confidence", outcome)


def _load(clause: LoadClause, report: BenchReport) -> Iterable[Ruling]:
    points = [point for run in report.runs for point in run.points]
    if clause.goodput_per_s is not None:
        best = max(point.goodput_per_s for point in points)
        yield _limit("goodput_per_s", best, clause.goodput_per_s, "/s", least=True)
    rate = max(point.failed / max(1, point.good + point.failed) for point in points)
    yield _limit("error_rate", rate, clause.error_rate, "")
    if clause.memory_mib is not None:
        seen = [p.usage.server.rss_peak_bytes for p in points if p.usage.server is not None]
        if seen:
            yield _limit("memory_mib", max(seen) / MIB, clause.memory_mib, " MiB")
        else:
            wanted = f"at most {clause.memory_mib:g} MiB"
            yield Ruling(
                "load.memory_mib", wanted, "the service's processes are not seen", "undecided"
            )


def _limit(key: str, found: float, wanted: float, unit: str, *, least: bool = False) -> Ruling:
    holds = found >= wanted if least else found <= wanted
    text = f"at {'least' if least else 'most'} {wanted:g}{unit}"
    return Ruling(f"load.{key}", text, f"{found:.4g}{unit}", "holds" if holds else "fails")
