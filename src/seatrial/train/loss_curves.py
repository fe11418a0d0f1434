"""Charts of a run: loss over steps, mAP over epochs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from markupsafe import Markup

from seatrial.report import svg
from seatrial.train.journal import Epoch, StepRecord

POINTS = 160  # most points of a curve: steps are averaged in groups
X_TICKS = 6


def loss_curve(steps: Sequence[StepRecord], epochs: Sequence[Epoch]) -> Markup | None:
    """Chart of the loss of each step and its mean over each epoch; None below two steps."""
    if len(steps) < 2:
        return None
    size = -(-len(steps) // POINTS)
    groups = [steps[i : i + size] for i in range(0, len(steps), size)]
    points = [
        (statistics.fmean(row.step for row in group), statistics.fmean(row.loss for row in group))
        for group in groups
    ]
    # The first losses may be many times the others: the axis ends at the 98th percentile.
    highest = max(statistics.quantiles([loss for _, loss in points], n=50)[-1], points[-1][1])
    frame = svg.Frame((steps[0].step, steps[-1].step), svg.ceiling(highest * 1.05))
    parts = frame.axes(_ticks(steps[-1].step), "step")
    line = [(frame.x(x), frame.y(min(y, frame.y_max))) for x, y in points]
    parts.append(svg.polyline(line, "ideal"))
    marks = [(frame.x(row.step), frame.y(min(row.loss, frame.y_max))) for row in epochs]
    parts.append(svg.polyline(marks, "series s1"))
    for row, (x, y) in zip(epochs, marks, strict=True):
        parts.append(svg.dot(x, y, "mark s1", f"epoch {row.epoch}: loss {row.loss:.4g}"))
    return svg.drawing(frame.width, frame.height, "Loss over steps", parts)


def map_curve(epochs: Sequence[Epoch], best: int) -> Markup | None:
    """Chart of mAP and mAP50 on validation, the kept epoch marked; None without epochs."""
    if not epochs:
        return None
    first, last = epochs[0].epoch, epochs[-1].epoch
    pad = 0.5 if first == last else 0.0
    frame = svg.Frame((first - pad, last + pad), 1.0)
    parts = frame.axes(_ticks(last), "epoch")
    place = frame.x(best)
    parts.append(svg.line(place, frame.top, place, frame.floor, "knee"))
    parts.append(svg.text("kept", place - 5, frame.floor - 8, "kneelabel", "end"))
    for number, (name, of) in enumerate((("mAP50", "ap50"), ("mAP", "ap"))):
        places = [(frame.x(row.epoch), frame.y(getattr(row, of))) for row in epochs]
        parts.append(svg.polyline(places, f"series s{number}"))
        for row, (x, y) in zip(epochs, places, strict=True):
            tip = f"epoch {row.epoch}: {name} {getattr(row, of):.4f}"
            parts.append(svg.dot(x, y, f"mark s{number}", tip, 2.5))
    return svg.drawing(frame.width, frame.height, "mAP over epochs", parts)


def _ticks(last: int) -> list[float]:
    step = max(1, round(svg.ticks(last, X_TICKS)[1])) if last > 1 else 1
    return [float(value) for value in range(step, last + 1, step)] or [1.0]
