"""Augmentation for DETR and its relatives: colours, zoom out, crop, mirror images.

Source: torchvision's RandomPhotometricDistort, RandomZoomOut and RandomIoUCrop with their default
ranges, as RT-DETR and D-FINE chain them; the crop is SSD's (Liu et al., 2016).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from seatrial.train.recipe import Augmentation

ZOOM = 4.0  # largest factor on the sides
CROP_SCALE = (0.3, 1.0)
CROP_ASPECT = (0.5, 2.0)
CROP_OVERLAPS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, None)  # None keeps the whole image
CROP_TRIES = 40
SMALLEST_PX = 1.0  # smallest side of a box after a crop
HUES = 180  # OpenCV's number of hues


@dataclass(frozen=True, slots=True)
class TrainingImage:
    """An image with its objects.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        xyxy: (N, 4) float64, pixels.
        classes: (N,) int64.
    """

    image: NDArray[np.uint8]
    xyxy: NDArray[np.float64]
    classes: NDArray[np.int64]


def augment(
    labelled: TrainingImage,
    settings: Augmentation,
    draw: np.random.Generator,
    *,
    plain: bool = False,
) -> TrainingImage:
    """The image with random changes.

    Args:
        labelled: Image with its objects; not changed in place.
        settings: Probabilities and ranges.
        draw: Source of random numbers.
        plain: Only mirror the image.
    """
    if not plain:
        if settings.colour:
            labelled = TrainingImage(
                _colours(labelled.image, settings, draw), labelled.xyxy, labelled.classes
            )
        if draw.random() < settings.zoom_out:
            labelled = _zoom_out(labelled, draw)
        if draw.random() < settings.crop:
            labelled = _crop(labelled, draw)
    if draw.random() < settings.flip:
        labelled = _mirror(labelled, axis=1)
    if draw.random() < settings.vertical_flip:
        labelled = _mirror(labelled, axis=0)
    return labelled


def _colours(
    image: NDArray[np.uint8], settings: Augmentation, draw: np.random.Generator
) -> NDArray[np.uint8]:
    # Contrast changes before or after the colours: the order matters.
    early = bool(draw.random() < 0.5)
    pixels = image.astype(np.float32)
    if draw.random() < settings.colour:
        pixels *= draw.uniform(1 - settings.brightness, 1 + settings.brightness)
    if early:
        pixels = _contrast(pixels, settings, draw)
    pixels = _hue_saturation(np.clip(pixels, 0, 255), settings, draw)
    if not early:
        pixels = _contrast(pixels, settings, draw)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _contrast(
    pixels: NDArray[np.float32], settings: Augmentation, draw: np.random.Generator
) -> NDArray[np.float32]:
    if draw.random() >= settings.colour:
        return pixels
    grey = float((pixels @ np.array([0.299, 0.587, 0.114], np.float32)).mean())
    factor = draw.uniform(1 - settings.contrast, 1 + settings.contrast)
    changed: NDArray[np.float32] = ((pixels - grey) * factor + grey).astype(np.float32)
    return changed


def _hue_saturation(
    pixels: NDArray[np.float32], settings: Augmentation, draw: np.random.Generator
) -> NDArray[np.float32]:
    turn = draw.uniform(-settings.hue, settings.hue) if draw.random() < settings.colour else 0.0
    factor = 1.0
    if draw.random() < settings.colour:
        factor = draw.uniform(1 - settings.saturation, 1 + settings.saturation)
    if turn == 0.0 and factor == 1.0:
        return pixels
    hsv = cv2.cvtColor(np.rint(pixels).astype(np.uint8), cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + turn * HUES) % HUES
    hsv[..., 1] = np.clip(hsv[..., 1] * factor, 0, 255)
    back = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
    return np.asarray(back, np.float32)


def _zoom_out(labelled: TrainingImage, draw: np.random.Generator) -> TrainingImage:
    height, width = labelled.image.shape[:2]
    ratio = draw.uniform(1.0, ZOOM)
    canvas = np.zeros((int(height * ratio), int(width * ratio), 3), np.uint8)
    left = int(draw.integers(0, canvas.shape[1] - width + 1))
    top = int(draw.integers(0, canvas.shape[0] - height + 1))
    canvas[top : top + height, left : left + width] = labelled.image
    shift = np.array([left, top, left, top])
    return TrainingImage(canvas, labelled.xyxy + shift, labelled.classes)


def _crop(labelled: TrainingImage, draw: np.random.Generator) -> TrainingImage:
    if not len(labelled.classes):
        return labelled
    height, width = labelled.image.shape[:2]
    while True:
        least = CROP_OVERLAPS[int(draw.integers(len(CROP_OVERLAPS)))]
        if least is None:
            return labelled
        for _ in range(CROP_TRIES):
            new_w, new_h = (int(side * draw.uniform(*CROP_SCALE)) for side in (width, height))
            if not new_h or not CROP_ASPECT[0] <= new_w / new_h <= CROP_ASPECT[1]:
                continue
            left, top = int((width - new_w) * draw.random()), int((height - new_h) * draw.random())
            window = np.array([left, top, left + new_w, top + new_h], np.float64)
            kept = _centred(labelled.xyxy, window)
            if kept.any() and _overlaps(labelled.xyxy[kept], window).max() >= least:
                return _cut(labelled, window.astype(int), kept)


def _centred(xyxy: NDArray[np.float64], window: NDArray[np.float64]) -> NDArray[np.bool_]:
    centre = (xyxy[:, :2] + xyxy[:, 2:]) / 2
    within = (centre > window[:2]) & (centre < window[2:])
    inside: NDArray[np.bool_] = within[:, 0] & within[:, 1]
    return inside


def _overlaps(xyxy: NDArray[np.float64], window: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) IoU with a window."""
    low, high = np.maximum(xyxy[:, :2], window[:2]), np.minimum(xyxy[:, 2:], window[2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    both = (xyxy[:, 2:] - xyxy[:, :2]).prod(axis=1) + (window[2:] - window[:2]).prod() - shared
    result: NDArray[np.float64] = shared / np.maximum(both, 1e-9)
    return result


def _cut(
    labelled: TrainingImage, window: NDArray[np.int64], kept: NDArray[np.bool_]
) -> TrainingImage:
    left, top, right, bottom = window.tolist()
    xyxy = labelled.xyxy[kept] - np.array([left, top, left, top])
    xyxy[:, 0::2] = np.clip(xyxy[:, 0::2], 0, right - left)
    xyxy[:, 1::2] = np.clip(xyxy[:, 1::2], 0, bottom - top)
    whole = (xyxy[:, 2:] - xyxy[:, :2] >= SMALLEST_PX).all(axis=1)
    image = np.ascontiguousarray(labelled.image[top:bottom, left:right])
    return TrainingImage(image, xyxy[whole], labelled.classes[kept][whole])


def _mirror(labelled: TrainingImage, *, axis: int) -> TrainingImage:
    side = labelled.image.shape[axis]
    first, second = (0, 2) if axis == 1 else (1, 3)
    xyxy = labelled.xyxy.copy()
    xyxy[:, first], xyxy[:, second] = (
        side - labelled.xyxy[:, second],
        side - labelled.xyxy[:, first],
    )
    return TrainingImage(
        np.ascontiguousarray(np.flip(labelled.image, axis)), xyxy, labelled.classes
    )
