"""The charts of a report: functions from measurements to SVG, or to None without data."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from markupsafe import Markup

from seatrial.bench.measurement import Measurement, Stages
from seatrial.load.statistics import PERCENTILES
from seatrial.report import svg
from seatrial.report.numbers import milliseconds, per_second, sessions, significant

# One colour for each kind of stage; others take the spare ones in turn.
STAGE_COLOURS = {
    "receive": "receive",
    "decode": "decode",
    "preprocess": "preprocess",
    "queue": "queue",
    "infer": "infer",
    "inference": "infer",
    "postprocess": "postprocess",
    "encode": "encode",
    "other": "other",
    "transport": "transport",
}
SPARE_COLOURS = ("spare1", "spare2", "spare3")


class Segment(msgspec.Struct, frozen=True):
    """One stage of one bar: CSS colour class, name, mean milliseconds."""

    colour: str
    name: str
    ms: float


class StageBar(msgspec.Struct, frozen=True):
    """One bar of the stage chart."""

    label: str
    segments: tuple[Segment, ...]

    @property
    def total_ms(self) -> float:
        """The client's mean latency of these requests."""
        return sum(segment.ms for segment in self.segments)


def throughput(points: Sequence[Measurement], knee: int | None) -> Markup | None:
    """Goodput over sessions, with the line of ideal scaling and the knee."""
    rows = [point for point in points if point.finished]
    if len(rows) < 2:
        return None
    best = max(point.goodput_per_s for point in rows)
    frame = _sessions_frame(rows, max(best * 1.18, 1e-6))
    parts = frame.axes([point.sessions for point in rows], "sessions")
    first = rows[0]
    if first.goodput_per_s > 0:
        # Ideal: each session as fast as the first one, cut off at the upper edge.
        per_session = first.goodput_per_s / first.sessions
        end = min(frame.x_range[1], frame.y_max / per_session)
        steps = [first.sessions + (end - first.sessions) * n / 24 for n in range(25)]
        ideal = [(frame.x(s), frame.y(s * per_session)) for s in steps]
        parts.append(svg.polyline(ideal, "ideal"))
    if knee is not None:
        parts += _knee(frame, points[knee])
    places = [(frame.x(p.sessions), frame.y(p.goodput_per_s)) for p in rows]
    parts.append(svg.polyline(places, "series s0"))
    for point, (x, y) in zip(rows, places, strict=True):
        tip = f"{sessions(point.sessions)}: {per_second(point.goodput_per_s)}"
        parts.append(svg.dot(x, y, "mark s0", tip))
        # The ideal line rises from the first point: its label goes below where there is room.
        level = y + 18 if point is first and y + 22 < frame.floor else y - 9
        parts.append(svg.text(significant(point.goodput_per_s), x, level, "value", "middle"))
    return svg.drawing(frame.width, frame.height, "Goodput over sessions", parts)


def latency(points: Sequence[Measurement], knee: int | None) -> Markup | None:
    """Percentiles that the sample carries, with their upper bounds, over sessions."""
    rows = [point for point in points if point.good]
    known = [_percentile_rows(rows, name) for name in PERCENTILES]
    if len(rows) < 2 or not any(known):
        return None
    highest = max(upper or value for series in known for _, value, upper in series)
    frame = _sessions_frame(rows, highest * 1.08)
    parts = frame.axes([point.sessions for point in rows], "sessions")
    if knee is not None:
        parts += _knee(frame, points[knee])
    for n, (name, series) in enumerate(zip(PERCENTILES, known, strict=True)):
        places = [(frame.x(s), frame.y(value)) for s, value, _ in series]
        parts.append(svg.polyline(places, f"series s{n}"))
        for (count, value, upper), (x, y) in zip(series, places, strict=True):
            bound = "" if upper is None else f", at most {milliseconds(upper)}"
            if upper is not None:
                parts.append(svg.line(x, y, x, frame.y(upper), f"whisker s{n}"))
                parts.append(
                    svg.line(x - 4, frame.y(upper), x + 4, frame.y(upper), f"whisker s{n}")
                )
            tip = f"{name}, {sessions(int(count))}: {milliseconds(value)}{bound}"
            parts.append(svg.dot(x, y, f"mark s{n}", tip))
    return svg.drawing(frame.width, frame.height, "Latency over sessions", parts)


def latency_names(points: Sequence[Measurement]) -> dict[str, str]:
    """Percentiles that `latency` draws, and the CSS variable of their colour."""
    names = [(name, f"s{n}") for n, name in enumerate(PERCENTILES)]
    return {name: colour for name, colour in names if _percentile_rows(points, name)}


