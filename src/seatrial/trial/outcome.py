"""The verdict of a trial, the nearest miss, and what would have to give."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from seatrial.contract import Contract, ServerClause
from seatrial.gate import Clause, Interval, Row, Verdict, judge, rule
from seatrial.load.statistics import RATE_LEVEL
from seatrial.trial.preparation import Prepared
from seatrial.trial.race import Capacity
from seatrial.trial.trial_report import Miss, TrialRow

WORDS = {"holds": "PASS", "fails": "FAIL", "undecided": "UNDECIDED"}


def capacity_row(clause: ServerClause, capacity: Capacity | None) -> Row:
    """Rule on the wanted rate by the capacity that was measured, without a window at that rate.

    It may fail by that, and never holds: of several candidates one has a high capacity by luck.
    """
    limit = Clause(
        "server.rate_per_s", clause.rate_per_s, "at_least",
        label=f"rate with {clause.percentile} latency at most {clause.at_most_ms:g} ms", unit="/s",
    )  # fmt: skip
    if capacity is None:
        return rule(limit, None, text="no candidate was served")
    ends = Interval(capacity.low_hz, capacity.high_hz, RATE_LEVEL)
    text = (
        f"{capacity.rate_hz:.4g}/s ({RATE_LEVEL:.0%} interval {capacity.low_hz:.4g} to "
        f"{capacity.high_hz:.4g})"
    )
    row = rule(limit, capacity.rate_hz, ends, text=text)
    return doubt(row, "the wanted rate itself was not measured") if row.outcome == "holds" else row


def doubt(row: Row, reason: str) -> Row:
    """The same row, undecided."""
    return msgspec.structs.replace(row, outcome="undecided", reason=reason)


def together(contract: Contract, *parts: Sequence[Row]) -> Verdict:
    """One verdict on the rows of accuracy, of the server and of the rest."""
    return judge((row for part in parts for row in part), name=contract.name)


def nearest_miss(
    contract: Contract,
    verdict: Verdict,
    name: str,
    some: Sequence[tuple[Prepared, Capacity | None]],
    cores: int,
) -> Miss | None:
    """Why a contract is not held, and what would have to give; None where it is.

    Args:
        contract: The contract.
        verdict: Verdict on the candidate that came nearest.
        name: That candidate, in words.
        some: Candidates that were timed, with their capacity where they were served.
        cores: Number of usable cores.
    """
    if verdict.outcome == "holds":
        return None
    binding = next((row for row in verdict.rows if row.outcome == verdict.outcome), None)
    if binding is None:
        return None
    server = contract.server
    assert server is not None  # noqa: S101 - the plan has checked
    give = []
    accurate = [one for one in some if one[0].outcome != "fails"]
    best = max((c for _, c in accurate if c is not None), key=_rate, default=None)
    if not accurate:
        give += _accuracy(contract, some)
    elif best is not None and best.rate_hz < server.rate_per_s:
        give.append(f"rate: about {best.rate_hz:.3g}/s instead of {server.rate_per_s:g}/s")
        if best.rate_hz > 0:
            needed = math.ceil(cores * server.rate_per_s / best.rate_hz)
            give.append(f"cores: about {needed} instead of {cores}, if capacity grows with them")
        faster = [
            (one, c)
            for one, c in some
            if one.outcome == "fails" and c and c.low_hz >= server.rate_per_s
        ]
        give += [
            f"accuracy: {_ap(one)} of {one.one.words} at {c.rate_hz:.3g}/s" for one, c in faster[:1]
        ]
    elif best is None:
        fastest = max(accurate, key=lambda one: one[0].raw.rate_hz if one[0].raw else 0.0)[0]
        if fastest.raw is not None and fastest.raw.rate_hz < server.rate_per_s:
            rate_hz = fastest.raw.rate_hz
            needed = math.ceil(cores * server.rate_per_s / rate_hz)
            give.append(
                f"rate: below {rate_hz:.3g}/s, which the fastest engine does without a service"
            )
            give.append(f"cores: more than {needed} instead of {cores}")
        elif fastest.raw is not None and fastest.raw.lone_ms > server.at_most_ms:
            give.append(
                f"latency: more than {fastest.raw.lone_ms:.3g} ms, which one image alone takes the "
                f"engine, instead of {server.at_most_ms:g} ms"
            )
    if not give:
        give.append(_by_row(binding))
    return Miss(name, binding.clause.metric, tuple(give))


def pareto_front(rows: Sequence[TrialRow]) -> frozenset[str]:
    """Keys of the rows that no other row dominates.

    A row dominates another where it is at least as good in accuracy, capacity, latency and memory
    and better in one; a figure that either of the two lacks is left out.
    """
    served = [row for row in rows if row.capacity is not None]
    return frozenset(
        row.key for row in served if not any(_dominates(other, row) for other in served)
    )


def _dominates(one: TrialRow, other: TrialRow) -> bool:
    """Whether a row is as good as another one in all figures and better in one."""
    pairs = [
        (a, b)
        for a, b in zip(_goodness(one), _goodness(other), strict=True)
        if a is not None and b is not None
    ]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def _goodness(row: TrialRow) -> tuple[float | None, ...]:
    """Figures of a row of which more is better."""
    return (
        row.ap,
        None if row.capacity is None else row.capacity.rate_hz,
        None if row.latency_ms is None else -row.latency_ms,
        -float(row.memory_bytes) if row.memory_bytes else None,
    )


def _accuracy(contract: Contract, some: Sequence[tuple[Prepared, Capacity | None]]) -> list[str]:
    """How far each clause on accuracy is from the best of all candidates."""
    clause = contract.accuracy
    judged = [one for one, _ in some if one.verdict is not None]
    give = []
    for name, label in (("ap", "AP"), ("ap50", "AP50"), ("ar100", "AR100")):
        least: float | None = getattr(clause, name, None)
        found = [
            value
            for one in judged
            if one.score is not None and (value := one.score.figures.get(name)) is not None
        ]
        if least is not None and found and max(found) < least:
            give.append(
                f"accuracy: {label} {max(found):.4f} instead of {least:g}: "
                f"{least - max(found):.4f} less"
            )
    return give or [_by_row(row) for one in judged[:1] if one.verdict for row in one.verdict.rows
                    if row.outcome == "fails"]  # fmt: skip


def _by_row(row: Row) -> str:
    return f"{row.clause.label or row.clause.metric}: {row.text}, and {row.clause.wanted} is wanted"


def _ap(one: Prepared) -> str:
    found = None if one.score is None else one.score.figures.get("ap")
    return "unknown AP" if found is None else f"AP {found:.4f}"


def _rate(capacity: Capacity) -> float:
    return capacity.rate_hz


def caveats(
    clause: ServerClause,
    capacity: Capacity | None,
    *,
    passes: bool,
    seen_by_int8: bool,
    best_of: int = 0,
) -> tuple[str, ...]:
    """Sentences to read before the figures are used, without their full stops.

    Args:
        clause: The wanted rate.
        capacity: Capacity of the choice.
        passes: Whether the contract holds.
        seen_by_int8: Whether INT8 graphs were judged on the images that their ranges are from.
        best_of: Number of candidates that the capacity is the best of; 0 where it was measured
            anew after the choice.
    """
    found = []
    if capacity is not None and best_of > 1:
        found.append(
            f"The capacity is the best of the {best_of} that raced: such a figure is too high by "
            "chance, and its interval holds for less than 95 %. There was no time to measure it "
            "anew after the choice (--budget)"
        )
    if passes and capacity is not None and capacity.low_hz < clause.rate_per_s:
        found.append(
            f"The interval of the capacity begins at {capacity.low_hz:.3g}/s, below the wanted "
            "rate: the headroom is an estimate. That the wanted rate holds was measured by itself. "
            "More time narrows the interval (--budget)"
        )
    if seen_by_int8:
        found.append(
            "INT8 takes its ranges from the labelled images: its accuracy is measured on images "
            "that it has seen. Give others (--calibration)"
        )
    return tuple(found)
