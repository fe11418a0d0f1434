"""PNG: chunks are read here, rows are unpacked by Pillow's codec, and none may be missing.

Pillow takes the end of the packed stream as the end of the image: rows that are missing would be
black. And it gives up a sound image for damage of a chunk that nobody needs.
"""

from __future__ import annotations

import math
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
    PACKED_TEXTS,
    Chunk,
    PngChunks,
    ReadAt,
    exif_and_xmp,
    in_memory,
    png_chunks,
    png_header,
    sound_content,
)

# CPU time of the slowest files that were found, on a core of 2.6 GHz: see docs/reference/http.md.
# By inflated byte, byte that is inflated, pixel; by any byte, any chunk, and one with pixels; for
# the one packet of XMP that is unpacked.
PNG_NS = {"raw_byte": 8, "byte": 25, "pixel": 10, "any_byte": 1, "chunk": 900, "pixel_chunk": 1200,
      "packed_xmp": 1_500_000}  # fmt: skip
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
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PALETTE = 3
# First column and row, and steps between them, of the passes of an interlaced image (2.6).
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
           (0, 1, 1, 2))  # fmt: skip
STAMP = bytes(range(90, 250, 5))  # what the last pixels are before the rows are unpacked
_UNPACKED_AT_A_TIME = 2**11  # bytes: unpacked, a thousand times as many at most
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

    def passes(self) -> list[tuple[int, int]]:
        """Number of rows, and bytes of each with that of its filter, of each pass with pixels."""
        across, down = self.width, self.height
        sides = [(across, down)]
        if self.interlaced:
            sides = [(math.ceil((across - x) / step_x), math.ceil((down - y) / step_y))
                     for x, y, step_x, step_y in _PASSES]  # fmt: skip
        bits = self.depth * _CHANNELS[self.colour]
        return [(rows, 1 + math.ceil(columns * bits / 8))
                for columns, rows in sides if columns > 0 and rows > 0]  # fmt: skip

    def last(self) -> tuple[int, int, int]:
        """Column and row of the pixels that come last, and how many lie side by side there."""
        beside = min(self.width, len(STAMP))
        x, y = self.width - beside, self.height - 1
        if not self.interlaced:
            return x, y, beside
        if self.height > 1:  # the last pass has the odd rows
            return x, self.height - 1 - self.height % 2, beside
        return max(0, self.width - 1 - self.width % 2), 0, 1  # the one before, the odd columns


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
    pixels, raw = width * height, height * (1 + math.ceil(width * depth * channels / 8))
    drawn = sum(chunk.length for chunk in chunks.pixels)
    if drawn > raw + raw // 16 + SPARE_BYTES:  # blocks that hold nothing take 80 ns a byte
        raise InvalidImage(
            f"the PNG is damaged: it has {drawn} packed bytes for pixels of {raw} bytes"
        )
    cpu_ns: float = PNG_NS["raw_byte"] * raw + PNG_NS["pixel"] * pixels
    cpu_ns *= INTERLACED if data[28:29] == b"\x01" else 1
    cpu_ns += PNG_NS["byte"] * drawn
    cpu_ns += PNG_NS["any_byte"] * len(data) + PNG_NS["chunk"] * chunks.total
    cpu_ns += PNG_NS["pixel_chunk"] * len(chunks.pixels)
    cpu_ns += PNG_NS["packed_xmp"] * any(part.kind in PACKED_TEXTS for part in chunks.metadata)
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
    """The image as stored, in a mode of Pillow.

    The last pixels are something before the rows are unpacked. Where they are that still, either it
    is what they should be or they were not there.
    """
    mode, raw_mode = _MODES[header.depth, header.colour]
    image = Image.new(mode, (header.width, header.height))
    x, y, beside = header.last()
    stamp = Image.new(mode, (beside, 1))
    stamp.frombytes((STAMP * 4)[: len(stamp.tobytes())])
    image.paste(stamp, (x, y))
    try:
        image.frombytes(packed, "zip", raw_mode, int(header.interlaced))
    except ValueError as error:
        raise InvalidImage(f"{_DAMAGED}: {_what_lacks(packed, header) or error}") from error
    if image.crop((x, y, x + beside, y + 1)).tobytes() == stamp.tobytes():
        lacks = _what_lacks(packed, header)
        if lacks:
            raise InvalidImage(f"{_DAMAGED}: {lacks}")
    return image


def _what_lacks(packed: bytes | memoryview, header: _Header) -> str:
    """How many rows there are; empty where all are."""
    passes = header.passes()
    wanted, found = sum(rows * size for rows, size in passes), 0
    unpacker = zlib.decompressobj()
    view = memoryview(packed)
    try:
        for begin in range(0, len(view), _UNPACKED_AT_A_TIME):
            found += len(unpacker.decompress(view[begin : begin + _UNPACKED_AT_A_TIME]))
            if found >= wanted or unpacker.eof:
                break
    except zlib.error as error:
        return f"its rows cannot be unpacked ({error})"
    if found >= wanted:
        return ""
    rows = 0
    for count, size in passes:
        there = min(count, found // size)
        rows, found = rows + there, found - there * size
    of = " of its passes" if header.interlaced else ""
    return f"{rows} of {sum(count for count, _ in passes)} rows{of} are there"
