"""What a page says in words and tables, as HTML that both front ends show alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from seatrial.demo.compare import compare
from seatrial.demo.workbench import FLOOR, View
from seatrial.errors import SeatrialError

MOST_ROWS = 100
# Each front end has rules for tables of its own, some of them strong.
STYLE = """
<style>
.seatrial { overflow-x: auto; margin: 0.5rem 0; }
.seatrial table.seatrial-rows { border-collapse: collapse; width: 100%; margin: 0; border: 0; }
.seatrial table.seatrial-rows tr { border: 0; background: none; }
.seatrial table.seatrial-rows :is(th, td) {
  padding: 0.2rem; text-align: right; white-space: nowrap; font-size: 0.85rem;
  font-weight: 400; border: 0; border-bottom: 1px solid #8884; font-variant-numeric: tabular-nums;
}
.seatrial table.seatrial-rows th { opacity: 0.7; }
.seatrial table.seatrial-rows :is(th, td):first-child { text-align: left; }
</style>
"""


def boxes_table(view: View) -> str:
    """The boxes of a picture; of a video, what was seen of each class."""
    if view.media.rate_hz is not None:
        return _classes_of_clip(view)
    rows = [
        (box.label, f"{box.confidence:.2f}", *(f"{value:.0f}" for value in box.box))
        for box in view.seen[0].detections
    ]
    more = f"<p>and {len(rows) - MOST_ROWS} more</p>" if len(rows) > MOST_ROWS else ""
    head = ("label", "confidence", "left", "top", "right", "bottom")
    return _table(head, rows[:MOST_ROWS], more)


def _classes_of_clip(view: View) -> str:
    frames: dict[str, int] = {}
    most: dict[str, int] = {}
    best: dict[str, float] = {}
    for seen in view.seen:
        labels = [box.label for box in seen.detections]
        for label in set(labels):
            frames[label] = frames.get(label, 0) + 1
            most[label] = max(most.get(label, 0), labels.count(label))
        for box in seen.detections:
            best[box.label] = max(best.get(box.label, 0.0), box.confidence)
    rows = [
        (label, f"{count} of {len(view.seen)}", str(most[label]), f"{best[label]:.2f}")
        for label, count in sorted(frames.items(), key=lambda row: -row[1])
    ]
    return _table(("label", "frames", "most at once", "best confidence"), rows)


def stages_table(view: View) -> str:
    """Stage times."""
    stages = view.stages_ms
    title = "stage, median of the frames" if view.media.rate_hz is not None else "stage"
    rows = [(stage, f"{value:.1f}") for stage, value in stages.items()]
    if "total" not in stages:
        rows.append(("total", f"{sum(stages.values()):.1f}"))
    return _table((title, "ms"), rows)


def summary(view: View) -> str:
    """What is shown, in a sentence or two of plain text."""
    size, clip = view.seen[0].image, view.media.rate_hz is not None
    where = f"{len(view.seen)} frames of " if clip else ""
    hidden = f"; {view.hidden} more over {FLOOR} are hidden by the settings" if view.hidden else ""
    note = f" {view.media.note}" if view.media.note else ""
    return (
        f"{_count(view.boxes, 'object').capitalize()} in {where}{view.media.name} "
        f"({size.width} x {size.height}){hidden}.{note}"
    )


def comparison(first: View, second: View) -> str:
    """Where two views of one picture agree, in a sentence of plain text."""
    found = compare(first, second)
    overlap = f", with a mean IoU of {found.iou_mean:.2f}" if found.iou_mean is not None else ""
    return (
        f"Both see {_count(found.matched, 'object')}{overlap}; {found.lost} "
        f"only {first.model.name}, {found.gained} only {second.model.name}."
    )


def refusal(error: SeatrialError) -> str:
    """An error as plain text: what was wrong, and what to do next."""
    message = f"{error.message}."
    return f"{message} {error.hint[:1].upper()}{error.hint[1:]}." if error.hint else message


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number or 'no'} {noun}s"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], after: str = "") -> str:
    # Labels come out of model files and from services: they are text, never HTML.
    cells = "".join(
        f"<tr>{''.join(f'<td>{escape(value)}</td>' for value in row)}</tr>" for row in rows
    )
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    body = cells or f'<tr><td colspan="{len(head)}">nothing</td></tr>'
    return (
        f'{STYLE}<div class="seatrial"><table class="seatrial-rows">'
        f"<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>{after}</div>"
    )
