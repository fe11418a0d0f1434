"""From bytes to pixels. What is refused is refused before it takes memory or time."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from seatrial.detect.decode_cost import (
    DecodeCost,
    OnCost,
    declared_size,
    is_webp,
    read_jpeg,
    webp_cost,
)
from seatrial.detect.encode import png
from seatrial.detect.mistaken import HEAD_BYTES, seems
from seatrial.detect.pixels import check_size, cmyk_to_rgb, pil_to_rgb, upright
from seatrial.detect.png import decode_png, png_cost
from seatrial.errors import (
    InputTooLarge,
    InvalidDataset,
    InvalidImage,
    InvalidInput,
    Overloaded,
    UnsupportedImage,
    naming,
)
from seatrial.system.files import read_bytes
from seatrial.system.images import (
    DAMAGE,
    FILE_FORMATS,
    MISSING,
    SERVED,
    SERVED_FORMATS,
    file_formats,
    missing_format,
    unread_pixels,
)
from seatrial.system.png import PNG_MAGIC

JPEG_MAGIC = b"\xff\xd8\xff"
# libjpeg's warning (JWRN_EXTRANEOUS_DATA) where all blocks were read and bytes are left before EOI.
_EXTRANEOUS = "extraneous bytes before marker 0xd9"
EXTRANEOUS = "has bytes before its end marker that belong to no pixel; the image is whole"
COARSE_SCANS = "lacks scans of a progressive JPEG: its pixels are there without their finest detail"
_AS_RGB = (1, 3)  # numbers of components that libjpeg turns into RGB
# What libjpeg-turbo's reader says of sampling that it has no name for.
_UNKNOWN_SAMPLING = "subsampling"
COARSE = 8  # smallest scale of libjpeg: it reads every block and computes one pixel of each
# First bytes of formats that people take for images; ISO base media names its brand (ISO 23008-12).
_MAGIC = {
    name: re.compile(pattern, re.DOTALL)
    for name, pattern in (
        ("AVIF", rb"....ftypavi[fs]"), ("HEIF", rb"....ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)"),
        ("BMP", rb"BM"), ("GIF", rb"GIF8[79]a"), ("TIFF", rb"II\*\x00|MM\x00\*|II\+\x00"),
        ("JPEG2000", rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51"), ("PSD", rb"8BPS"),
        ("JPEG XL", rb"\xff\x0a|\x00\x00\x00\x0cJXL "), ("SVG", rb"\s*(?:<\?xml[^>]*>\s*)?<svg"),
        ("PDF", rb"%PDF"), ("PPM", rb"P[1-6]\s"), ("JPEG", re.escape(JPEG_MAGIC)),
        ("PNG", re.escape(PNG_MAGIC)), ("WEBP", rb"RIFF....WEBP"),
    )
}  # fmt: skip

OnWarning = Callable[[str], object]
"""Called with what is odd about an image that can be used all the same."""


Room = Callable[[tuple[int, int]], NDArray[np.uint8] | None]
"""Gives memory for an image of a height and width, (H, W, 3) uint8, C-contiguous; or None."""


def _ignore(_: object) -> None:
    pass


def _nowhere(_: tuple[int, int]) -> None:
    return None


def decode(
    data: bytes | memoryview,
    *,
    max_pixels: int,
    formats: tuple[str, ...] = SERVED_FORMATS,
    on_warning: OnWarning = _ignore,
    on_cost: OnCost = _ignore,
    room: Room = _nowhere,
) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG or WebP file.

    Every colour mode becomes RGB: grey is repeated, CMYK converted, 16 bit cut to the upper 8.
    Alpha is dropped, as ``cv2.imread`` does: a transparent pixel shows the colour that it holds.
    An animation gives its first frame, a file of several images the first. The orientation that
    EXIF or XMP states is applied.

    Args:
        data: The whole file.
        max_pixels: Largest width x height, checked in the header; so are `MAX_SIDE_PX` and, of the
            formats that are served, the time that decoding takes: see `decode_cost`.
        formats: Formats that are read; `file_formats` are those of files on disk.
        on_warning: Called with `EXTRANEOUS` where a JPEG has bytes before its end marker that
            belong to no pixel, as webcams write them, and with `COARSE_SCANS` where a progressive
            one lacks scans that it may lack.
        on_cost: Called before an image of a format that is served is decoded.
        room: Gives memory for the pixels of a JPEG that is not turned; it is what is returned then.

    Returns:
        (H, W, 3) uint8 RGB, C-contiguous.

    Raises:
        InvalidInput: There are no bytes.
        UnsupportedImage: The file is in another format; a JPEG is lossless, arithmetic or of 12
            bits; a PNG is of Apple's own kind.
        InputTooLarge: It has more pixels than allowed; nothing was decoded.
        InvalidImage: It is in a known format and damaged, cut off or without pixels, or its headers
            tell that it would take too long, see `decode_cost`. Rows of a PNG, or a component of
            a JPEG, are missing. Damage of the pixels is not noticed, though a cut is, in a JPEG
            whose sampling libjpeg-turbo lacks a name for (CMYK with reduced colours, 3 x 1).
        Overloaded: There is not enough memory for it.
    """
    if not data:
        raise InvalidInput("the image is empty (0 bytes)")
    costs: list[DecodeCost] = []

    def weigh(cost: DecodeCost) -> None:
        on_cost(cost)
        costs.append(cost)

    try:
        if data[:3] == JPEG_MAGIC:
            return _decode_jpeg(data, max_pixels, on_warning, weigh, room)
        if data[:8] == PNG_MAGIC:
            return decode_png(data, max_pixels, weigh)
        return _decode_any(data, max_pixels, formats, on_warning, weigh)
    except InvalidImage as error:
        # Codecs have the same errors for damage and for a lack of memory.
        if costs and not _is_there(costs[0].peak_bytes):
            raise out_of_memory() from error
        error.hint = error.hint or seems(data)
        raise
    except Exception as error:
        if lacks_memory(error):
            raise out_of_memory() from error
        raise


