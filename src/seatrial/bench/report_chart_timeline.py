"""Charts of a window over time: requests and their queue; latency and what the machine did."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from markupsafe import Markup

from seatrial.bench.measurement import Measurement
from seatrial.load.timeline import Slice, Timeline
from seatrial.report import svg
from seatrial.report.numbers import significant

FEWEST_SLICES = 3
PANEL, GAP, TOP, BOTTOM = 92.0, 34.0, 20.0, 38.0  # heights in drawing units
WIDE = 20.0  # ratio of latencies from which on their axis is logarithmic
MIB = 2**20


class ChartLine(msgspec.Struct, frozen=True):
    """A value of every slice, as a line of a panel.

    Attributes:
        colour: CSS class of its colour.
        values: Value of each slice; None where there is none.
    """

    colour: str
    values: tuple[float | None, ...]


class Panel(msgspec.Struct, frozen=True):
    """One of the plots above each other.

    Attributes:
        title: Name of what it shows, with the unit.
        rows: Its lines.
        log: Whether its axis is logarithmic.
        from_zero: Whether its axis begins at 0.
    """

    title: str
    rows: tuple[ChartLine, ...]
    log: bool = False
    from_zero: bool = True


def requests(point: Measurement) -> Markup | None:
    """Requests that were due, answered and good in each second, and the queue below."""
    cut = point.timeline
    if cut is None or len(cut.slices) < FEWEST_SLICES:
        return None
    spans = [end - begin for begin, end in _spans(cut, point.window_s)]
    counts = tuple(
        ChartLine(
            colour, tuple(getattr(one, name) / s for one, s in zip(cut.slices, spans, strict=True))
        )
        for name, colour in (("due", "broad s3"), ("answered", "s1"), ("good", "s0"))
    )
    panels = (
        Panel("requests per second", counts),
        Panel("requests under way", (_row(cut, "s0", lambda one: one.in_flight),)),
    )
    return _drawing(point, cut, panels, "Requests and their queue over time")


def machine(point: Measurement, *, memory: bool = False) -> Markup | None:
    """Latency of each slice, stolen time, and on request the service's memory."""
    cut = point.timeline
    if cut is None or len(cut.slices) < FEWEST_SLICES:
        return None
    rows = (
        _row(cut, "s1", lambda one: one.max_ms),
        _row(cut, "s0", lambda one: one.p50_ms),
    )
    known = [value for row in rows for value in row.values if value is not None]
    if not known:
        return None
    panels = [Panel("latency, ms", rows, log=max(known) > WIDE * max(min(known), 1e-3))]
    steal = _row(cut, "s2", lambda one: _times(one.steal_share, 100.0))
    if any(value is not None for value in steal.values):
        panels.append(Panel("stolen by the hypervisor, %", (steal,)))
    resident = _row(cut, "s3", lambda one: _times(one.rss_bytes, 1 / MIB))
    if memory and any(value is not None for value in resident.values):
        panels.append(Panel("memory of the service, MiB", (resident,), from_zero=False))
    return _drawing(point, cut, panels, "Latency and machine over time")


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _row(cut: Timeline, colour: str, value: Callable[[Slice], float | None]) -> ChartLine:
    return ChartLine(colour, tuple(value(one) for one in cut.slices))


def _spans(cut: Timeline, window_s: float) -> list[tuple[float, float]]:
    """Begin and end of each slice, seconds from the begin of the window."""
    begins = [n * cut.slice_s for n in range(len(cut.slices))]
    return list(zip(begins, [*begins[1:], window_s], strict=True))


def _drawing(point: Measurement, cut: Timeline, panels: Sequence[Panel], title: str) -> Markup:
    height = TOP + len(panels) * PANEL + (len(panels) - 1) * GAP + BOTTOM
    unit, scale = _unit(point.window_s)
    spans = [(begin / scale, end / scale) for begin, end in _spans(cut, point.window_s)]
    parts: list[Markup] = []
    for n, panel in enumerate(panels):
        frame = _frame(panel, n, height, spans[-1][1])
        parts += _shades(frame, cut, spans)
        parts += _plot(frame, panel, spans)
        parts.append(svg.text(panel.title, frame.left, frame.top - 7, "axis"))
        if n == len(panels) - 1:
            places = svg.ticks(frame.x_range[1], 6)
            parts += frame.columns((value, svg.plain(value)) for value in places)
            parts += frame.title(f"time, {unit}")
    return svg.drawing(420.0, height, title, parts)


def _unit(window_s: float) -> tuple[str, float]:
    if window_s < 180:
        return "s", 1.0
    return ("min", 60.0) if window_s < 3 * 3600 else ("h", 3600.0)


def _frame(panel: Panel, number: int, height: float, end: float) -> svg.Frame:
    top = TOP + number * (PANEL + GAP)
    known = [value for row in panel.rows for value in row.values if value is not None]
    high, low = max(known), min(known)
    if panel.log:
        y_min, y_max = max(low, 1e-3) / 1.2, high * 1.2
    elif panel.from_zero:
        y_min, y_max = 0.0, svg.ceiling(high * 1.05)
    else:
        spread = max(high - low, high * 0.02, 1e-9)
        y_min, y_max = max(0.0, low - spread * 0.2), high + spread * 0.2
    return svg.Frame(
        (0.0, end), y_max, height=height, top=top, bottom=height - top - PANEL, y_min=y_min,
        log_y=panel.log, left=46.0,
    )  # fmt: skip


def _plot(frame: svg.Frame, panel: Panel, spans: Sequence[tuple[float, float]]) -> list[Markup]:
    if panel.log:
        levels = svg.log_ticks(frame.y_min, frame.y_max)
    else:
        levels = svg.between(frame.y_min, frame.y_max, 4)
    parts = frame.rows((value, svg.plain(value)) for value in levels)
    for row in panel.rows:
        for piece in _pieces(row, spans):
            places = [(frame.x(at), frame.y(value)) for at, value in piece]
            if len(piece) > 1:
                parts.append(svg.polyline(places, f"series slim {row.colour}"))
            else:
                colour, tip = row.colour.split()[-1], significant(piece[0][1])
                parts.append(svg.dot(*places[0], f"mark {colour}", tip, 2.0))
    return parts


def _pieces(
    row: ChartLine, spans: Sequence[tuple[float, float]]
) -> list[list[tuple[float, float]]]:
    """Times and values of a line, cut where slices have no value."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for value, (begin, end) in zip(row.values, spans, strict=True):
        if value is None:
            pieces.append([])
        else:
            pieces[-1].append(((begin + end) / 2, value))
    return [piece for piece in pieces if piece]


def _shades(frame: svg.Frame, cut: Timeline, spans: Sequence[tuple[float, float]]) -> list[Markup]:
    """Bars behind the slices that are void."""
    parts = []
    for one, (begin, end) in zip(cut.slices, spans, strict=True):
        if one.void:
            x, right = frame.x(begin), frame.x(end)
            height = frame.floor - frame.top
            parts.append(svg.bar(x, frame.top, right - x, height, "voided", f"void: {one.void}"))
    return parts
