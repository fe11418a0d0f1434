"""PNG: chunks are read here, rows are unpacked by Pillow's codec, and none may be missing.

Pillow takes the end of the packed stream as the end of the image: rows that are missing would be
black. And it gives up a sound image for damage of a chunk that nobody needs.
"""

from __future__ import annotations

import math
import os
import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seatrial.detect.decode_cost import DecodeCost, OnCost, declared_size
from seatrial.detect.pixels import check_size, rgb, upright
from seatrial.errors import InvalidImage
from seatrial.system.images import orientation
from seatrial.system.png import (
    Chunk,
    PngChunks,
    ReadAt,
    exif_and_xmp,
    in_memory,
    packed_xmp_bytes,
    png_chunks,
    png_header,
    sound_content,
)

# CPU time of the slowest files that were found, on a core of 2.6 GHz: see docs/reference/http.md.
# By inflated byte, byte that is inflated, pixel; by any byte, any chunk, and one with pixels; for
# the one packet of XMP that is unpacked, and by byte of it. A byte of pixels takes 20, and 85 in
# blocks that hold nothing, which are no longer than what is inflated.
PNG_NS = {"raw_byte": 8, "byte": 40, "pixel": 10, "any_byte": 1, "chunk": 900, "pixel_chunk": 1200,
      "packed_xmp": 1_500_000, "xmp_byte": 85}  # fmt: skip
SPARE_BYTES = 4096  # of packed pixels, beyond a sixteenth more than they have unpacked
INTERLACED = 1.6  # times the time of one pass
# Bytes for each pixel, beside the file: in Pillow, as RGB, and turned. Of several chunks of pixels
# a copy is made that is in one piece.
PIXEL_BYTES = 10
# Depth and colour type -> mode and raw mode of Pillow (RFC 2083, 4.1.1).
_MODES = {
    (1, 0): ("1", "1"), (2, 0): ("L", "L;2"), (4, 0): ("L", "L;4"), (8, 0): ("L", "L"),
    (16, 0): ("L", "L;16B"), (8, 2): ("RGB", "RGB"), (16, 2): ("RGB", "RGB;16B"),
    (1, 3): ("P", "P;1"), (2, 3): ("P", "P;2"), (4, 3): ("P", "P;4"), (8, 3): ("P", "P"),
    (8, 4): ("LA", "LA"), (16, 4): ("RGBA", "LA;16B"), (8, 6): ("RGBA", "RGBA"),
    (16, 6): ("RGBA", "RGBA;16B"),
}  # fmt: skip
_PIXEL_BITS = {"1": 1, "L": 8, "P": 8, "LA": 16, "RGB": 24, "RGBA": 32}
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PALETTE = 3
# First column and row, and steps between them, of the passes of an interlaced image (2.6).
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
           (0, 1, 1, 2))  # fmt: skip
_ONE_PASS = ((0, 0, 1, 1),)
# The last pixels of each row before the rows are unpacked. Nobody outside knows it, so a row of
# `SURE_BITS` that is like it was not unpacked; fewer may be like it by chance.
STAMP = os.urandom(256)
_OTHER_STAMP = bytes(255 - byte for byte in STAMP)
SURE_BITS = 64
# Images that are narrower may be unpacked twice; the second of those of one bit a pixel.
NARROW_PX, NARROW_1_BIT_PX = 16, 128
_DAMAGED = "the PNG is damaged or cut off"


