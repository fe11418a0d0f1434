"""From bytes to pixels. What is refused is refused before it takes memory or time."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from seatrial.errors import (
    InputTooLarge,
    InvalidDataset,
    InvalidImage,
    InvalidInput,
    UnsupportedImage,
    naming,
)
from seatrial.system.files import read_bytes
from seatrial.system.images import DAMAGE, EXIF_MAGIC, exif_orientation

JPEG_MAGIC = b"\xff\xd8\xff"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
MAX_SIDE_PX = 32_766  # OpenCV 4 warps nothing longer (SHRT_MAX); a JPEG answer ends at 65,500
FORMATS = ("JPEG", "PNG", "WEBP")
# Each scan of a progressive JPEG walks all its blocks, however few bytes it has. Encoders write
# about 10.
MAX_SCANS = 32
MAX_SEGMENTS = 2000  # of a JPEG; of a PNG the chunks without pixels
MAX_PIXEL_CHUNKS = 50_000  # of a PNG: more than one for each row of the tallest image
PIXEL_CHUNKS = (b"IDAT", b"fcTL", b"fdAT")  # the last two are those of an animation
# A marker, which neither a stuffed byte nor a restart in the pixel data is (ITU T.81 B.1.1.2).
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
APP1, SOS, EOI, SEQUENTIAL, WITHOUT_LENGTH = 0xE1, 0xDA, 0xD9, (0xC0, 0xC1), (0x01, 0xD8)


def decode(data: bytes | memoryview, *, max_pixels: int) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG or WebP file.

    Every colour mode becomes RGB: grey is repeated, CMYK converted, 16 bit cut to the upper 8.
    Alpha is dropped, as ``cv2.imread`` does: a transparent pixel shows the colour that it holds.
    An animation gives its first frame. The EXIF orientation is applied.

    Args:
        data: The whole file.
        max_pixels: Largest width x height, checked in the header; so is `MAX_SIDE_PX`.

    Returns:
        (H, W, 3) uint8 RGB, C-contiguous.

    Raises:
        InvalidInput: There are no bytes.
        UnsupportedImage: The file is not in one of the three formats.
        InputTooLarge: It has more pixels than allowed; nothing was decoded.
        InvalidImage: It is in a known format and damaged, cut off or without pixels; or a JPEG of
            more than `MAX_SCANS` scans or `MAX_SEGMENTS` segments; or a PNG of more than
            `MAX_SEGMENTS` chunks without pixels or `MAX_PIXEL_CHUNKS` with pixels. Damage of the
            pixels is not noticed in a CMYK JPEG with reduced colours: libjpeg-turbo lacks those.
    """
    if not data:
        raise InvalidInput("the image is empty (0 bytes)")
    if data[:3] == JPEG_MAGIC:
        return _decode_jpeg(data, max_pixels)
    return _decode_any(data, max_pixels)


def decode_file(path: Path, *, max_pixels: int) -> NDArray[np.uint8]:
    """Read and decode a file; see `decode`. The messages of its errors name the file."""
    data = read_bytes(path)
    with naming(path):
        return decode(data, max_pixels=max_pixels)


def read_image(path: Path, *, max_pixels: int, hint: str) -> NDArray[np.uint8]:
    """Read and decode an image of a folder or of a labelled set; see `decode`.

    Raises:
        InvalidDataset: It cannot be read or decoded; `hint` says what to do about it.
    """
    try:
        return decode_file(path, max_pixels=max_pixels)
    except InvalidInput as error:
        raise InvalidDataset(error.message, hint=hint) from error


def _decode_jpeg(data: bytes | memoryview, max_pixels: int) -> NDArray[np.uint8]:
    try:
        height, width, colour, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        _scan_segments(data)
        if _is_cmyk(data):  # libjpeg-turbo's header reader lacks its reduced colours
            return _decode_any(data, max_pixels)
        raise InvalidImage(f"the JPEG header is damaged: {error}") from error
    check_size(width, height, max_pixels)
    orientation = _scan_segments(data)
    cmyk = colour not in ("YCbCr", "Gray", "RGB")  # libjpeg-turbo turns CMYK into CMYK alone
    try:
        # strict: what libjpeg only warns of (data cut off, corrupt blocks) is an error here;
        # other decoders return an image that is half grey.
        image: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, colorspace="CMYK" if cmyk else "RGB", strict=True
        )
    except ValueError as error:
        raise InvalidImage(f"the JPEG is damaged or cut off: {error}") from error
    if cmyk:  # inverted, as Adobe stores it and Pillow reads it
        inverted = Image.frombuffer("CMYK", (width, height), image, "raw", "CMYK;I", 0, 1)
        image = np.array(inverted.convert("RGB"), np.uint8)
    return _upright(image, orientation)


def _decode_any(data: bytes | memoryview, max_pixels: int) -> NDArray[np.uint8]:
    size = _declared_size(bytes(data[:30]))
    if size is not None:  # before Pillow: its WebP plugin reserves the canvas when it opens
        check_size(*size, max_pixels)
    if data[:8] == PNG_MAGIC:
        _check_chunks(data)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as pil:
            check_size(*pil.size, max_pixels)
            return pil_to_rgb(pil)
    except UnidentifiedImageError as error:
        if size is not None or data[:8] == PNG_MAGIC or data[:3] == JPEG_MAGIC or _is_webp(data):
            raise InvalidImage("the image header is damaged or cut off") from error
        raise UnsupportedImage(
            f"the file is not in a known image format (it starts with {bytes(data[:8])!r})",
            hint=f"known formats: {', '.join(FORMATS)}",
        ) from error
    except Image.DecompressionBombError as error:
        raise InputTooLarge(str(error)) from error
    except DAMAGE as error:
        raise InvalidImage(f"the image is damaged or cut off: {error}") from error


