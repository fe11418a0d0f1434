"""Images with boxes and labels drawn."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from seatrial.detect.detections import Detections, label_of

JPEG_QUALITY = 90


def annotated_jpeg(
    image: NDArray[np.uint8], detections: Detections, labels: Sequence[str]
) -> bytes:
    """The image with boxes and labels drawn, as a JPEG file.

    Args:
        image: (H, W, 3) uint8 RGB; not changed.
        detections: Boxes in its pixels.
        labels: Class names.
    """
    return bytes(simplejpeg.encode_jpeg(draw(image, detections, labels), quality=JPEG_QUALITY))


def draw(
    image: NDArray[np.uint8],
    detections: Detections,
    labels: Sequence[str],
    *,
    scores: bool = True,
) -> NDArray[np.uint8]:
    """A copy of the image with boxes and labels; strokes scale with the image.

    Args:
        image: (H, W, 3) uint8 RGB.
        detections: Boxes in its pixels.
        labels: Class names.
        scores: Write the confidence beside the class.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    canvas = np.ascontiguousarray(image).copy()
    stroke = max(1, round(min(canvas.shape[:2]) / 240))
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, max(0.4, stroke * 0.25)
    # Least confident first, so that the most confident label lies on top.
    for index in reversed(range(len(detections))):
        left, top, right, bottom = (int(v) for v in detections.xyxy[index].round())
        class_id = int(detections.class_id[index])
        colour = _colour(class_id)
        cv2.rectangle(canvas, (left, top), (right, bottom), colour, stroke, cv2.LINE_AA)
        text = label_of(class_id, labels)
        text += f" {detections.score[index]:.2f}" if scores else ""
        (width, height), baseline = cv2.getTextSize(text, font, scale, max(1, stroke // 2))
        # Above the box, or inside it where there is no room above.
        floor = top if top >= height + baseline else top + height + baseline
        left = max(0, min(left, canvas.shape[1] - width))
        cv2.rectangle(
            canvas, (left, floor - height - baseline), (left + width, floor), colour, cv2.FILLED
        )
        ink = (0, 0, 0) if sum(colour) > 380 else (255, 255, 255)
        cv2.putText(
            canvas, text, (left, floor - baseline // 2 - 1), font, scale, ink,
            max(1, stroke // 2), cv2.LINE_AA,
        )  # fmt: skip
    return canvas


def _colour(class_id: int) -> tuple[int, int, int]:
    """RGB of a class: hues a golden angle apart, so that neighbours differ most."""
    hue = np.array([[[int(class_id * 137.508 / 2) % 180, 200, 235]]], np.uint8)
    red, green, blue = cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return red, green, blue
