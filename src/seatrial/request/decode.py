"""From bytes to pixels. What is refused is refused before it costs memory or time."""

from __future__ import annotations

import io
import warnings

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from seatrial.errors import InputTooLarge, InvalidImage, InvalidInput, UnsupportedImage

JPEG_MAGIC = b"\xff\xd8\xff"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
EXIF_ORIENTATION = 0x0112
FORMATS = ("JPEG", "PNG", "WEBP")


def decode(data: bytes | memoryview, *, max_pixels: int) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG or WebP file.

    Every colour mode becomes RGB: grey is repeated, CMYK converted, alpha dropped over black
    where it was never drawn, 16 bit cut to the upper 8. Of an animation the first frame counts.
    The EXIF orientation is applied.

    Args:
        data: The whole file.
        max_pixels: Largest width x height, checked from the header.

    Returns:
        (H, W, 3) uint8 RGB, C-contiguous.

    Raises:
        InvalidInput: No bytes at all.
        UnsupportedImage: Not one of the three formats.
        InputTooLarge: More pixels than allowed; nothing was decoded.
        InvalidImage: A file of a known format that is damaged, cut off or has no pixels.
    """
    if not data:
        raise InvalidInput("the image is empty (0 bytes)")
    if data[:3] == JPEG_MAGIC:
        return _decode_jpeg(data, max_pixels)
    return _decode_any(data, max_pixels)


def _decode_jpeg(data: bytes | memoryview, max_pixels: int) -> NDArray[np.uint8]:
    try:
        height, width, colour, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise InvalidImage(f"the JPEG header is damaged: {error}") from error
    _check_size(width, height, max_pixels)
    if colour not in ("YCbCr", "Gray", "RGB"):  # libjpeg-turbo turns CMYK into CMYK alone
        return _decode_any(data, max_pixels)
    try:
        # strict: what libjpeg only warns of (data cut off, corrupt blocks) is an error here,
        # where other decoders hand out a picture that is half grey.
        image: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)
    except ValueError as error:
        raise InvalidImage(f"the JPEG is damaged or cut off: {error}") from error
    return _upright(image, _jpeg_orientation(data))


def _decode_any(data: bytes | memoryview, max_pixels: int) -> NDArray[np.uint8]:
    try:
        with warnings.catch_warnings():
            # Pillow's own bomb warning starts at another size than our limit.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                _check_size(*picture.size, max_pixels)
                picture.load()
                return _to_rgb(ImageOps.exif_transpose(picture))
    except UnidentifiedImageError as error:
        if data[:8] == PNG_MAGIC or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
            raise InvalidImage("the image header is damaged or cut off") from error
        raise UnsupportedImage(
            f"not an image that is read here (starts with {bytes(data[:8])!r})",
            hint=f"send {', '.join(FORMATS)}",
        ) from error
    except Image.DecompressionBombError as error:
        raise InputTooLarge(str(error)) from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:  # what Pillow's plugins raise
        raise InvalidImage(f"the image is damaged or cut off: {error}") from error


def _to_rgb(picture: Image.Image) -> NDArray[np.uint8]:
    if picture.mode.startswith("I;16"):
        grey = (np.asarray(picture, np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, np.newaxis], 3, axis=2)
    if picture.mode == "I":  # 16-bit grey as Pillow widens it
        grey = (np.clip(np.asarray(picture), 0, 65535) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, np.newaxis], 3, axis=2)
    return np.array(picture.convert("RGB"), np.uint8)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise InvalidImage(f"the image has no pixels ({width} x {height})")
    if width * height > max_pixels:
        raise InputTooLarge(
            f"the image is {width} x {height}, over the limit of {max_pixels} pixels",
            hint="send a smaller picture, or raise limits.image_pixels",
        )


def _jpeg_orientation(data: bytes | memoryview) -> int:
    """EXIF orientation, 1-8, read from the APP1 segment alone; 1 where there is none."""
    view = memoryview(data)
    position = 2
    while position + 4 <= len(view) and view[position] == 0xFF:
        marker = view[position + 1]
        if marker in (0xDA, 0xD9):  # the picture itself starts: no more headers
            break
        length = int.from_bytes(view[position + 2 : position + 4], "big")
        segment = view[position + 4 : position + 2 + length]
        if marker == 0xE1 and bytes(segment[:6]) == b"Exif\x00\x00":
            return _exif_orientation(segment)
        position += 2 + length
    return 1


def _exif_orientation(segment: memoryview) -> int:
    exif = Image.Exif()
    try:
        exif.load(bytes(segment))
        value = exif.get(EXIF_ORIENTATION, 1)
    except (ValueError, SyntaxError, OSError, KeyError, TypeError):
        return 1  # viewers show a picture with broken EXIF as it lies; so do we
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation (Exif 2.32, table of tag 0x0112)."""
    if orientation == 1:
        return image
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    # After the transpose of 5-8: which axes to mirror, (vertical, horizontal).
    vertical, horizontal = {
        2: (False, True), 3: (True, True), 4: (True, False), 5: (False, False),
        6: (False, True), 7: (True, True), 8: (True, False),
    }[orientation]  # fmt: skip
    image = image[:: -1 if vertical else 1, :: -1 if horizontal else 1]
    return np.ascontiguousarray(image)
