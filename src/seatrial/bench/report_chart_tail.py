"""The chart of a latency distribution whose logarithmic axis sets the slowest requests apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from seatrial.bench.measurement import Measurement
from seatrial.report import svg
from seatrial.report.numbers import milliseconds, percent

# Share of the requests that took at least so long -> its name.
LEVELS = {1.0: "all", 0.5: "p50", 0.1: "p90", 0.01: "p99", 0.001: "p99.9", 1e-4: "p99.99"}
MARKED = ("p50", "p90", "p99")
# Slower requests that a percentile needs: 662 x 1 % for p99, see `samples_needed`.
SLOWER_NEEDED = 6.6
# From this ratio of the slowest to the fastest on, latency is on a logarithmic axis too.
WIDE = 20.0


def tail(point: Measurement) -> Markup | None:
    """Share of the requests that took at least so long; failed ones took for ever.

    Latency from the due time, and of an open loop the time from the send as a second curve.
    """
    curve = point.cdf
    if curve is None or len(curve.latency_ms) < 2:
        return None
    both = (*curve.latency_ms, *curve.service_ms)
    low, high = max(min(both), 1e-3), max(both)
    wide = high / low > WIDE
    x_range = (low / 1.1, high * 1.1) if wide else (max(0.0, low - (high - low) * 0.04), high)
    if not wide:
        # A plateau of failed requests has to be long enough to be seen.
        x_range = x_range[0], high + (high - low) * (0.15 if curve.failed else 0.06) + 1e-6
    lowest = 10.0 ** -max(1, math.ceil(math.log10(curve.count)))
    frame = svg.Frame(x_range, 1.0, log_x=wide, y_min=lowest, log_y=True, left=52.0)
    parts = frame.rows((share, name) for share, name in LEVELS.items() if share >= lowest)
    places = svg.log_ticks(*x_range) if wide else svg.between(*x_range)
    parts += frame.columns((value, svg.plain(value)) for value in places)
    parts += frame.title("latency, ms")
    shares = [(curve.count - rank + 1) / curve.count for rank in curve.ranks]
    if curve.service_ms:
        sent = _places(frame, curve.service_ms, shares)
        parts.append(svg.polyline(sent, "series thin s1"))
    told = sum(share * curve.count >= SLOWER_NEEDED for share in shares)
    drawn = _places(frame, curve.latency_ms, shares)
    parts.append(svg.polyline(drawn[:told], "series s0"))
    parts.append(svg.polyline(drawn[max(0, told - 1) :], "series s0 faint"))
    if curve.failed:
        parts += _never(frame, drawn[-1], curve.failed / curve.count)
    return svg.drawing(
        frame.width,
        frame.height,
        "Latency distribution with its tail",
        parts + _marks(frame, point),
    )


def _places(
    frame: svg.Frame, values_ms: Sequence[float], shares: Sequence[float]
) -> list[tuple[float, float]]:
    low = frame.x_range[0]
    return [
        (frame.x(max(value, low)), frame.y(share))
        for value, share in zip(values_ms, shares, strict=True)
    ]


def _never(frame: svg.Frame, last: tuple[float, float], share: float) -> list[Markup]:
    """The plateau of requests that never got a good answer."""
    level, edge = frame.y(share), frame.width - frame.right
    words = f"{percent(share)} failed: without a good answer"
    # Below the line, where no curve is, unless that would be below the chart.
    shift = 16.0 if frame.floor - level > 20 else -6.0
    return [
        svg.polyline([last, (last[0], level), (edge, level)], "series lost"),
        svg.text(words, edge, level + shift, "lostlabel", "end"),
    ]


def _marks(frame: svg.Frame, point: Measurement) -> list[Markup]:
    parts = []
    for name in MARKED:
        found = point.latency.at(name)
        if found.value_ms is None:
            continue
        share = next(share for share, label in LEVELS.items() if label == name)
        x, y = frame.x(found.value_ms), frame.y(share)
        value = milliseconds(found.value_ms)
        bound = "" if found.upper_ms is None else f", at most {milliseconds(found.upper_ms)}"
        parts.append(svg.dot(x, y, "mark s0", f"{name}: {value}{bound}"))
        # A falling curve leaves room at its upper right, and at its lower left.
        near = x > frame.width - frame.right - 62
        x, y, anchor = (x - 7, y + 14, "end") if near else (x + 7, y - 4, "start")
        parts.append(svg.text(value, x, y, "value", anchor))
    return parts
