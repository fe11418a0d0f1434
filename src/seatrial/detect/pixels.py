"""Decoded pixels: their number is checked, every colour mode becomes RGB, and they are turned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from seatrial.errors import InputTooLarge, InvalidImage
from seatrial.system.images import orientation_of

MAX_SIDE_PX = 32_766  # OpenCV 4 warps nothing longer (SHRT_MAX); a JPEG answer ends at 65,500
STRIP_PIXELS = 2**18  # converted at a time
# Modes that Pillow makes RGB of; those of 16 bits are cut to 8 here.
_CONVERTED = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB",
              "HSV")  # fmt: skip
_16_BITS = "I;16"


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse an image without pixels, or with more than are worked on.

    Raises:
        InvalidImage: It has no pixels.
        InputTooLarge: A side is over `MAX_SIDE_PX`, or there are more pixels than allowed.
    """
    if width < 1 or height < 1:
        raise InvalidImage(f"the image has no pixels ({width} x {height})")
    if max(width, height) > MAX_SIDE_PX:
        raise InputTooLarge(
            f"the image is {width} x {height}, over the limit of {MAX_SIDE_PX} pixels a side",
            hint="send a smaller image",
        )
    if width * height > max_pixels:
        raise InputTooLarge(
            f"the image is {width} x {height}, over the limit of {max_pixels} pixels",
            hint="send a smaller image, or raise limits.image_pixels",
        )


def pil_to_rgb(pil: Image.Image) -> NDArray[np.uint8]:
    """The pixels of a PIL image, upright: (H, W, 3) uint8 RGB, see `decode`.

    Raises:
        InvalidImage: The image has mode I or F: what is black and what is white in it is unknown;
            or one that Pillow makes no RGB of; or its file was closed before its pixels were read.
    """
    _load(pil)  # only now is EXIF known that a PNG has behind its pixels
    turned = 1 if pil.format == "TIFF" else orientation_of(pil)  # Pillow has turned a TIFF
    if pil.mode == "I" and pil.format == "PNG":  # 16-bit grey as old Pillow widens it
        image = _upper_8_bits(np.asarray(pil))
    elif pil.mode in ("I", "F"):
        raise InvalidImage(
            f"a PIL image of mode {pil.mode} has no fixed range from black to white",
            hint="scale its values to 0-255 and convert it to mode L or RGB",
        )
    elif pil.mode not in _CONVERTED and not pil.mode.startswith(_16_BITS):
        raise InvalidImage(
            f"a PIL image of mode {pil.mode} is not read",
            hint=f"convert it to one of {', '.join(_CONVERTED)}, {_16_BITS}",
        )
    else:
        if "transparency" in pil.info:  # a palette's alpha is dropped like any other
            pil = pil.copy()
            del pil.info["transparency"]
        image = rgb(pil)
    return upright(image, turned)


def _load(pil: Image.Image) -> None:
    """Read the pixels of a PIL image, where they were not read yet."""
    # Plugins that unpack a file when they open it have no tiles before they load.
    unread = isinstance(pil, ImageFile.ImageFile) and bool(pil.tile)
    closed = unread and is_closed(pil)
    try:
        pil.load()
    except Exception as error:  # Pillow asserts that the file is there
        if not closed:
            raise
        raise InvalidImage(
            "the file was closed before its pixels were read; call load() within the with block",
            hint="after verify(), open the file again",
        ) from error


def is_closed(pil: Image.Image) -> bool:
    """Whether a PIL image has no file any more that more can be read from."""
    file = getattr(pil, "fp", None)
    return file is None or bool(getattr(file, "closed", False))


def rgb(pil: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of a PIL image; strip by strip, so that no second one is whole."""
    width, height = pil.size
    image = np.empty((height, width, 3), np.uint8)
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = pil.crop((0, top, width, bottom))
        part = image[top:bottom]
        if strip.mode.startswith(_16_BITS):
            grey = (np.asarray(strip, np.uint16) >> 8).astype(np.uint8)
            cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB, dst=part)
        elif strip.mode == "L":  # OpenCV takes less time than Pillow
            cv2.cvtColor(np.asarray(strip), cv2.COLOR_GRAY2RGB, dst=part)
        elif strip.mode == "RGBA":
            cv2.cvtColor(np.asarray(strip), cv2.COLOR_RGBA2RGB, dst=part)
        else:  # of what is RGB already, Pillow would make a copy
            part[:] = np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))
    return image


def _upper_8_bits(grey: NDArray[np.integer]) -> NDArray[np.uint8]:
    """(H, W, 3) of 16-bit grey."""
    return np.repeat((grey >> 8).astype(np.uint8)[:, :, np.newaxis], 3, axis=2)


def cmyk_to_rgb(inverted: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of (H, W, 4) CMYK that is inverted, as Adobe stores it; as Pillow rounds it."""
    height, width = inverted.shape[:2]
    image = np.empty((height, width, 3), np.uint8)
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = inverted[top : top + rows]
        light = cv2.cvtColor(np.ascontiguousarray(strip[:, :, 3]), cv2.COLOR_GRAY2RGB)
        colours = cv2.cvtColor(strip, cv2.COLOR_RGBA2RGB)
        cv2.multiply(colours, light, dst=image[top : top + rows], scale=1 / 255)
    return image


def upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation (Exif 2.32, table of tag 0x0112)."""
    turned = _TURNS.get(orientation)
    if turned is None:
        return image
    # OpenCV copies by tiles: a fifth of the time that numpy takes for a quarter turn.
    return np.asarray(turned(image), np.uint8)


_TURNS: dict[int, Callable[[Any], Any]] = {
    2: lambda image: cv2.flip(image, 1),
    3: lambda image: cv2.rotate(image, cv2.ROTATE_180),
    4: lambda image: cv2.flip(image, 0),
    5: cv2.transpose,
    6: lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE),
    7: lambda image: cv2.flip(cv2.transpose(image), -1),
    8: lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE),
}