def distribution(point: Measurement) -> Markup | None:
    """LatencyHistogram of the latencies of one point, with its percentiles."""
    bins = point.histogram
    if bins is None or point.good < 2:
        return None
    low, high = bins.edges_ms[0], bins.edges_ms[-1]
    pad = (high - low) * 0.03
    frame = svg.Frame((low - pad, high + pad), max(bins.counts) * 1.32)
    steps = svg.ticks(high - low, 5)
    step = steps[1] if len(steps) > 1 else high
    first = int(low / step) + 1
    x_ticks = [step * n for n in range(first, int(high / step) + 1)]
    parts = frame.axes(x_ticks, "latency, ms")
    for n, count in enumerate(bins.counts):
        if count:
            x0, x1 = frame.x(bins.edges_ms[n]), frame.x(bins.edges_ms[n + 1])
            y = frame.y(count)
            tip = f"{milliseconds(bins.edges_ms[n])}: {count} requests"
            parts.append(svg.bar(x0, y, max(x1 - x0 - 0.6, 0.5), frame.floor - y, "bin", tip))
    parts += _markers(frame, point)
    if bins.over:
        note = f"{bins.over} slower \N{RIGHTWARDS ARROW}"
        parts.append(svg.text(note, frame.width - frame.right, frame.floor - 8, "axis", "end"))
    return svg.drawing(frame.width, frame.height, "Distribution of latency", parts)


def stage_bars(rows: Sequence[tuple[str, Stages]]) -> list[StageBar]:
    """The data of the stage chart: every stage, what the service does not name, transport."""
    bars = []
    spare: dict[str, str] = {}
    for label, stages in rows:
        named = [*stages.mean_ms.items(), ("other", stages.other_ms)]
        named.append(("transport", stages.transport_ms))
        segments = tuple(
            Segment(_stage_colour(name, spare), name, ms) for name, ms in named if ms > 0
        )
        bars.append(StageBar(label, segments))
    return bars


def stages(bars: Sequence[StageBar]) -> Markup | None:
    """Stacked horizontal bars on one scale of milliseconds."""
    if not bars:
        return None
    row, left, right, width = 42.0, 2.0, 2.0, 420.0
    scale = (width - left - right) / max(max(bar.total_ms for bar in bars), 1e-9)
    parts = []
    for n, stacked in enumerate(bars):
        y, x = n * row, left
        parts.append(svg.text(stacked.label, left, y + 12, "tick"))
        total = milliseconds(stacked.total_ms)
        parts.append(svg.text(total, width - right, y + 12, "value", "end"))
        for part in stacked.segments:
            tip = f"{part.name}: {milliseconds(part.ms)}"
            parts.append(svg.bar(x, y + 18, part.ms * scale, 14.0, f"stage c-{part.colour}", tip))
            x += part.ms * scale
    return svg.drawing(width, row * len(bars), "Mean time by stage", parts)


def _stage_colour(name: str, spare: dict[str, str]) -> str:
    if name in STAGE_COLOURS:
        return STAGE_COLOURS[name]
    return spare.setdefault(name, SPARE_COLOURS[len(spare) % len(SPARE_COLOURS)])


def _sessions_frame(rows: Sequence[Measurement], highest: float) -> svg.Frame:
    low, high = rows[0].sessions, rows[-1].sessions
    # Up to here the points of 1, 2, 4, ... stand apart on a linear axis too.
    log = high / low > 16
    pad = 0.0 if log else (high - low) * 0.06
    return svg.Frame((low - pad, high + pad), svg.ceiling(highest), log_x=log)


def _knee(frame: svg.Frame, point: Measurement) -> list[Markup]:
    x = frame.x(point.sessions)
    return [
        svg.line(x, frame.top, x, frame.floor, "knee"),
        svg.text("knee", x + 5, frame.floor - 7, "kneelabel"),
    ]


def _percentile_rows(
    rows: Sequence[Measurement], name: str
) -> list[tuple[float, float, float | None]]:
    found = ((point.sessions, point.latency.at(name)) for point in rows)
    return [(s, p.value_ms, p.upper_ms) for s, p in found if p.value_ms is not None]


def _markers(frame: svg.Frame, point: Measurement) -> list[Markup]:
    parts = []
    for n, (name, found) in enumerate(point.latency.percentiles.items()):
        if found.value_ms is None or found.value_ms > frame.x_range[1]:
            continue
        x, level = frame.x(found.value_ms), frame.top + 10 + 15 * n
        parts.append(svg.line(x, level - 4, x, frame.floor, f"quantile s{n}"))
        label = f"{name} {milliseconds(found.value_ms)}"
        # Left of the line where the right edge is near.
        near = x > frame.width - frame.right - 90
        shift, anchor = (-5, "end") if near else (5, "start")
        parts.append(svg.text(label, x + shift, level, f"value s{n}", anchor))
    return parts