def foretold_cost(data: bytes | memoryview) -> DecodeCost:
    """Upper bound of the cost of decoding a file of a format that is served, from its headers.

    It is nothing for a file that `decode` refuses by its headers.
    """
    try:
        return read_jpeg(data).cost if data[:3] == JPEG_MAGIC else _cost_of_others(data)
    except InvalidInput:
        return DecodeCost(0.0, 0)


def _is_there(size_bytes: int) -> bool:
    try:
        np.empty(size_bytes, np.uint8)  # no page of it is touched
    except MemoryError:
        return False
    return True


def lacks_memory(error: Exception) -> bool:
    """Whether an error of Python or of OpenCV tells that memory could not be had."""
    code = getattr(error, "code", None) if isinstance(error, cv2.error) else None
    return isinstance(error, MemoryError) or code == cv2.Error.StsNoMem


def out_of_memory() -> Overloaded:
    """The error of an image that there is no memory for: it is as sound as any other."""
    return Overloaded(
        "there is not enough memory for the image",
        hint="send fewer or smaller images at a time",
        reason="memory",
    )


def decode_file(
    path: Path, *, max_pixels: int, on_warning: OnWarning = _ignore
) -> NDArray[np.uint8]:
    """Read and decode a file of any format that can be read; see `decode`.

    The messages of its errors name the file.
    """
    data = read_bytes(path)
    with naming(path):
        return decode(data, max_pixels=max_pixels, formats=file_formats(), on_warning=on_warning)


def read_image(path: Path, *, max_pixels: int, hint: str) -> NDArray[np.uint8]:
    """Read and decode an image of a folder or of a labelled set; see `decode_file`.

    Raises:
        InvalidDataset: It cannot be read or decoded; `hint` says what to do about it.
    """
    try:
        return decode_file(path, max_pixels=max_pixels)
    except InvalidInput as error:
        raise InvalidDataset(error.message, hint=hint) from error


def as_served(data: bytes, *, max_pixels: int) -> bytes:
    """A file of any format in one that services take: unchanged, or its pixels as a PNG.

    Raises:
        InvalidInput: It cannot be read; see `decode`.
    """
    if data[:3] == JPEG_MAGIC or data[:8] == PNG_MAGIC or is_webp(data):
        return data
    return png(decode(data, max_pixels=max_pixels, formats=file_formats()))


