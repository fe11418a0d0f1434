"""Charts of an open loop over its offered rates: throughput and goodput, and latency."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from seatrial.bench.measurement import Measurement
from seatrial.load.rate_search import RateSearch
from seatrial.report import svg
from seatrial.report.numbers import milliseconds, per_second

DRAWN = ("p50", "p90", "p99")
# From this ratio on, the smaller percentiles would lie on the floor of a linear axis.
WIDE = 12.0


def by_rate(points: Sequence[Measurement]) -> list[tuple[float, Measurement]]:
    """Offered rate and measurement of every open loop, by rate."""
    rows = [(one.generator.offered_per_s, one) for one in points if one.generator is not None]
    return sorted(rows, key=lambda row: row[0])


def names(points: Sequence[Measurement]) -> dict[str, str]:
    """Percentiles that `latencies` draws, and the CSS variable of their colour."""
    return {
        name: f"s{n}"
        for n, name in enumerate(DRAWN)
        if any(one.latency.at(name).value_ms is not None for _, one in by_rate(points))
    }


def rates(
    points: Sequence[Measurement], knee: Measurement | None, band: RateSearch | None = None
) -> Markup | None:
    """Throughput and goodput over the offered rate, with the line on which nothing is lost.

    Void measurements are hollow and no line goes through them.
    """
    rows = by_rate(points)
    if len(rows) < 2:
        return None
    highest = max(max(rate, one.throughput_per_s, one.goodput_per_s) for rate, one in rows)
    frame = _frame(rows, svg.ceiling(highest * 1.05), band)
    parts = frame.axes(svg.ticks(frame.x_range[1], 6), "offered, requests per second")
    parts += _band(frame, band)
    end = min(frame.x_range[1], frame.y_max)
    ideal = [(frame.x(0.0), frame.y(0.0)), (frame.x(end), frame.y(end))]
    parts.append(svg.polyline(ideal, "ideal"))
    parts += knee_line(frame, knee)
    for name, colour in (("throughput", "s1"), ("goodput", "s0")):
        series = [(rate, getattr(one, f"{name}_per_s"), one) for rate, one in rows]
        parts += _series(frame, series, colour, name, per_second, joined=band is None)
    return svg.drawing(frame.width, frame.height, "Goodput over the offered rate", parts)


def latencies(
    points: Sequence[Measurement],
    knee: Measurement | None,
    band: RateSearch | None = None,
    limit_ms: float | None = None,
) -> Markup | None:
    """Percentiles that the samples carry over the offered rate, and the latency limit."""
    rows = by_rate(points)
    found = [
        [
            (rate, value, one)
            for rate, one in rows
            if (value := one.latency.at(name).value_ms) is not None
        ]
        for name in DRAWN
    ]
    values = [value for series in found for _, value, _ in series]
    if len(rows) < 2 or len(values) < 2:
        return None
    low, high = min(values), max(*values, limit_ms or 0.0)
    log = high / low > WIDE
    frame = _frame(rows, high * 1.3 if log else svg.ceiling(high * 1.08), band, low / 1.3, log=log)
    parts = frame.axes(svg.ticks(frame.x_range[1], 6), "offered, requests per second")
    parts += _band(frame, band)
    parts += knee_line(frame, knee)
    if limit_ms is not None:
        level = frame.y(limit_ms)
        parts.append(svg.line(frame.left, level, frame.width - frame.right, level, "limit"))
        words = f"limit {milliseconds(limit_ms)}"
        parts.append(svg.text(words, frame.left + 5, level - 5, "limitlabel"))
    for n, series in enumerate(found):
        parts += _series(frame, series, f"s{n}", DRAWN[n], milliseconds, joined=band is None)
    return svg.drawing(frame.width, frame.height, "Latency over the offered rate", parts)


def knee_line(frame: svg.Frame, knee: Measurement | None) -> list[Markup]:
    """The rate of the knee as a line; none without one."""
    if knee is None or knee.generator is None:
        return []
    x = frame.x(knee.generator.offered_per_s)
    near = x > frame.width - frame.right - 40
    place, anchor = (x - 5, "end") if near else (x + 5, "start")
    return [
        svg.line(x, frame.top, x, frame.floor, "knee"),
        svg.text("knee", place, frame.top + 10, "kneelabel", anchor),
    ]


def _frame(
    rows: Sequence[tuple[float, Measurement]],
    highest: float,
    band: RateSearch | None,
    lowest: float = 0.0,
    *,
    log: bool = False,
) -> svg.Frame:
    last = max(rows[-1][0], band.high_hz if band is not None else 0.0)
    return svg.Frame((0.0, last * 1.06), highest, y_min=lowest if log else 0.0, log_y=log)


def _band(frame: svg.Frame, band: RateSearch | None) -> list[Markup]:
    if band is None or band.ended == "void":
        return []
    left, right = frame.x(band.low_hz), frame.x(min(band.high_hz, frame.x_range[1]))
    tip = f"highest rate that holds: {per_second(band.low_hz)} to {per_second(band.high_hz)}"
    width = max(right - left, 1.5)
    return [svg.bar(left, frame.top, width, frame.floor - frame.top, "band", tip)]


def _series(
    frame: svg.Frame,
    series: Sequence[tuple[float, float, Measurement]],
    colour: str,
    name: str,
    form: Callable[[float], str],
    *,
    joined: bool,
) -> list[Markup]:
    whole = [(frame.x(rate), frame.y(value)) for rate, value, one in series if not one.void]
    parts = [svg.polyline(whole, f"series {colour}")] if joined and len(whole) > 1 else []
    for rate, value, one in series:
        x, y = frame.x(rate), frame.y(value)
        said = f"{name}, {per_second(rate)} offered: {form(value)}"
        if one.void:
            parts.append(svg.dot(x, y, f"mark hollow {colour}", f"void ({one.void[0]}): {said}"))
            if colour == "s0":
                parts.append(svg.text("void", x, y - 8, "voidlabel", "middle"))
        else:
            parts.append(svg.dot(x, y, f"mark {colour}", said))
    return parts
