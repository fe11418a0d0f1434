"""Reads LoadGen's log of a run: ``mlperf_log_detail.txt``, a JSON object a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from seatrial.config import UNDECODABLE
from seatrial.errors import ServiceFailed

SUMMARY, DETAIL = "mlperf_log_summary.txt", "mlperf_log_detail.txt"
FILES = (SUMMARY, DETAIL, "mlperf_log_accuracy.json", "mlperf_log_trace.json")
MARK = ":::MLLOG "
# A query of several images has two kinds of percentiles; that of whole queries is judged.
PERCENTILE = re.compile(r"result_(\d+)\.(\d+)_percentile(_per_query)?_latency_ns")
# The rate of each scenario; multi-stream has none.
RATES = (
    "result_samples_per_second",
    "result_completed_samples_per_sec",
    "result_qps_with_loadgen_overhead",
)
CHECKS = {
    "result_perf_constraints_met": "the percentile is over the latency that it has to keep",
    "result_min_duration_met": "the run was shorter than its shortest duration",
    "result_min_queries_met": "the run had fewer queries than its fewest",
    "early_stopping_met": "early stopping: too few queries to be sure of the percentile",
}

Validity = Literal["VALID", "INVALID"]


class _Metadata(msgspec.Struct):
    is_error: bool = False
    is_warning: bool = False


class _Line(msgspec.Struct):
    key: str
    value: Any = None
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


class LoadgenFigures(msgspec.Struct, frozen=True, kw_only=True):
    """LoadGen's own account of a run.

    Attributes:
        version: LoadGen's version, as it says it.
        validity: Its word on the run.
        reasons: Its reasons for `INVALID`: conditions that do not hold, errors, advice; without
            their full stops.
        queries: Number of queries.
        rate_per_s: Rate as LoadGen counts it: images/s, of single-stream queries/s; None in
            multi-stream.
        mean_ms: Mean latency of a query, milliseconds; in offline from the one query's issue.
        percentiles_ms: Latencies of queries, ``{"p50": 12.3}``, milliseconds.
        early_stopping: Its words on early stopping.
        warnings: Its warnings.
        settings: Settings that took effect, by LoadGen's names.
    """

    version: str
    validity: Validity
    reasons: tuple[str, ...]
    queries: int
    rate_per_s: float | None
    mean_ms: float | None
    percentiles_ms: dict[str, float]
    early_stopping: str
    warnings: tuple[str, ...]
    settings: dict[str, Any]


def read_log(folder: Path) -> LoadgenFigures:
    """Read what LoadGen wrote about a run that has ended.

    Raises:
        ServiceFailed: There is no such log, or no result in it.
    """
    file = folder / DETAIL
    try:
        lines = list(_lines(file.read_text("utf-8", "replace")))
    except OSError as error:
        raise ServiceFailed(
            f"LoadGen left no log: {file}: {error.strerror}", hint="its errors are printed above"
        ) from error
    values = {line.key: line.value for line in lines}
    if values.get("result_validity") not in ("VALID", "INVALID"):
        raise ServiceFailed(
            f"LoadGen did not finish the run: {file} has no result",
            hint="its errors are in that file, and printed above",
        )
    errors = tuple(_text(one.value).rstrip(".") for one in lines if one.metadata.is_error)
    failed = tuple(words for key, words in CHECKS.items() if values.get(key) is False)
    advice = _text(values.get("result_invalid_reason", "")).rstrip(".")
    invalid = values["result_validity"] == "INVALID"
    mean_ns = values.get("result_mean_query_latency_ns", values.get("result_mean_latency_ns"))
    return LoadgenFigures(
        version=_text(values.get("loadgen_version", "")),
        validity=values["result_validity"],
        reasons=(*failed, *errors, *([advice] if advice else [])) if invalid else (),
        queries=int(values.get("result_query_count", 0)),
        rate_per_s=next((float(values[key]) for key in RATES if key in values), None),
        mean_ms=None if mean_ns is None else mean_ns / 1e6,
        percentiles_ms=_percentiles_ms(values),
        early_stopping=_text(values.get("early_stopping_result", "")),
        warnings=tuple(_text(one.value) for one in lines if one.metadata.is_warning),
        settings={
            key.removeprefix("effective_"): value
            for key, value in values.items()
            if key.startswith("effective_")
        },
    )


def _lines(text: str) -> Iterator[_Line]:
    for line in text.splitlines():
        if line.startswith(MARK):
            try:
                yield msgspec.json.decode(line.removeprefix(MARK), type=_Line)
            except UNDECODABLE:  # LoadGen quotes what it is given; none of it is a figure
                continue


def _percentiles_ms(values: dict[str, Any]) -> dict[str, float]:
    """Percentiles of queries where there are some, otherwise of images."""
    found: dict[bool, dict[str, float]] = {True: {}, False: {}}
    for key, value in values.items():
        if match := PERCENTILE.fullmatch(key):
            whole, part, per_query = match.groups()
            name = f"p{whole}" if int(part) == 0 else f"p{whole}.{part.rstrip('0')}"
            found[bool(per_query)][name] = value / 1e6
    return found[True] or found[False]


def _text(value: object) -> str:
    return " ".join(str(value).split())