class _Header(NamedTuple):
    """Size in pixels, bits of a channel, colour type (0, 2, 3, 4, 6), and how it is packed."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool

    @classmethod
    def of(cls, content: bytes) -> _Header:
        width, height = (int.from_bytes(content[place : place + 4], "big") for place in (0, 4))
        depth, colour, packing, filtering, interlacing = content[8:13]
        if (depth, colour) not in _MODES or packing or filtering or interlacing > 1:
            raise InvalidImage(
                f"{_DAMAGED}: its header says colours or a packing that do not exist "
                f"({', '.join(str(value) for value in content[8:13])})"
            )
        return cls(width, height, depth, colour, interlacing == 1)

    def passes(self) -> tuple[tuple[int, int, int, int], ...]:
        """First column and row, and steps between them, of each pass that has pixels."""
        return _passes(self.width, self.height, self.interlaced)


def _passes(width: int, height: int, interlaced: bool) -> tuple[tuple[int, int, int, int], ...]:
    """See `_Header.passes`."""
    passes = _PASSES if interlaced else _ONE_PASS
    return tuple(one for one in passes if one[0] < width and one[1] < height)


def _raw_bytes(width: int, height: int, pixel_bits: int, interlaced: bool) -> int:
    """Bytes of the rows of all passes, each with its filter, before they are packed."""
    return sum(
        len(range(top, height, down)) * (1 + -(-len(range(left, width, right)) * pixel_bits // 8))
        for left, top, right, down in _passes(width, height, interlaced)
    )


def png_cost(data: bytes | memoryview) -> DecodeCost:
    """Cost of a PNG, by its header (RFC 2083, 4.1.1) and the number of its chunks.

    Raises:
        InvalidImage: See `seatrial.system.png.png_chunks`.
        UnsupportedImage: See there.
    """
    return _cost(data, png_chunks(in_memory(data)))


def _cost(data: bytes | memoryview, chunks: PngChunks) -> DecodeCost:
    width, height = (int.from_bytes(data[place : place + 4], "big") for place in (16, 20))
    depth, colour = (data[24], data[25]) if len(data) > 25 else (8, 2)
    channels = _CHANNELS.get(colour, 4)
    pixels, interlaced = width * height, data[28:29] == b"\x01"
    raw = _raw_bytes(width, height, depth * channels, interlaced)
    drawn = sum(chunk.length for chunk in chunks.pixels)
    if drawn > raw + raw // 16 + SPARE_BYTES:
        raise InvalidImage(
            f"the PNG is damaged: it has {drawn} packed bytes for pixels of {raw} bytes"
        )
    cpu_ns: float = PNG_NS["raw_byte"] * raw + PNG_NS["pixel"] * pixels
    cpu_ns *= INTERLACED if interlaced else 1
    cpu_ns += PNG_NS["byte"] * drawn
    if width < (NARROW_1_BIT_PX if depth * channels == 1 else NARROW_PX):
        cpu_ns *= 2
    cpu_ns += PNG_NS["any_byte"] * len(data) + PNG_NS["chunk"] * chunks.total
    cpu_ns += PNG_NS["pixel_chunk"] * len(chunks.pixels)
    if packed_xmp := packed_xmp_bytes(in_memory(data), chunks.metadata):
        cpu_ns += PNG_NS["packed_xmp"] + PNG_NS["xmp_byte"] * packed_xmp
    copied = min(len(data), drawn) if len(chunks.pixels) > 1 else 0
    return DecodeCost(1e-9 * cpu_ns, pixels * PIXEL_BYTES + copied)


def decode_png(data: bytes | memoryview, max_pixels: int, on_cost: OnCost) -> NDArray[np.uint8]:
    """The pixels of a PNG, upright: (H, W, 3) uint8 RGB, see `seatrial.detect.decode.decode`.

    Chunks that have no pixels, colours or orientation are not looked at. An index that the palette
    lacks is black, as in libpng.

    Raises:
        InputTooLarge: It has more pixels than allowed.
        InvalidImage: It is damaged: its header, palette, or pixels, by their checksums too; or
            rows are missing.
        UnsupportedImage: It is of Apple's own kind.
    """
    size = declared_size(bytes(data[:30]))
    if size is not None:
        check_size(*size, max_pixels)
    read = in_memory(data)
    chunks = png_chunks(read)
    header = _Header.of(png_header(read, chunks.header))
    check_size(header.width, header.height, max_pixels)
    cost = _cost(data, chunks)
    cost.check(max_pixels)
    on_cost(cost)
    palette = _palette(read, chunks.palettes) if header.colour == _PALETTE else b""
    image = _unpacked(_packed(data, chunks.pixels), header)
    if palette:
        image.putpalette(palette.ljust(768, b"\0"))
    return upright(rgb(image), orientation(*exif_and_xmp(read, chunks.metadata)))


def _palette(read: ReadAt, palettes: tuple[Chunk, ...]) -> bytes:
    if len(palettes) != 1:
        found = "it has more than one palette" if palettes else "its palette is missing"
        raise InvalidImage(f"{_DAMAGED}: {found}")
    colours = bytes(sound_content(read, palettes[0]) or b"")
    if len(colours) % 3 or not 3 <= len(colours) <= 768:
        raise InvalidImage(f"{_DAMAGED}: its palette is broken")
    return colours


def _packed(data: bytes | memoryview, pixels: tuple[Chunk, ...]) -> bytes | memoryview:
    """The packed rows; of the last chunk, what there is, where the file ends within it."""
    view, parts = memoryview(data), []
    for _, start, length in pixels:  # there may be fifty thousand
        end = start + length
        checksum = view[end : end + 4]
        # It is over the kind and the content. Where it is cut off, rows tell whether all is there.
        if len(checksum) == 4 and zlib.crc32(view[start - 4 : end]) != int.from_bytes(checksum):
            raise InvalidImage(f"{_DAMAGED}: the checksum of its pixels is wrong")
        parts.append(view[start:end])
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _unpacked(packed: bytes | memoryview, header: _Header) -> Image.Image:
    image, there = _by_codec(packed, header, STAMP)
    wanted = sum(len(_rows(header, one)) for one in header.passes())
    if there < wanted and not _is_sure(header):
        image, again = _by_codec(packed, header, _OTHER_STAMP)
        there = max(there, again)  # no row is like both
    if there < wanted:
        of = " of its passes" if header.interlaced else ""
        raise InvalidImage(f"{_DAMAGED}: {there} of {wanted} rows{of} are there")
    return image


def _by_codec(
    packed: bytes | memoryview, header: _Header, pattern: bytes
) -> tuple[Image.Image, int]:
    """The image, unpacked over a pattern, and how many rows are not like it up to the last one."""
    mode, raw_mode = _MODES[header.depth, header.colour]
    image = Image.new(mode, (header.width, header.height))
    left = _stamped_from(header)
    row_bytes = -(-(header.width - left) * _PIXEL_BITS[mode] // 8)
    row = (pattern * -(-row_bytes // len(pattern)))[:row_bytes]
    stamp = Image.frombytes(mode, (header.width - left, header.height), row * header.height)
    image.paste(stamp, (left, 0))
    try:
        image.frombytes(packed, "zip", raw_mode, int(header.interlaced))
    except ValueError as error:  # Pillow's words for a stream that is not at its end
        if "not enough" not in str(error):
            raise InvalidImage(f"{_DAMAGED}: its rows cannot be unpacked") from error
    last = header.passes()[-1]
    bottom = _rows(header, last)[-1]
    box = (left, bottom, header.width, bottom + 1)
    columns = _columns(header, last)
    written = _differ(image.crop(box), stamp.crop((0, bottom, header.width - left, bottom + 1)))
    if written[:, columns].any():
        return image, sum(len(_rows(header, one)) for one in header.passes())
    written = _differ(image.crop((left, 0, header.width, header.height)), stamp)
    marks = np.concatenate([
        written[_rows(header, one)][:, _columns(header, one)].any(1) for one in header.passes()
    ])  # fmt: skip
    return image, int(np.max(np.nonzero(marks)[0], initial=-1)) + 1


def _differ(image: Image.Image, other: Image.Image) -> NDArray[np.bool_]:
    """(H, W), which pixels of two images differ."""
    differ = np.asarray(image) != np.asarray(other)
    return differ if differ.ndim == 2 else np.asarray(differ.any(2))


def _stamped_from(header: _Header) -> int:
    """The first column of the pattern."""
    step = max(step for _, _, step, _ in header.passes())
    mode, _ = _MODES[header.depth, header.colour]
    return max(0, header.width - step * math.ceil(SURE_BITS / _PIXEL_BITS[mode]))


def _rows(header: _Header, one: tuple[int, int, int, int]) -> range:
    """The rows of a pass."""
    return range(one[1], header.height, one[3])


def _columns(header: _Header, one: tuple[int, int, int, int]) -> range:
    """The columns of a pass within the pattern."""
    left, (first, _, step, _) = _stamped_from(header), one
    return range((first - left) % step if left > first else first - left, header.width - left, step)


def _is_sure(header: _Header) -> bool:
    """Whether a last row that is like the pattern was not unpacked, and is not so by chance."""
    mode, _ = _MODES[header.depth, header.colour]
    pixels = len(_columns(header, header.passes()[-1]))
    return pixels * _PIXEL_BITS[mode] >= SURE_BITS
