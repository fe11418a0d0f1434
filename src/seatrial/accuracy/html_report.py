"""The report of ``seatrial evaluate`` as one self-contained page: no script, no request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from markupsafe import Markup

from seatrial.accuracy.compare import HISTOGRAM_EDGES, Comparison
from seatrial.accuracy.confusion import confusion
from seatrial.accuracy.error_blocks import (
    GALLERY,
    confusion_section,
    gallery_section,
    precision_recall_figure,
)
from seatrial.accuracy.error_gallery import error_gallery
from seatrial.accuracy.evaluate import ClassFigures, Evaluation, Figures, Scored, Scores
from seatrial.conditions import condition_rows
from seatrial.gate import Row, Verdict
from seatrial.report import svg
from seatrial.report.blocks import clauses, facts, heading, section, table, tiles, verdict_title
from seatrial.report.numbers import MISSING, counted, seconds
from seatrial.report.page import page as html_page

NAMES = {
    "ap": "AP, IoU 0.50 to 0.95",
    "ap50": "AP at IoU 0.50",
    "ar100": "recall (AR100)",
}
SIZES = (("small", "up to 32 x 32 px"), ("medium", "to 96 x 96 px"), ("large", "beyond"))


def page(report: Evaluation, measured: Scored | None = None) -> str:
    """The page's HTML.

    Args:
        report: The measurement.
        measured: Its boxes: then the page shows errors, too. The images are read.
    """
    name = str(report.subject.get("name", "detector"))
    ap = _number(report.scores.figures.ap)
    ran = " ".join(str(report.subject[key]) for key in ("engine", "device", "precision"))
    return html_page(
        f"Seatrial evaluation: {name}",
        heading(
            "Seatrial evaluation, COCO's rules",
            f"{name}: AP {ap} on {counted(report.images, 'image')} with "
            f"{counted(report.objects, 'object')}.",
            f"{report.dataset}; {ran}",
        ),
        *verdict_section(report.verdict),
        section("Key figures", _tiles(report)),
        interval_figure(report, () if report.verdict is None else report.verdict.rows),
        section("By size", _sizes(report.scores.figures)),
        section(
            "By class",
            _classes(report.scores),
            lead=f"Precision and recall at confidence {report.scores.at_threshold.threshold:g} and "
            "IoU 0.5; the best F1 with the confidence that it is reached at.",
        ),
        *(() if measured is None else _errors(measured, report.scores.at_threshold.threshold)),
        *(() if report.parent is None else comparison(report.parent, report.parent_verdict)),
        section("Conditions", facts(_conditions(report))),
    )


def _errors(measured: Scored, confidence: float) -> Iterator[Markup]:
    """Precision over recall, the confusion matrix, and the images with the most errors."""
    dataset, predictions = measured.dataset, measured.predictions
    yield precision_recall_figure(measured.matches)
    names = [category.name for category in dataset.categories]
    counts = confusion(dataset, predictions, confidence=confidence).counts
    yield confusion_section(names, counts, confidence=confidence)
    worst = error_gallery(dataset, predictions, GALLERY, confidence=confidence)
    paths = {image.name: image.path for image in dataset.images}
    yield gallery_section(worst, paths, confidence=confidence)


def verdict_section(verdict: Verdict | None) -> Iterator[Markup]:
    """The verdict on a contract, clause by clause; nothing without one."""
    if verdict is not None:
        yield section(verdict_title(verdict), clauses(verdict))


def comparison(found: Comparison, verdict: Verdict | None) -> Iterator[Markup]:
    """A child against its parent: verdict of its gate, boxes, shift of the confidences."""
    lead = (
        f"Boxes of both on {counted(found.images, 'image')}, from confidence {found.floor:.3g} on: "
        "pairs have the same class and an IoU of 0.5 at least."
    )
    agreement = MISSING if found.agreement is None else f"{found.agreement.share:.1%}"
    figures = tiles(
        (
            ("Agreement", agreement, "F1 of the boxes of both"),
            ("Matched", f"{found.matched:,}", f"of {found.parent_boxes:,} of the parent"),
            ("Lost", f"{found.lost:,}", "boxes of the parent alone"),
            ("Gained", f"{found.gained:,}", "boxes of the child alone"),
            ("Mean IoU of pairs", _number(found.iou_mean), f"least {_number(found.iou_least)}"),
            ("Mean shift", _signed(found.mean_shift), "of the confidence of a pair"),
            (
                "Mean size of a shift",
                _number(found.mean_abs_shift),
                f"at most {_number(found.most_shift)}",
            ),
            ("Difference in AP", *_difference(found)),
        )
    )
    shown = [] if verdict is None else [clauses(verdict)]
    yield section("Against the parent", *shown, figures, lead=lead)
    if found.matched and found.histogram:
        figure = [
            svg.element("h3", "Shift of confidence"),
            svg.element("figcaption", "Pairs by the child's confidence less the parent's"),
            _histogram(found.histogram),
        ]
        yield svg.element(
            "div",
            svg.element("figure", *figure, class_="card"),
            _bands(found),
            class_="charts apart",
        )


def interval_figure(report: Evaluation, rows: Sequence[Row] = ()) -> Markup:
    """AP, AP50 and AR100 with their intervals, and the limits of a contract; else nothing."""
    known = [name for name in NAMES if name in report.intervals]
    if not known:
        return Markup()
    level = next(iter(report.intervals.values())).level
    limits = {row.clause.metric.removeprefix("accuracy."): row.clause.limit for row in rows}
    caption = f"Line: {level:.0%} interval of a bootstrap over the images"
    caption += "; dashed: limit of the contract" if limits else ""
    return svg.element(
        "figure",
        svg.element("h3", "Accuracy and its interval"),
        svg.element("figcaption", caption),
        _intervals(report, known, limits),
        class_="card apart narrow",
    )


def _intervals(report: Evaluation, known: list[str], limits: dict[str, float]) -> Markup:
    width, pad, row_px = 420.0, 10.0, 44.0
    floor = row_px * len(known) + 6

    def x(value: float) -> float:
        return pad + value * (width - 2 * pad)

    parts: list[Markup] = []
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        parts.append(svg.line(x(tick), 0, x(tick), floor, "grid"))
        parts.append(svg.text(svg.plain(tick), x(tick), floor + 17, "tick", "middle"))
    for number, name in enumerate(known):
        y = row_px * number + 31
        value, ends = getattr(report.scores.figures, name), report.intervals[name]
        low, high = (value if end is None else end for end in (ends.low, ends.high))
        tip = f"{name}: {value:.4f} ({low:.4f} to {high:.4f})"
        parts += [
            svg.text(NAMES[name], pad, y - 16),
            svg.text(f"{value:.4f}", width - pad, y - 16, "value", "end"),
            svg.line(x(low), y, x(high), y, "whisker s0 wide"),
            svg.dot(x(value), y, "mark s0", tip, 5),
        ]
        if name in limits:
            parts.append(svg.line(x(limits[name]), y - 10, x(limits[name]), y + 10, "knee"))
    return svg.drawing(width, floor + 22, "Accuracy with its interval", parts)


def _tiles(report: Evaluation) -> Markup:
    figures, now, best = report.scores.figures, report.scores.at_threshold, report.scores.best_f1
    at = f"at confidence {now.threshold:g}"
    best_f1, best_threshold = best.reached
    best_at = "none" if best_threshold is None else f"at confidence {best_threshold:.3f}"
    return tiles(
        (
            ("AP", _number(figures.ap), _ends(report, "ap") or "IoU 0.50 to 0.95"),
            ("AP50", _number(figures.ap50), _ends(report, "ap50") or "IoU 0.50"),
            ("AP75", _number(figures.ap75), "IoU 0.75"),
            ("AR100", _number(figures.ar100), _ends(report, "ar100") or "100 detections"),
            ("Precision", _number(now.precision), at),
            ("Recall", _number(now.recall), at),
            ("Best F1", _number(best_f1), best_at),
            ("Boxes", f"{report.detections:,}", f"down to confidence {report.rules.confidence:g}"),
        )
    )


def _ends(report: Evaluation, name: str) -> str:
    ends = report.intervals.get(name)
    if ends is None or ends.low is None or ends.high is None:
        return ""
    return f"{ends.level:.0%}: {ends.low:.4f} to {ends.high:.4f}"


def _sizes(figures: Figures) -> Markup:
    values = msgspec.structs.asdict(figures)
    rows = [
        (f"{size}, {words}", _number(values[f"ap_{size}"]), _number(values[f"ar_{size}"]))
        for size, words in SIZES
    ]
    rows.append(("all", _number(figures.ap), _number(figures.ar100)))
    return table(("objects", "AP", "recall (AR100)"), rows)


def _classes(scores: Scores) -> Markup:
    names = ("class", "objects", "AP", "AP50", "precision", "recall", "best F1", "at")
    return table(names, (_class(one) for one in scores.classes))


def _class(one: ClassFigures) -> tuple[str, ...]:
    now, best = one.at_threshold, one.best_f1
    values = (one.ap, one.ap50, now.precision, now.recall, *best.reached)
    return one.name, f"{one.objects:,}", *map(_number, values)


def _conditions(report: Evaluation) -> Iterator[tuple[str, str]]:
    for key, value in report.subject.items():
        yield key, str(value)
    yield "dataset", report.dataset
    yield "digest of the labels", report.labels_digest
    if report.images_digest:
        yield "digest of the images", report.images_digest
    yield "images", f"{report.images:,}, {len(report.skipped)} left out"
    yield "objects", f"{report.objects:,}, and {report.crowds} crowds"
    rules = msgspec.structs.asdict(report.rules)
    yield "detector", ", ".join(f"{key} {value}" for key, value in rules.items())
    yield "took", f"{seconds(report.detect_s)} to detect, {seconds(report.score_s)} to score"
    yield from condition_rows(report.conditions)
    for note in report.notes:
        yield "note", note


def _difference(found: Comparison) -> tuple[str, str]:
    if found.ap is None:
        return MISSING, "there are no labels"
    ap = found.ap
    return f"{ap.difference:+.4f}", f"{ap.level:.0%}: {ap.low:+.4f} to {ap.high:+.4f}"


def _histogram(counts: Sequence[int]) -> Markup:
    edges = HISTOGRAM_EDGES.tolist()
    if len(counts) != len(edges) - 1:  # of an earlier version: 0 is the edge of two bins
        edges = np.linspace(-1.0, 1.0, len(counts) + 1).tolist()
    used = [number for number, count in enumerate(counts) if count]
    reach = max(0.125, *(abs(edge) for n in used for edge in (edges[n], edges[n + 1])))
    frame = svg.Frame((-reach, reach), max(counts) * 1.1)
    step = 0.05 if reach < 0.2 else 0.1 if reach < 0.45 else 0.5
    marks = [step * n for n in range(-int(reach / step), int(reach / step) + 1)]
    parts = frame.axes(marks, "shift")
    for number in used:
        x0, x1 = frame.x(edges[number]), frame.x(edges[number + 1])
        y = frame.y(counts[number])
        tip = f"{edges[number]:+.3f} to {edges[number + 1]:+.3f}: {counts[number]} pairs"
        parts.append(svg.bar(x0, y, max(x1 - x0 - 0.6, 0.5), frame.floor - y, "bin", tip))
    return svg.drawing(frame.width, frame.height, "Shift of confidence", parts)


def _bands(found: Comparison) -> Markup:
    return table(
        ("confidence of the parent", "pairs", "mean there", "mean here"),
        (
            (f"{band.low:.1f} to {band.high:.1f}", f"{band.boxes:,}",
             _number(band.mean_parent), _number(band.mean_child))
            for band in found.bands
        ),
    )  # fmt: skip


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.4f}"


def _signed(value: float | None) -> str:
    return MISSING if value is None else f"{round(value, 4) + 0.0:+.4f}"  # never -0.0000
