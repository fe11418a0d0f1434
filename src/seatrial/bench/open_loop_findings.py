"""Explanations of open loops: rates that are followed, and what grows over a soak."""

from __future__ import annotations

from typing import Literal

from seatrial.bench.conditions import Change, change
from seatrial.bench.quotes import Rule
from seatrial.bench.report_data import Severity

LATENCY = (
    "The median latency of a slice changed by {soak.trend.latency_ms.per_hour:milliseconds} an "
    "hour (interval {soak.trend.latency_ms.low_per_hour:milliseconds} to "
    "{soak.trend.latency_ms.high_per_hour:milliseconds}, median "
    "{soak.trend.latency_ms.median:milliseconds}, {soak.trend.latency_ms.slices} slices)."
)
MEMORY = (
    "The service's resident memory changed by {soak.trend.memory_bytes.per_hour:mebibytes} an hour "
    "(interval {soak.trend.memory_bytes.low_per_hour:mebibytes} to "
    "{soak.trend.memory_bytes.high_per_hour:mebibytes}, median "
    "{soak.trend.memory_bytes.median:mebibytes})."
)
LITTLE = "{} grows by less than {{analysis.thresholds.{}:percent}} of its median over the soak"
LONGER = " A longer soak would tell."

RATES = (
    Rule(
        "rate-knee", "info",
        lambda s: None not in (s.analysis.following, s.analysis.behind),
        "Goodput follows the offered rate up to {following.generator.offered_per_s:per_second}, "
        "where it is {following.goodput_per_s:per_second}. With "
        "{behind.generator.offered_per_s:per_second} offered it falls behind: "
        "{behind.throughput_per_s:per_second} were answered within the window, and "
        "{behind.goodput_per_s:per_second} of what was due in it were good answers.",
    ),
    Rule(
        "rate-knee-above", "info",
        lambda s: s.analysis.following is not None,
        "Goodput follows the offered rate up to the highest one that was measured, "
        "{following.generator.offered_per_s:per_second}: the knee lies above it.",
        group="rate-knee",
    ),
    Rule(
        "rate-knee-below", "warn",
        lambda s: s.analysis.behind is not None,
        "Goodput does not follow the lowest offered rate, "
        "{behind.generator.offered_per_s:per_second}: {behind.throughput_per_s:per_second} were "
        "answered within the window, and {behind.goodput_per_s:per_second} of what was due in it "
        "were good answers. The knee lies below it.",
        group="rate-knee",
    ),
)  # fmt: skip


def _told(
    what: Literal["latency", "memory"],
    found: Change,
    severity: Severity,
    begin: str,
    text: str,
    end: str = "",
) -> Rule:
    value: Literal["latency_ms", "memory_bytes"] = (
        "latency_ms" if what == "latency" else "memory_bytes"
    )
    return Rule(
        f"soak-{what}-{found}", severity, lambda s: change(s, value) == found,
        f"{begin}: {text[0].lower()}{text[1:]}{end}", group=f"soak-{what}",
    )  # fmt: skip


TRENDS = (
    _told("latency", "grows", "warn", "Latency grows over the soak", LATENCY),
    _told("latency", "level", "good", LITTLE.format("Latency", "grows"), LATENCY),
    _told("latency", "unclear", "info", "Whether latency grows cannot be told", LATENCY, LONGER),
    _told("memory", "grows", "warn", "Memory grows over the soak", MEMORY),
    _told("memory", "level", "good", LITTLE.format("Memory", "leaks"), MEMORY),
    _told("memory", "unclear", "info", "Whether memory grows cannot be told", MEMORY, LONGER),
)
OPEN_LOOP = RATES + TRENDS
