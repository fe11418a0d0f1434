"""Images fitted into the model's canvas, and boxes mapped back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seatrial.errors import InvalidImage
from seatrial.manifest import Preprocessing


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where a source image lies on the model's canvas.

    Attributes:
        source_hw: Source (height, width), pixels.
        size_hw: Canvas (height, width), pixels.
        scale_xy: Canvas pixels per source pixel, (x, y).
        pad_xy: Left and top padding, canvas pixels.
        inner_hw: Height and width of the image on the canvas, pixels; the rest is padding.
    """

    source_hw: tuple[int, int]
    size_hw: tuple[int, int]
    scale_xy: tuple[float, float]
    pad_xy: tuple[int, int]
    inner_hw: tuple[int, int]

    def to_source(self, xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map boxes from canvas to source pixels and clip them to the image.

        Args:
            xyxy: (N, 4) float32, canvas pixels.

        Returns:
            (N, 4) float32, source pixels.
        """
        shift = np.array(self.pad_xy * 2, np.float32)
        scale = np.array(self.scale_xy * 2, np.float32)
        return self.clip((xyxy - shift) / scale)

    def clip(self, xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cut boxes off at the border of the image.

        Args:
            xyxy: (N, 4) float32, source pixels.

        Returns:
            (N, 4) float32, source pixels.
        """
        height, width = self.source_hw
        limit = np.array([width, height] * 2, np.float32)
        clipped: NDArray[np.float32] = np.clip(xyxy, 0.0, limit)
        return clipped


def fit(
    image: NDArray[np.uint8], preprocessing: Preprocessing
) -> tuple[NDArray[np.uint8], Letterbox]:
    """Fit an image into the canvas of an artifact.

    Args:
        image: (H, W, 3) uint8 RGB, 0-255.
        preprocessing: Canvas and resizing, from the manifest.

    Returns:
        (1, size_h, size_w, 3) uint8 RGB, C-contiguous, and where the image lies on it.

    Raises:
        InvalidImage: `image` is not (H, W, 3) uint8 with at least one pixel.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise InvalidImage(f"an image must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
    if preprocessing.resize == "letterbox":
        canvas, where = letterbox(image, preprocessing)
    elif preprocessing.resize == "stretch":
        canvas, where = stretch(image, preprocessing)
    else:
        canvas, where = shortest_edge(image, preprocessing)
    return canvas[np.newaxis], where


def letterbox(
    image: NDArray[np.uint8], preprocessing: Preprocessing
) -> tuple[NDArray[np.uint8], Letterbox]:
    """Fit an image into the canvas, keeping its aspect ratio; padded with grey.

    Centred, it rounds as Ultralytics' ``LetterBox`` (``auto=False``) and ``scale_boxes`` (from
    8.4 on) do: boxes are mapped back by the rounded length of each side, not by the exact one.
    At the top left, it rounds as YOLOX's ``preproc`` does: sides down, boxes by the exact scale.

    Args:
        image: (H, W, 3) uint8 RGB.
        preprocessing: Canvas, ``pad_value``, ``align`` and how pixels are resized.

    Returns:
        (size_h, size_w, 3) uint8 RGB and where the image lies on it.
    """
    height, width = image.shape[:2]
    place = letterboxed((height, width), preprocessing)
    if place.inner_hw != (height, width):
        image = _resized(image, place.inner_hw, preprocessing)
    # Bars and pixels in one call: between several, other threads would take Python's lock.
    (left, top), (inner_h, inner_w), (size_h, size_w) = place.pad_xy, place.inner_hw, place.size_hw
    below, right = size_h - inner_h - top, size_w - inner_w - left
    bars, pad = cv2.BORDER_CONSTANT, (preprocessing.pad_value,) * 3
    canvas: Any = cv2.copyMakeBorder(image, top, below, left, right, bars, value=pad)
    return canvas, place


def letterboxed(source_hw: tuple[int, int], preprocessing: Preprocessing) -> Letterbox:
    """Where `letterbox` puts an image of such a size.

    Args:
        source_hw: Height and width of the image, pixels.
        preprocessing: Canvas, and ``align``.
    """
    (source_h, source_w), (size_h, size_w) = source_hw, preprocessing.size_hw
    gain = min(size_h / source_h, size_w / source_w)
    if preprocessing.align == "center":
        inner_w, inner_h = max(1, round(source_w * gain)), max(1, round(source_h * gain))
        left = round((size_w - inner_w) / 2 - 0.1)
        top = round((size_h - inner_h) / 2 - 0.1)
        scale_xy = (inner_w / source_w, inner_h / source_h)
    else:
        inner_w, inner_h = max(1, int(source_w * gain)), max(1, int(source_h * gain))
        left = top = 0
        scale_xy = (gain, gain)
    place = (left, top), (inner_h, inner_w)
    return Letterbox(source_hw, (size_h, size_w), scale_xy, *place)


def stretch(
    image: NDArray[np.uint8], preprocessing: Preprocessing
) -> tuple[NDArray[np.uint8], Letterbox]:
    """Resize an image to the canvas, each axis by its own factor.

    Args:
        image: (H, W, 3) uint8 RGB.
        preprocessing: Canvas and how pixels are resized. Without ``half_pixel_centers``, output x
            reads source x * W / size_w, as TensorFlow 1's ``resize_bilinear(align_corners=False)``
            does.

    Returns:
        (size_h, size_w, 3) uint8 RGB and where the image lies on it (everywhere).
    """
    (source_h, source_w), (size_h, size_w) = image.shape[:2], preprocessing.size_hw
    scale_x, scale_y = size_w / source_w, size_h / source_h
    if preprocessing.half_pixel_centers:
        canvas: NDArray[Any] = _resized(image, preprocessing.size_hw, preprocessing)
    else:
        matrix = np.array([[1 / scale_x, 0, 0], [0, 1 / scale_y, 0]], np.float64)
        canvas = cv2.warpAffine(
            image,
            matrix,
            (size_w, size_h),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
    result: NDArray[np.uint8] = np.ascontiguousarray(canvas, dtype=np.uint8)
    size_hw = (size_h, size_w)
    return result, Letterbox((source_h, source_w), size_hw, (scale_x, scale_y), (0, 0), size_hw)


def shortest_edge(
    image: NDArray[np.uint8], preprocessing: Preprocessing
) -> tuple[NDArray[np.uint8], Letterbox]:
    """Resize by the length of the shorter side, and pad right and below to the canvas.

    The size is rounded as transformers' ``get_size_with_aspect_ratio`` rounds it. An image that
    would be larger than the canvas (a portrait on a landscape canvas) is made to fit.

    Args:
        image: (H, W, 3) uint8 RGB.
        preprocessing: Canvas, ``edges_px``, ``pad_value`` and how pixels are resized.

    Returns:
        (size_h, size_w, 3) uint8 RGB and where the image lies on it (top left).
    """
    (source_h, source_w), (size_h, size_w) = image.shape[:2], preprocessing.size_hw
    shortest, longest = preprocessing.edges_px or (min(size_h, size_w), max(size_h, size_w))
    inner_h, inner_w = _by_edges((source_h, source_w), shortest, longest)
    gain = min(1.0, size_h / inner_h, size_w / inner_w)
    if gain < 1.0:
        inner_h, inner_w = max(1, int(inner_h * gain)), max(1, int(inner_w * gain))
    canvas = np.empty((size_h, size_w, 3), np.uint8)
    canvas[:inner_h, :inner_w] = _resized(image, (inner_h, inner_w), preprocessing)
    canvas[:inner_h, inner_w:] = preprocessing.pad_value
    canvas[inner_h:] = preprocessing.pad_value
    scale_xy = (inner_w / source_w, inner_h / source_h)
    place = (0, 0), (inner_h, inner_w)
    return canvas, Letterbox((source_h, source_w), preprocessing.size_hw, scale_xy, *place)


def _by_edges(source_hw: tuple[int, int], shortest: int, longest: int) -> tuple[int, int]:
    """(height, width) of the resized image, pixels.

    Source: transformers ``image_transforms.get_size_with_aspect_ratio``.
    """
    low, high = min(source_hw), max(source_hw)
    exact = float(shortest)
    if high / low * shortest > longest:
        exact = longest * low / high
        shortest = round(exact)
    if low == shortest:
        return source_hw
    other = max(1, int(exact * high / low))
    shortest = max(1, shortest)
    return (other, shortest) if source_hw[1] < source_hw[0] else (shortest, other)


def _resized(
    image: NDArray[np.uint8], size_hw: tuple[int, int], how: Preprocessing
) -> NDArray[np.uint8]:
    area = how.interpolation == "area"
    return resize(image, size_hw, antialias=how.antialias, area=area)


def resize(
    image: NDArray[np.uint8],
    size_hw: tuple[int, int],
    *,
    antialias: bool = False,
    area: bool = False,
) -> NDArray[np.uint8]:
    """Resize bilinearly, sampled at pixel centres.

    Args:
        image: (H, W, 3) uint8 RGB.
        size_hw: (height, width), pixels.
        antialias: Where a side is made shorter, filter over the width of a step, as PIL's
            ``BILINEAR`` and torchvision's ``antialias=True`` do. Where no side is, both ways give
            the same to one grey level, and OpenCV takes a quarter of the time.
        area: Where both sides are made shorter, average over areas, as OpenCV's ``INTER_AREA``
            does.

    Returns:
        (height, width, 3) uint8 RGB, an array of its own.
    """
    if image.shape[:2] == size_hw:
        return image.copy()
    height, width = size_hw
    if antialias and (height < image.shape[0] or width < image.shape[1]):
        smaller = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        return np.array(smaller)
    smaller_both = height <= image.shape[0] and width <= image.shape[1]
    method = cv2.INTER_AREA if area and smaller_both else cv2.INTER_LINEAR
    resized: Any = cv2.resize(image, (width, height), interpolation=method)
    return resized  # type: ignore[no-any-return]
