"""Images with boxes and labels drawn."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from seatrial.detect.detections import Detections, label_of
from seatrial.errors import InvalidInput

JPEG_QUALITY = 90
# Suffix of an image that can be written -> Pillow's format and its options.
WRITTEN: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    ".bmp": ("BMP", {}),
    ".jpeg": ("JPEG", {}),
    ".jpg": ("JPEG", {}),
    ".png": ("PNG", {"compress_level": 3}),
    ".tif": ("TIFF", {"compression": "tiff_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_deflate"}),
    ".webp": ("WEBP", {"quality": JPEG_QUALITY}),
}


def annotated_jpeg(
    image: NDArray[np.uint8], detections: Detections, labels: Sequence[str]
) -> bytes:
    """The image with boxes and labels drawn, as a JPEG file.

    Args:
        image: (H, W, 3) uint8 RGB; not changed.
        detections: Boxes in its pixels.
        labels: Class names.
    """
    return _jpeg(draw(image, detections, labels))


def encode_image(image: NDArray[np.uint8], file: Path) -> bytes:
    """The content of an image file, in the format that its name says.

    Args:
        image: (H, W, 3) uint8 RGB.
        file: Name with one of the suffixes of `WRITTEN`.

    Raises:
        InvalidInput: The suffix is another one.
    """
    check_image_name(file)
    form, options = WRITTEN[file.suffix.lower()]
    if form == "JPEG":
        return _jpeg(image)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, form, **options)
    return buffer.getvalue()


def check_image_name(file: Path) -> None:
    """Check that a name is that of an image that can be written.

    Raises:
        InvalidInput: It has another suffix.
    """
    if file.suffix.lower() not in WRITTEN:
        raise InvalidInput(
            f"no image is written as {file.name}", hint=f"name it {', '.join(WRITTEN)}"
        )


def draw(
    image: NDArray[np.uint8],
    detections: Detections,
    labels: Sequence[str],
    *,
    scores: bool = True,
) -> NDArray[np.uint8]:
    """A copy of the image with boxes, labels and numbers of tracks; strokes scale with the image.

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
        if detections.track_id is not None and detections.track_id[index] >= 0:
            text += f" #{detections.track_id[index]}"
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


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=JPEG_QUALITY))


def _colour(class_id: int) -> tuple[int, int, int]:
    """RGB of a class: hues a golden angle apart, so that neighbours differ most."""
    hue = np.array([[[int(class_id * 137.508 / 2) % 180, 200, 235]]], np.uint8)
    red, green, blue = cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return red, green, blue
