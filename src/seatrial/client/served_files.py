"""Image files that a service takes: checked by its own rules before they are sent."""

from __future__ import annotations

from typing import NamedTuple

from seatrial.detect.decode import format_of, served_size
from seatrial.errors import InvalidInput

CONTENT_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
# Where the limit of the service is not known.
MAX_PIXELS = 50_000_000


class ServedFile(NamedTuple):
    """Type of the bytes, whatever the name says; width and height as stored, pixels."""

    content_type: str
    width: int
    height: int


def served_file(data: bytes, *, max_pixels: int = MAX_PIXELS) -> ServedFile:
    """Check an image file as a service does; it is decoded once.

    Args:
        data: The file.
        max_pixels: ``limits.image_pixels`` of the service.

    Raises:
        InvalidInput: The service would refuse it: `InvalidImage`, `UnsupportedImage`,
            `InputTooLarge`; or it is empty.
        Overloaded: There is not enough memory for it.
    """
    width, height = served_size(data, max_pixels=max_pixels)
    kind = CONTENT_TYPES.get(format_of(data[:32]) or "")
    if kind is None:  # no file that is decoded
        raise InvalidInput("the file is not a JPEG, PNG or WebP")
    return ServedFile(kind, width, height)