def decoded_size(
    data: bytes, *, max_pixels: int, on_warning: OnWarning = _ignore
) -> tuple[int, int]:
    """(width, height) of the upright image, after the whole file was decoded; see `decode_file`.

    A JPEG is decoded in an eighth of its size, which finds the same damage in less time.
    """
    if data[:3] == JPEG_MAGIC and (header := _read_header(data, max_pixels, _ignore)) is not None:
        _jpeg_pixels(data, header, on_warning, scale=COARSE)
        width, height = header.size
        return (height, width) if header.orientation >= 5 else (width, height)
    height, width = decode(
        data, max_pixels=max_pixels, formats=file_formats(), on_warning=on_warning
    ).shape[:2]
    return width, height


def served_size(data: bytes, *, max_pixels: int) -> tuple[int, int]:
    """(width, height), as stored, of a file that a service takes: it was decoded whole.

    A JPEG is decoded in an eighth of its size; see `decoded_size`.

    Raises:
        SeatrialError: A service with that limit of pixels refuses it; see `decode`.
    """
    if data[:3] == JPEG_MAGIC and (header := _read_header(data, max_pixels, _ignore)) is not None:
        _jpeg_pixels(data, header, _ignore, scale=COARSE)
        return header.size
    decode(data, max_pixels=max_pixels)
    return declared_size(data[:30]) or read_jpeg(data).size


@dataclass(frozen=True, slots=True)
class _JpegHeader:
    """Size (width, height) as stored, pixels; whether it is CMYK; orientation; see `Jpeg`."""

    size: tuple[int, int]
    cmyk: bool
    orientation: int
    coarse: bool


def _read_header(data: bytes | memoryview, max_pixels: int, on_cost: OnCost) -> _JpegHeader | None:
    """The header; None for sampling that libjpeg-turbo's reader lacks and Pillow reads."""
    jpeg = read_jpeg(data)
    if jpeg.components not in _AS_RGB or not jpeg.usual:
        # The library is asked only here: it lets go of Python's lock for a microsecond, and to have
        # that back, with other threads at work, takes far longer.
        try:
            simplejpeg.decode_jpeg_header(data)
        except ValueError as error:
            if jpeg.components == 4 or (jpeg.components == 3 and _UNKNOWN_SAMPLING in str(error)):
                return None
            raise InvalidImage(f"the JPEG header is damaged: {error}") from error
    check_size(*jpeg.size, max_pixels)
    jpeg.check_scans()
    _check_cost(jpeg.cost, max_pixels, on_cost)
    # libjpeg-turbo turns CMYK into CMYK alone.
    return _JpegHeader(jpeg.size, jpeg.components not in _AS_RGB, jpeg.orientation, jpeg.coarse)


def _check_cost(cost: DecodeCost, max_pixels: int, on_cost: OnCost) -> None:
    cost.check(max_pixels)
    on_cost(cost)


