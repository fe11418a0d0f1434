"""Sentences that quote a report: every number in them is looked up in it, by construction."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import msgspec

from seatrial.bench.analysis import Analysis, Cutoffs
from seatrial.bench.measurement import Measurement
from seatrial.bench.report_data import BenchReport, Evidence, Finding, Kind, Severity
from seatrial.report import numbers


class Scope:
    """A report, and short names for the measurements that its findings quote."""

    def __init__(self, report: BenchReport) -> None:
        self.report = report
        self.analysis: Analysis = report.analysis
        self.cutoffs: Cutoffs = report.analysis.thresholds
        self.cores = report.environment.cpu.cores

    @cached_property
    def pointers(self) -> dict[str, str]:
        """Name of a measurement -> its JSON pointer; a measurement that was not made is missing.

        ``alone``, ``again``: one request at a time; ``best``: highest goodput; ``last``: most
        sessions; ``emptiest``: fewest requests under way for its sessions; ``first``: the first of
        all; ``arrivals``: open loop with the most goodput; ``overwhelmed``, ``void``: the first
        open loop that was too much for the service, or for the client; ``following``, ``behind``:
        the highest offered rate whose goodput follows, and the next one; ``soak``: a long window;
        ``unsteady``: a closed loop whose latency changed.
        """
        runs, found = self.report.runs, self.analysis
        everywhere = {
            f"/runs/{n}/points/{m}": point.in_flight / point.sessions
            for n, run in enumerate(runs)
            for m, point in enumerate(run.points)
            if point.finished and point.sessions
        }
        names: dict[str, str | None] = {
            "alone": found.alone,
            "again": found.alone_again,
            "best": found.alone,
            "first": next(
                (f"/runs/{n}/points/0" for n, run in enumerate(runs) if run.points), None
            ),
            "arrivals": found.arrivals,
            "overwhelmed": found.overwhelmed,
            "void": found.void,
            "following": found.following,
            "behind": found.behind,
            "soak": found.soak,
            "unsteady": None if found.unsteady is None else found.unsteady.at,
            "emptiest": min(everywhere, key=lambda path: everywhere[path], default=None),
        }
        if found.scaling is not None:
            run = runs[int(found.scaling.rpartition("/")[2])]
            names["last"] = f"{found.scaling}/points/{len(run.points) - 1}"
            if found.knee is not None:
                names["best"] = f"{found.scaling}/points/{found.knee.best_index}"
        return {name: path for name, path in names.items() if path is not None}

    def point(self, name: str) -> Measurement | None:
        """The measurement of a name, see `pointers`; None where it was not made."""
        path = self.pointers.get(name)
        return None if path is None else self.report.point(path)

    def model_text(self, key: str) -> str:
        """A plain value of the service's answer about itself; empty where it gives none."""
        value = (self.report.model or {}).get(key)
        return str(value) if isinstance(value, str | int | float) else ""

    def quote(self, quote: Quote) -> Evidence:
        """Look a value up.

        Raises:
            LookupError: The report has no such attribute.
        """
        named = quote.keys[0] in self.pointers
        path = self.pointers.get(quote.keys[0], "")
        value: Any = self.point(quote.keys[0]) if named else self.report
        for key in quote.keys[named:]:
            path += "/" + key.replace("~", "~0").replace("/", "~1")
            try:
                value = inner(value, key)
            except (LookupError, ValueError, AttributeError) as error:
                raise LookupError(f"nothing lies at {path}") from error
        return Evidence(path=path, value=value, shown=quote.form(value))


def inner(value: Any, key: str) -> Any:
    """The value inside another one, by a part of a JSON pointer.

    Raises:
        LookupError, ValueError, AttributeError: Nothing does.
    """
    if isinstance(value, dict):
        return value[key]
    return value[int(key)] if isinstance(value, tuple) else getattr(value, key)


class Quote(msgspec.Struct, frozen=True):
    """A value to look up.

    Attributes:
        keys: Attributes, keys and indices from the report or from a named measurement inwards.
        form: Writes the value.
    """

    keys: tuple[str, ...]
    form: Callable[[Any], str] = str


class Rule(msgspec.Struct, frozen=True):
    """One line of the table of findings.

    Attributes:
        code: Identifier of the finding.
        when: Condition under which the finding is reported.
        text: Sentences with ``{attribute.path:form}``, where the form is a function of
            `report.numbers` or a format specification; or a function that gives pieces of them.
        group: Rows of one group exclude each other: the first whose condition holds is reported.
            Default: the code.
    """

    code: str
    severity: Severity
    when: Callable[[Scope], bool]
    text: str | Callable[[Scope], Sequence[str | Quote]]
    group: str = ""

    def finding(self, kind: Kind, scope: Scope) -> Finding:
        """The finding, with all that its text quotes as evidence."""
        pieces = [self.text] if isinstance(self.text, str) else self.text(scope)
        words, evidence = "", []
        for part in (part for piece in pieces for part in parse(piece)):
            if isinstance(part, Quote):
                evidence.append(scope.quote(part))
                words += evidence[-1].shown
            else:
                words += part
        return Finding(self.code, kind, self.severity, words, tuple(evidence))


def parse(piece: str | Quote) -> list[str | Quote]:
    """Split a text into words and quotes."""
    if isinstance(piece, Quote):
        return [piece]
    parts: list[str | Quote] = []
    for words, path, form, _ in string.Formatter().parse(piece):
        parts.append(words)
        if path is not None:
            parts.append(Quote(tuple(path.split(".")), _form(form or "")))
    return parts


def _form(name: str) -> Callable[[Any], str]:
    written: Callable[[Any], str] | None = getattr(numbers, name, None) if name else str
    return written if written is not None else lambda value: format(value, name)
