"""Sentences whose every number is quoted from the report, by construction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from seatrial.bench.measurement import Measurement
from seatrial.bench.report_data import BenchReport, Evidence, Finding


def resolve(document: Any, pointer: str) -> Any:
    """The value at a JSON pointer (RFC 6901).

    Raises:
        LookupError: Nothing lies there.
    """
    value = document
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (ValueError, TypeError) as error:
            raise LookupError(pointer) from error
    return value


class Facts:
    """A report to quote from. Templates hold words alone; numbers come in as quotes."""

    def __init__(self, report: BenchReport) -> None:
        self.report = report
        self._document = msgspec.json.decode(msgspec.json.encode(report))

    def quote(self, path: str, form: Callable[[Any], str] = str) -> Evidence:
        """A value of the report and how it is written."""
        value = resolve(self._document, path)
        return Evidence(path=path, value=value, shown=form(value))

    def say(
        self,
        name: str,
        kind: Literal["headline", "caveat", "explanation", "advice"],
        severity: Literal["good", "info", "warn", "bad"],
        template: str,
        /,
        **quotes: Evidence,
    ) -> Finding:
        """Fill a template; every quote becomes evidence of the finding."""
        text = template.format(**{key: quote.shown for key, quote in quotes.items()})
        return Finding(name, kind, severity, text, tuple(quotes.values()))

    def point(self, path: str) -> Measurement:
        """The point at a pointer such as ``/runs/1/points/0``."""
        _, _, run, _, index = path.split("/")
        return self.report.runs[int(run)].points[int(index)]

    @property
    def best_path(self) -> str | None:
        """Pointer of the point that the limits are read from: best goodput, else alone."""
        analysis = self.report.analysis
        if analysis.knee and analysis.scaling:
            return f"{analysis.scaling}/points/{analysis.knee.best_index}"
        return analysis.alone

    @property
    def knee_path(self) -> str | None:
        """Pointer of the point at the knee."""
        analysis = self.report.analysis
        if analysis.knee is None or analysis.scaling is None:
            return None
        return f"{analysis.scaling}/points/{analysis.knee.index}"

    @property
    def last_path(self) -> str | None:
        """Pointer of the scaling point with the most sessions."""
        analysis = self.report.analysis
        if analysis.scaling is None:
            return None
        run = self.report.runs[int(analysis.scaling.rpartition("/")[2])]
        return f"{analysis.scaling}/points/{len(run.points) - 1}"

    @property
    def lone_threads(self) -> int:
        """Threads that the service says it gives to a lone request; 0 where it does not say."""
        layout = (self.report.model or {}).get("layout")
        threads = layout.get("wide_threads") if isinstance(layout, dict) else None
        return threads if isinstance(threads, int) else 0

    def model_text(self, key: str) -> str:
        """A plain value of the service's answer about itself; empty where it gives none."""
        value = (self.report.model or {}).get(key)
        return str(value) if isinstance(value, str | int | float) else ""
