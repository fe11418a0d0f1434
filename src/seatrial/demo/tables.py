"""Text and tables of a page, as HTML that looks the same in both front ends."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from seatrial.accuracy.compare import FLOOR as SEEN
from seatrial.accuracy.predict import EVALUATION
from seatrial.demo.compare import compare
from seatrial.demo.workbench import FLOOR, NO_TRACK, View
from seatrial.detect.answer import boxes
from seatrial.detect.detections import label_of
from seatrial.errors import SeatrialError, in_one_line
from seatrial.report.numbers import counted

MOST_ROWS = 100
# Characters of Markdown inside a line; `$x$` and `:red[x]` are those of Streamlit.
_MARKDOWN = re.compile(r"[\\`*_\[\]<>$~|]|:(?=\w)")
# Each front end has style rules for tables, which these override.
STYLE = """
<style>
.seatrial { overflow-x: auto; margin: 0.5rem 0; }
.seatrial table.seatrial-rows { border-collapse: collapse; width: 100%; margin: 0; border: 0; }
.seatrial table.seatrial-rows tr { border: 0; background: none; }
.seatrial table.seatrial-rows :is(th, td) {
  padding: 0.2rem; text-align: right; white-space: nowrap; font-size: 0.85rem;
  font-weight: 400; border: 0; border-bottom: 1px solid #8884; font-variant-numeric: tabular-nums;
}
.seatrial table.seatrial-rows th { opacity: 0.7; white-space: normal; }
.seatrial table.seatrial-rows :is(th, td):first-child {
  text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 4.5rem;
}
</style>
"""


def boxes_table(view: View) -> str:
    """A table of an image's boxes; for a video, of its classes."""
    if view.media.rate_hz is not None:
        return _classes_of_video(view)
    rows = [
        (box.label, f"{box.confidence:.2f}", *(f"{value:.0f}" for value in box.box))
        for box in boxes(view.shown[0], view.model.labels)
    ]
    more = f"<p>and {len(rows) - MOST_ROWS} more</p>" if len(rows) > MOST_ROWS else ""
    head = ("label", "confidence", "left", "top", "right", "bottom")
    return _table(head, rows[:MOST_ROWS], more)


def _classes_of_video(view: View) -> str:
    classes = np.unique(np.concatenate([one.class_id for one in view.shown]))
    rows: list[tuple[int, tuple[str, ...]]] = []
    for class_id in classes.tolist():
        own = [one[one.class_id == class_id] for one in view.shown]
        counts = [len(one) for one in own if len(one)]
        best = max(float(one.score.max()) for one in own if len(one))
        label = label_of(class_id, view.model.labels)
        tracks = {n for one in own if one.track_id is not None for n in one.track_id.tolist()}
        row = (
            label, str(len(tracks - {NO_TRACK})), f"{len(counts)} of {len(view.shown)}",
            str(max(counts)), f"{best:.2f}",
        )  # fmt: skip
        rows.append((len(counts), row))
    rows.sort(key=lambda row: -row[0])
    head = ("label", "tracks", "frames", "most at once", "confidence")
    return _table(head, [row for _, row in rows])


def stages_table(view: View) -> str:
    """A table of the stage times."""
    stages = view.stages_ms
    title = "stage, median of the frames" if view.media.rate_hz is not None else "stage"
    rows = [(stage, f"{value:.1f}") for stage, value in stages.items()]
    return _table((title, "ms"), rows)


def summary(view: View) -> str:
    """The result in a sentence or two of plain text."""
    size, video = view.answers[0].size, view.media.rate_hz is not None
    seen = _count(view.boxes, "object")
    if video:
        frames = _count(len(view.answers), "frame")
        seen = f"{_count(view.tracks, 'track')} of {_count(view.boxes, 'box', 'boxes')} in {frames}"
    hidden = f"; {view.hidden} more over {FLOOR} are hidden by the settings" if view.hidden else ""
    note = f" {view.media.note}" if view.media.note else ""
    return (
        f"{seen[:1].upper()}{seen[1:]} {'of' if video else 'in'} {view.media.name} "
        f"({size.width} x {size.height}){hidden}.{note}"
    )


def comparison(first: View, second: View) -> str:
    """Agreement of two models in one image, in plain text, and by which settings it was found."""
    found, choice = compare(first, second), first.choice
    overlap = f", with a mean IoU of {found.iou_mean:.2f}" if found.iou_mean is not None else ""
    return (
        f"Both see {_count(found.matched, 'object')}{overlap}; {found.lost} only "
        f"{first.model.name}, {found.gained} only {second.model.name}. Compared from "
        f"confidence {choice.confidence:g} on, at IoU {choice.iou:g}, with one class a box; "
        f"seatrial evaluate --parent: from {SEEN:g} on, at {EVALUATION.iou:g}, with several."
    )


def refusal(error: SeatrialError) -> str:
    """The message and the hint of an error, as plain text."""
    message = f"{error.message}."
    return f"{message} {error.hint[:1].upper()}{error.hint[1:]}." if error.hint else message


def as_markdown(text: str) -> str:
    """Plain text as Markdown that shows it: names of files and models can hold its characters."""
    return _MARKDOWN.sub(r"\\\g<0>", in_one_line(text))


def _count(number: int, noun: str, plural: str = "") -> str:
    return counted(number, noun, plural) if number else f"no {plural or noun + 's'}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], after: str = "") -> str:
    # Labels come from model files and services: they are escaped, since they could hold HTML.
    cells = "".join(
        f"<tr>{''.join(f'<td>{escape(value)}</td>' for value in row)}</tr>" for row in rows
    )
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    body = cells or f'<tr><td colspan="{len(head)}">nothing</td></tr>'
    return (
        f'{STYLE}<div class="seatrial"><table class="seatrial-rows">'
        f"<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>{after}</div>"
    )
