"""Images of the error gallery: boxes by outcome, and labels of the errors where there is room."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from markupsafe import Markup

from seatrial.accuracy.error_gallery import Judged, JudgedImage
from seatrial.detect.decode import read_image
from seatrial.detect.detector import MAX_PIXELS

THUMBNAIL_PX = 480
JPEG_QUALITY = 78
FONT, SCALE, LINE_PX = cv2.FONT_HERSHEY_SIMPLEX, 0.42, 14
# Judged -> RGB colour of the boxes; the page has a legend.
COLOURS: dict[Judged, tuple[int, int, int]] = {
    "found": (60, 190, 110),
    "missed": (240, 190, 40),
    "wrong": (230, 70, 60),
}

Area = tuple[int, int, int, int]  # left, top, width, height


def thumbnail(judged: JudgedImage, path: Path) -> Markup:
    """The image with its boxes, as the address of an inline image.

    Objects that were found have a thin box and no label; so a crowded image stays an image.

    Raises:
        InvalidImage: The image cannot be read.
    """
    image = read_image(path, max_pixels=MAX_PIXELS, hint="seatrial data check")
    height, width = image.shape[:2]
    factor = THUMBNAIL_PX / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    smooth = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    canvas = np.ascontiguousarray(cv2.resize(image, size, interpolation=smooth))
    errors = [box for box in judged.boxes if box.judged != "found"]
    for box in judged.boxes:
        left, top, wide, high = (round(value * factor) for value in box.xywh)
        thick = 1 if box.judged == "found" else 2
        cv2.rectangle(canvas, (left, top), (left + wide, top + high), COLOURS[box.judged], thick)
    areas = [_scaled(box.xywh, factor) for box in errors]
    lengths = [cv2.getTextSize(box.label, FONT, SCALE, 1)[0][0] + 6 for box in errors]
    for box, spot in zip(errors, label_places(areas, lengths, size), strict=True):
        if spot is not None:
            x, y, wide, high = spot
            cv2.rectangle(canvas, (x, y), (x + wide, y + high), COLOURS[box.judged], cv2.FILLED)
            corner = (x + 3, y + high - 4)
            cv2.putText(canvas, box.label, corner, FONT, SCALE, (0, 0, 0), 1, cv2.LINE_AA)
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    _, data = cv2.imencode(".jpg", canvas[:, :, ::-1], quality)
    text = base64.b64encode(data.tobytes()).decode()
    return Markup(f"data:image/jpeg;base64,{text}")  # noqa: S704  base64 has no markup


def label_places(
    boxes: Sequence[Area], lengths: Sequence[int], size: tuple[int, int]
) -> list[Area | None]:
    """Places of labels above or below their boxes, that cover no other label and no other box.

    Args:
        boxes: Boxes with labels, pixels of the canvas.
        lengths: Width of each label.
        size: Width and height of the canvas.

    Returns:
        A place for each label; None where there is no room: the caption has the label too.
    """
    taken: list[Area] = []
    places: list[Area | None] = []
    for number, ((left, top, _, high), length) in enumerate(zip(boxes, lengths, strict=True)):
        others = [box for other, box in enumerate(boxes) if other != number]
        x = max(0, min(left, size[0] - length))
        spots = [(x, y, length, LINE_PX) for y in (top - LINE_PX - 1, top + high + 1)]
        free = [
            spot
            for spot in spots
            if 0 <= spot[1] <= size[1] - LINE_PX
            and length <= size[0]
            and not any(_overlap(spot, one) for one in (*taken, *others))
        ]
        places.append(free[0] if free else None)
        taken += free[:1]
    return places


def _overlap(a: Area, b: Area) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def _scaled(xywh: tuple[float, float, float, float], factor: float) -> Area:
    left, top, wide, high = (round(value * factor) for value in xywh)
    return left, top, wide, high
