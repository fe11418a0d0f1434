"""From pixels to the bytes of a file."""

from __future__ import annotations

import io

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image


def png(image: NDArray[np.uint8]) -> bytes:
    """A PNG of (H, W, 3) uint8 RGB: every pixel comes back as it is."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    """A JPEG of (H, W, 3) uint8 RGB, without reduced colours.

    Args:
        image: The pixels.
        quality: 1-100, as libjpeg counts it.
    """
    pixels = np.ascontiguousarray(image)
    return bytes(simplejpeg.encode_jpeg(pixels, quality=quality, colorsubsampling="444"))
