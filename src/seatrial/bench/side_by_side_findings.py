"""Sentences about a deployment on several runtimes; every number in them is looked up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from seatrial.bench.quotes import inner
from seatrial.bench.report_data import Evidence, Finding, Kind, Severity
from seatrial.bench.side_by_side import LoadRow, SideBySide, leaders
from seatrial.report.numbers import milliseconds, per_second, sessions

SEVERITIES: tuple[Severity, ...] = ("good", "info", "warn", "bad")


def interpret(report: SideBySide) -> tuple[Finding, ...]:
    """The findings of a report: summary, caveats, what the rounds do not tell apart."""
    return (_headline(report), *_caveats(report), *_overlaps(report))


def quote(report: SideBySide, path: str, form: Callable[[Any], str] = str) -> Evidence:
    """The value at a JSON pointer of the report, as it is written.

    Raises:
        LookupError, ValueError, AttributeError: Nothing lies there.
    """
    value: Any = report
    for key in path.split("/")[1:]:
        value = inner(value, key)
    return Evidence(path, value, form(value))


def _finding(code: str, kind: Kind, severity: Severity, *parts: str | Evidence) -> Finding:
    text = "".join(part if isinstance(part, str) else part.shown for part in parts)
    return Finding(
        code, kind, severity, text, tuple(part for part in parts if isinstance(part, Evidence))
    )


def _setup(report: SideBySide, number: int) -> tuple[str | Evidence, ...]:
    """``triton by grpc``, of a row."""
    at = f"/rows/{number}"
    return quote(report, f"{at}/runtime"), " by ", quote(report, f"{at}/protocol")


def _headline(report: SideBySide) -> Finding:
    """The setup with most good answers under the largest load, and the fastest lone request."""
    if not any(row.good for row in report.rows):
        return _finding("headline", "headline", "bad", "No setup gave a good answer.")
    severity: Severity = "warn" if any(row.failed for row in report.rows) else "good"
    loads = list(report.loads())
    *_, (_, _, largest) = sorted(loads, key=lambda load: load[1])
    best, *near = leaders([row for _, row in largest])
    at = f"/rows/{largest[best][0]}"
    parts: list[str | Evidence] = [
        "Most good answers with ", quote(report, f"{at}/sessions", sessions), ": ",
        quote(report, f"{at}/goodput_per_s/median", per_second), ", ",
        *_setup(report, largest[best][0]), _overlapping(report, bool(near)),
    ]  # fmt: skip
    lone = next((rows for _, count, rows in loads if count == 1), [])
    return _finding("headline", "headline", severity, *parts, *_fastest(report, lone), ".")


def _fastest(report: SideBySide, rows: Sequence[tuple[int, LoadRow]]) -> Iterator[str | Evidence]:
    """The fastest lone request: by the median of all, or by the mean where one has no median."""
    halves = [row.percentiles["p50"] for _, row in rows]
    which, path = ("p50", "percentiles/p50") if all(halves) else ("mean", "mean_ms")
    found = halves if all(halves) else [row.mean_ms for _, row in rows]
    timed = [(spread, number) for spread, (number, _) in zip(found, rows, strict=True) if spread]
    if not timed:
        return
    first, fastest = min(timed, key=lambda one: one[0].median)
    near = any(number != fastest and spread.low <= first.high for spread, number in timed)
    yield "; fastest lone request: "
    yield quote(report, f"/rows/{fastest}/{path}/median", milliseconds)
    yield f" ({which}), "
    yield from _setup(report, fastest)
    yield _overlapping(report, near)


def _overlapping(report: SideBySide, near: bool) -> str:
    return ", whose rounds overlap with those of others" if near and report.rounds > 1 else ""


def _caveats(report: SideBySide) -> Iterator[Finding]:
    told: dict[tuple[object, ...], list[int]] = {}
    for number, setup in enumerate(report.setups):
        if setup.missing:  # one cause for all protocols is one finding
            cause = (setup.runtime, bool(setup.reports), setup.missing, setup.hint)
            told.setdefault(cause, []).append(number)
    for numbers in told.values():
        at, setup = f"/setups/{numbers[0]}", report.setups[numbers[0]]
        words = " was not measured in all rounds: " if setup.reports else " was not measured: "
        protocols: list[str | Evidence] = []
        for index, number in enumerate(numbers):
            last = index == len(numbers) - 1
            joint = "" if index == 0 else " and " if last else ", "
            protocols += [joint, quote(report, f"/setups/{number}/protocol")]
        hint: list[str | Evidence] = (
            ["; to do: ", quote(report, f"{at}/hint")] if setup.hint else []
        )
        yield _finding(
            "not-measured", "caveat", "warn",
            quote(report, f"{at}/runtime"), " by ", *protocols, words,
            quote(report, f"{at}/missing"), *hint, ".",
        )  # fmt: skip
    rounds = quote(report, "/rounds")
    if report.rounds == 1:
        yield _finding(
            "one-round", "caveat", "warn",
            "Each figure is of ", rounds, " round: nothing shows by how much it would differ in "
            "another one. Measure several (--rounds).",
        )  # fmt: skip
    else:
        yield _finding(
            "rounds", "caveat", "info",
            "Each figure is the median of ", rounds, " rounds, with the lowest and the highest of "
            "them beside it. One service is up at a time, and is started anew for each round.",
        )  # fmt: skip
    yield from _inherited(report)


def _inherited(report: SideBySide) -> Iterator[Finding]:
    """The caveats of the single measurements: each once, from where it weighs most."""
    measurements = sum(len(setup.reports) for setup in report.setups)
    found: dict[str, list[tuple[str, str, Finding]]] = defaultdict(list)
    for number, setup in enumerate(report.setups):
        for turn, one in enumerate(setup.reports):
            root = f"/setups/{number}/reports/{turn}"
            for caveat in one.of_kind("caveat"):
                found[caveat.id].append((f"{setup.runtime} by {setup.protocol}", root, caveat))
    for same in found.values():
        name, root, worst = max(same, key=lambda item: _weight(item[2]))
        evidence = tuple(
            msgspec.structs.replace(proof, path=root + proof.path) for proof in worst.evidence
        )
        everywhere = [caveat.text for _, _, caveat in same] == [worst.text] * measurements
        text = worst.text if everywhere else f"{name}: {worst.text}"
        yield msgspec.structs.replace(worst, text=text, evidence=evidence)


def _weight(finding: Finding) -> tuple[int, list[float]]:
    values = [proof.value for proof in finding.evidence]
    return (
        SEVERITIES.index(finding.severity),
        [float(value) for value in values if isinstance(value, int | float)],
    )


def _overlaps(report: SideBySide) -> Iterator[Finding]:
    """For each load, the setups whose rounds overlap with those of the best one."""
    if report.rounds == 1:
        return
    for _, _, rows in report.loads():
        best, *near = [rows[index][0] for index in leaders([row for _, row in rows])]
        if not near:
            continue
        load = f"/rows/{best}"
        parts: list[str | Evidence] = [
            quote(report, f"{load}/scenario"), ", ", quote(report, f"{load}/sessions", sessions),
            ": the rounds do not show whether ", *_setup(report, best),
            " gives more good answers than ",
        ]  # fmt: skip
        for turn, number in enumerate(near):
            parts += [", " if turn else "", *_setup(report, number)]
        yield _finding("overlap", "explanation", "info", *parts, ": their ranges overlap.")