def pil_to_rgb(pil: Image.Image) -> NDArray[np.uint8]:
    """The pixels of a PIL image, upright: (H, W, 3) uint8 RGB, see `decode`.

    Raises:
        InvalidImage: The image has mode I or F: what is black and what is white in it is unknown.
    """
    pil.load()  # only now is EXIF known that a PNG has behind its pixels
    orientation = exif_orientation(pil.info.get("exif", b""))
    if pil.mode.startswith("I;16"):
        image = _upper_8_bits(np.asarray(pil, np.uint16))
    elif pil.mode == "I" and pil.format == "PNG":  # 16-bit grey as old Pillow widens it
        image = _upper_8_bits(np.asarray(pil))
    elif pil.mode in ("I", "F"):
        raise InvalidImage(
            f"a PIL image of mode {pil.mode} has no fixed range from black to white",
            hint="scale its values to 0-255 and convert it to mode L or RGB",
        )
    else:
        if "transparency" in pil.info:  # a palette's alpha is dropped like any other
            pil = pil.copy()
            del pil.info["transparency"]
        image = np.array(pil.convert("RGB"), np.uint8)
    return _upright(image, orientation)


def _upper_8_bits(grey: NDArray[np.integer]) -> NDArray[np.uint8]:
    """(H, W, 3) of 16-bit grey."""
    return np.repeat((grey >> 8).astype(np.uint8)[:, :, np.newaxis], 3, axis=2)


def _check_chunks(data: bytes | memoryview) -> None:
    """Refuse a PNG of very many chunks: Pillow takes ten seconds for a million.

    Raises:
        InvalidImage: It has more than `MAX_SEGMENTS` chunks without pixels, or more than
            `MAX_PIXEL_CHUNKS` with pixels, which may be empty.
    """
    position, others, pixels = 8, 0, 0
    while position + 8 <= len(data):
        kind = bytes(data[position + 4 : position + 8])
        if kind == b"IEND":  # what lies behind the end is not read
            return
        if kind in PIXEL_CHUNKS:
            pixels += 1
        else:
            others += 1
        if others > MAX_SEGMENTS:
            raise InvalidImage(f"the PNG has more than {MAX_SEGMENTS} chunks without pixels")
        if pixels > MAX_PIXEL_CHUNKS:
            raise InvalidImage(f"the PNG has more than {MAX_PIXEL_CHUNKS} chunks of pixels")
        position += 12 + int.from_bytes(data[position : position + 4], "big")


def _is_webp(head: bytes | memoryview) -> bool:
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def _declared_size(head: bytes) -> tuple[int, int] | None:
    """Width and height from the first 30 bytes of a PNG or WebP file; None for other files.

    Source: PNG (RFC 2083) 4.1.1; WebP container (RFC 9649) 2.5 to 2.7.
    """
    if head[:8] == PNG_MAGIC and head[12:16] == b"IHDR" and len(head) >= 24:
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    if not _is_webp(head) or len(head) < 30:
        return None
    if head[12:16] == b"VP8X":
        width, height = head[24:27], head[27:30]
        return int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if head[12:16] == b"VP8 ":
        width, height = head[26:28], head[28:30]
        return int.from_bytes(width, "little") & 0x3FFF, int.from_bytes(height, "little") & 0x3FFF
    return None


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


def _scan_segments(data: bytes | memoryview) -> int:
    """Read the segments of a JPEG, and refuse one that would take long to decode.

    Returns:
        EXIF orientation, 1-8; 1 where there is none.

    Raises:
        InvalidImage: It has too many scans or segments.
    """
    orientation = None
    components = scans = 0
    for number, (marker, segment) in enumerate(_segments(data)):
        if number == MAX_SEGMENTS:
            raise InvalidImage(f"the JPEG has more than {MAX_SEGMENTS} segments")
        if marker == APP1 and orientation is None and not scans and segment[:6] == EXIF_MAGIC:
            orientation = exif_orientation(bytes(segment))
        elif marker in SEQUENTIAL and len(segment) > 5:
            components = segment[5]
        elif marker == SOS and len(segment) > 0:
            if segment[0] == components:  # not progressive, and all is here: libjpeg takes no more
                break
            scans += 1
            if scans > MAX_SCANS:
                raise InvalidImage(
                    f"the JPEG has more than {MAX_SCANS} scans",
                    hint="save it again, not progressive",
                )
    return orientation or 1


def _is_cmyk(data: bytes | memoryview) -> bool:
    frames = (segment for marker, segment in _segments(data) if marker in (*SEQUENTIAL, 0xC2))
    return any(len(frame) > 5 and frame[5] == 4 for frame in frames)


def _segments(data: bytes | memoryview) -> Iterator[tuple[int, memoryview]]:
    """Marker and content of each segment of a JPEG, up to its end."""
    view, position = memoryview(data), 2
    while found := _MARKER.search(view, position):
        position = found.end()
        marker = view[position - 1]
        if marker == EOI:
            return
        if marker in WITHOUT_LENGTH:
            continue
        end = position + int.from_bytes(view[position : position + 2], "big")
        yield marker, view[position + 2 : end]
        position = max(position, end)


def _upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation (Exif 2.32, table of tag 0x0112)."""
    if orientation == 1:
        return image
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    # Axes to mirror after the transpose of 5-8: (vertical, horizontal).
    vertical, horizontal = {
        2: (False, True), 3: (True, True), 4: (True, False), 5: (False, False),
        6: (False, True), 7: (True, True), 8: (True, False),
    }[orientation]  # fmt: skip
    image = image[:: -1 if vertical else 1, :: -1 if horizontal else 1]
    return np.ascontiguousarray(image)
