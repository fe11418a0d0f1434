"""Sentences about a deployment on several runtimes; every number in them is looked up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
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
    failed = any(row.failed for row in report.rows)
    if not any(row.good for row in report.rows):
        return _finding("headline", "headline", "bad", "No setup gave a good answer.")
    parts: list[str | Evidence] = []
    *_, (_, _, largest) = sorted(report.loads(), key=lambda load: load[1])
    best, _ = max(largest, key=lambda numbered: numbered[1].goodput_per_s.median)
    at = f"/rows/{best}"
    parts += ["Most good answers with ", quote(report, f"{at}/sessions", sessions), ": "]
    parts += [quote(report, f"{at}/goodput_per_s/median", per_second), ", "]
    parts += [*_setup(report, best)]
    lone = [numbered for _, count, rows in report.loads() if count == 1 for numbered in rows]
    timed = [(number, path) for number, row in lone if (path := _lone_path(row))]
    if timed:
        fastest, path = min(
            timed, key=lambda found: quote(report, f"/rows/{found[0]}{found[1]}").value
        )
        parts += ["; fastest lone request: ", quote(report, f"/rows/{fastest}{path}", milliseconds)]
        parts += [" (p50), " if "p50" in path else " (mean), ", *_setup(report, fastest)]
    return _finding("headline", "headline", "warn" if failed else "good", *parts, ".")


def _lone_path(row: LoadRow) -> str:
    """Where the latency of a lone request stands in a row; empty where it is not known."""
    if row.percentiles.get("p50") is not None:
        return "/percentiles/p50/median"
    return "" if row.mean_ms is None else "/mean_ms/median"


def _caveats(report: SideBySide) -> Iterator[Finding]:
    for number, setup in enumerate(report.setups):
        if not setup.missing:
            continue
        at = f"/setups/{number}"
        words = " was not measured in all rounds: " if setup.reports else " was not measured: "
        hint: list[str | Evidence] = (
            ["; to do: ", quote(report, f"{at}/hint")] if setup.hint else []
        )
        yield _finding(
            "not-measured", "caveat", "warn",
            quote(report, f"{at}/runtime"), " by ", quote(report, f"{at}/protocol"), words,
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
