"""The blocks of a page that show errors: confusion matrix, precision over recall, images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from seatrial.accuracy.average_precision import RECALLS, curves, precision_at_recalls
from seatrial.accuracy.confusion import CONFIDENCE
from seatrial.accuracy.error_gallery import JudgedImage
from seatrial.accuracy.matching import IOU_THRESHOLDS, Matches
from seatrial.accuracy.pairs import IOU
from seatrial.accuracy.thumbnails import COLOURS, thumbnail
from seatrial.errors import InvalidInput
from seatrial.report import svg
from seatrial.report.blocks import section

GALLERY = 12  # most images with errors
MATRIX = 24  # most classes of a confusion matrix on a page
STEPS = ((0, "s0"), (5, "s1"), (8, "s2"))  # of `IOU_THRESHOLDS`: 0.50, 0.75, 0.90


def confusion_section(
    categories: Sequence[str], counts: NDArray[np.int64], *, confidence: float = CONFIDENCE
) -> Markup:
    """The confusion matrix; of many classes those with the most errors.

    Args:
        categories: Names of the K classes.
        counts: (K + 1, K + 1), see `seatrial.accuracy.confusion.Confusion`.
        confidence: Confidence at which they were counted.
    """
    names = [*categories, "none"]
    errors = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)
    order = np.argsort(-errors[:-1], kind="stable")[:MATRIX]
    kept = [*sorted(order.tolist()), len(categories)]
    largest = max(1, int(counts[np.ix_(kept, kept)].max()))
    head = svg.element("tr", svg.element("th"), *(svg.element("th", names[n]) for n in kept))
    lines = [
        svg.element(
            "tr",
            svg.element("td", names[row]),
            *(_cell(int(counts[row, column]), row == column, largest) for column in kept),
        )
        for row in kept
    ]
    matrix = svg.element(
        "table", svg.element("thead", head), svg.element("tbody", *lines), class_="matrix"
    )
    lead = (
        f"Rows are objects, columns detections, at confidence {confidence:g} and IoU {IOU:g}. The "
        "last column counts missed objects, the last row detections without an object; what lies "
        "in a crowd of its class is in neither."
    )
    if len(categories) > MATRIX:
        lead += f" The {MATRIX} classes of {len(categories)} with the most errors are shown."
    return section("Confusion matrix", svg.element("div", matrix, class_="card scroll"), lead=lead)


def _cell(count: int, right: bool, largest: int) -> Markup:
    if not count:
        return svg.element("td", "\N{MIDDLE DOT}", class_="n")
    share = round(12 + 60 * count / largest)
    colour = "--good" if right else "--bad"
    style = f"background: color-mix(in srgb, var({colour}) {share}%, transparent)"
    return svg.element("td", str(count), style=style)


def precision_recall_figure(matches: Matches) -> Markup:
    """The curve of precision over recall at three IoU thresholds; nothing without objects."""
    lines = curves(matches)
    found = [(IOU_THRESHOLDS[n], colour, precision_at_recalls(lines, n)) for n, colour in STEPS]
    if any(np.isnan(precision).any() for _, _, precision in found):
        return Markup()
    frame = svg.Frame((0.0, 1.0), 1.0)
    parts = frame.axes([0, 0.2, 0.4, 0.6, 0.8, 1.0], "recall")
    for _, colour, precision in found:
        pairs = zip(RECALLS.tolist(), precision.tolist(), strict=True)
        points = [(frame.x(recall), frame.y(value)) for recall, value in pairs]
        parts.append(svg.polyline(points, f"series {colour}"))
    legend = [
        svg.element(
            "li",
            svg.element("i", class_="stroke", style=f"border-color: var(--{colour})"),
            f"IoU {iou:.2f}: {precision.mean():.4f}",
        )
        for iou, colour, precision in found
    ]
    caption = ["Precision, as a mean over the classes; its mean is the AP at that IoU"]
    return svg.element(
        "figure",
        svg.element("h3", "Precision over recall"),
        svg.element("figcaption", *caption, svg.element("ul", *legend, class_="legend")),
        svg.drawing(frame.width, frame.height, "Precision over recall", parts),
        class_="card narrow apart",
    )


def gallery_section(
    images: Iterable[JudgedImage], paths: Mapping[str, Path], *, confidence: float = CONFIDENCE
) -> Markup:
    """The images with the most errors, with their boxes.

    Args:
        images: From `seatrial.accuracy.error_gallery.error_gallery`.
        paths: Name of an image -> its file; one that cannot be read any more is left out.
        confidence: Confidence at which they were judged.
    """
    figures = []
    for image in images:
        try:
            source = thumbnail(image, paths[image.name])
        except InvalidInput:
            continue
        figures.append(_figure(image, source))
    if not figures:
        return section("Images with most errors", svg.element("p", "No image has an error."))
    legend = [
        svg.element("span", name, style=f"color: rgb{rgb}; font-weight: 600")
        for name, rgb in COLOURS.items()
    ]
    lead = svg.element(
        "p",
        f"Boxes by outcome at confidence {confidence:g}: ",
        *(part for one in legend for part in (one, " ")),
        "\N{EN DASH} errors have a label where there is room; the line below an image opens the "
        "list of all.",
        class_="lead",
    )
    return section("Images with most errors", lead, svg.element("div", *figures, class_="gallery"))


def _figure(image: JudgedImage, source: Markup) -> Markup:
    summary = f"{image.name}: {image.missed} missed, {image.wrong} wrong, {image.found} found"
    errors = "; ".join(f"{b.judged}: {b.label}" for b in image.boxes if b.judged != "found")
    details = svg.element("details", svg.element("summary", summary), errors)
    return svg.element(
        "figure",
        svg.element("img", src=source, alt=image.name),
        svg.element("figcaption", details),
        class_="card",
    )
