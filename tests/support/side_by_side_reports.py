"""Side-by-side reports made by hand, from points whose figures are known."""

from __future__ import annotations

from typing import Any

import msgspec

from bench_reports import build_point, build_report
from seatrial.bench.options import BenchOptions
from seatrial.bench.side_by_side import SCHEMA, Setup, SideBySide, rows_of
from seatrial.bench.side_by_side_findings import interpret
from seatrial.load.images import ImagesSummary


def build_setup(
    images: ImagesSummary, runtime: str, protocol: Any, *rounds_ms: float, **point: Any
) -> Setup:
    """A setup with a round for each latency: lone requests, and four sessions on one lane."""
    reports = tuple(
        build_report(
            images,
            single=[build_point(1, ms, **point)],
            scaling=[build_point(4, 4 * ms, **point)],
        )
        for ms in rounds_ms
    )
    return Setup(runtime, protocol, reports)


def build_side_by_side(images: ImagesSummary, *setups: Setup, rounds: int = 3) -> SideBySide:
    """A report of these setups, with all that is derived from them."""
    first = next(report for setup in setups for report in setup.reports)
    draft = SideBySide(
        schema=SCHEMA,
        created_at="2026-11-30T10:00:00+00:00",
        command="seatrial bench --on uvicorn triton",
        elapsed_s=100.0,
        deployment={"model": "tiny", "server": {"port": 3000, "token_file": None}},
        options=BenchOptions(images="photos"),
        rounds=rounds,
        images=images,
        environment=first.environment,
        setups=setups,
        rows=rows_of(setups),
        findings=(),
    )
    return msgspec.structs.replace(draft, findings=interpret(draft))