def _jpeg_pixels(
    data: bytes | memoryview,
    header: _JpegHeader,
    on_warning: OnWarning,
    *,
    scale: int = 1,
    into: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """(H, W, 3) RGB as stored, or (H, W, 4) CMYK, divided by the scale; in an array of its size."""
    options: dict[str, Any] = {"colorspace": "CMYK" if header.cmyk else "RGB"}
    size_hw = tuple(-(-side // scale) for side in reversed(header.size))
    if scale == 1 and into is None:
        into = np.empty((*size_hw, 4 if header.cmyk else 3), np.uint8)
    if scale > 1:
        options |= {"min_factor": scale, "min_height": 1, "min_width": 1}
    else:  # the library's own idea of the size takes no more memory than was weighed
        options["buffer"] = into
    try:
        # strict: what libjpeg only warns of (data cut off, corrupt blocks) is an error here;
        # other decoders return an image that is half grey.
        image: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, strict=True, **options)
    except ValueError as error:
        # It names the first warning; at the end marker it is the last one too.
        if not str(error).endswith(_EXTRANEOUS):
            raise InvalidImage(f"the JPEG is damaged or cut off: {error}") from error
        image = simplejpeg.decode_jpeg(data, strict=False, **options)
        on_warning(EXTRANEOUS)
    if image.shape[:2] != size_hw:
        raise InvalidImage("the JPEG header is damaged: it tells two sizes")
    if header.coarse:
        on_warning(COARSE_SCANS)
    return image if into is None else into


def _decode_jpeg(
    data: bytes | memoryview,
    max_pixels: int,
    on_warning: OnWarning,
    on_cost: OnCost,
    room: Room,
) -> NDArray[np.uint8]:
    header = _read_header(data, max_pixels, on_cost)
    if header is None:
        return _decode_any(data, max_pixels, SERVED_FORMATS, on_warning, on_cost)
    as_it_is = not header.cmyk and header.orientation == 1
    into = room((header.size[1], header.size[0])) if as_it_is else None
    image = _jpeg_pixels(data, header, on_warning, into=into)
    if header.cmyk:
        image = cmyk_to_rgb(image)
    return upright(image, header.orientation)


def _decode_any(
    data: bytes | memoryview,
    max_pixels: int,
    formats: tuple[str, ...],
    on_warning: OnWarning,
    on_cost: OnCost,
) -> NDArray[np.uint8]:
    head = bytes(data[:30])
    size = declared_size(head)
    if size is not None:  # before Pillow: its WebP plugin reserves the canvas when it opens
        check_size(*size, max_pixels)
    coarse = False
    if data[:3] == JPEG_MAGIC:
        jpeg = read_jpeg(data)
        coarse = jpeg.coarse
        check_size(*jpeg.size, max_pixels)
        jpeg.check_scans()
        cost = jpeg.cost_by_pillow
    else:
        cost = _cost_of_others(data)
    _check_cost(cost, max_pixels, on_cost)
    try:
        with Image.open(io.BytesIO(data), formats=formats) as pil:
            check_size(*pil.size, max_pixels)
            image = pil_to_rgb(pil)
    except UnidentifiedImageError as error:
        if format_of(bytes(data[:32])) in formats:
            if unread := unread_pixels(io.BytesIO(data)):
                raise UnsupportedImage(unread) from error
            raise InvalidImage("the image header is damaged or cut off") from error
        raise _unsupported(bytes(data[:HEAD_BYTES]), formats) from error
    except Image.DecompressionBombError as error:
        raise InputTooLarge(str(error)) from error
    except MemoryError:  # no damage
        raise
    except DAMAGE as error:
        raise InvalidImage(f"the image is damaged or cut off: {error}") from error
    if coarse:
        on_warning(COARSE_SCANS)
    return image


def _cost_of_others(data: bytes | memoryview) -> DecodeCost:
    """Cost of a file that is no JPEG; nothing where its format is not served."""
    if data[:8] == PNG_MAGIC:
        return png_cost(data)
    return webp_cost(data) if is_webp(data[:30]) else DecodeCost(0.0, 0)


def format_of(head: bytes | memoryview) -> str | None:
    """The format that the first bytes of a file tell, by Pillow's name where it has one."""
    return next((name for name, magic in _MAGIC.items() if magic.match(head)), None)


def misnamed(suffix: str, data: bytes) -> str:
    """The format of an image whose suffix is that of another one; empty where they agree."""
    held, named = format_of(data[:32]), (SERVED | FILE_FORMATS).get(suffix.lower())
    boxed = {"AVIF", "HEIF"}  # the same container, with brands in common
    agree = held in (named, None) or named is None or {held, named} == boxed
    return "" if agree else str(held)


def _unsupported(head: bytes, formats: tuple[str, ...]) -> UnsupportedImage:
    """The error for a file in none of the formats, which is named where its first bytes tell."""
    kind = format_of(head)
    if kind is not None and kind in MISSING and formats == file_formats():
        return UnsupportedImage(missing_format(kind))
    known = f"known formats: {', '.join(formats)}"
    if kind is not None:
        return UnsupportedImage(f"the file is in the format {kind}, which is not read", hint=known)
    return UnsupportedImage(
        f"the file is not in a known image format (it starts with {head[:8]!r})",
        hint=seems(head) or known,
    )
