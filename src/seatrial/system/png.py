"""The chunks of a PNG (RFC 2083, section 3): which there are, and what the few that count hold.

Decoders fail on damage of a chunk that nobody reads, and on texts that are long: so no other chunk
than those that are named here is given to one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

from seatrial.errors import InvalidImage, UnsupportedImage

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
HEADER_BYTES = 13
MAX_CHUNKS = 2000  # without pixels
MAX_PIXEL_CHUNKS = 50_000  # more than one for each row of the tallest image
_PIXELS_OF_FRAMES = (b"fcTL", b"fdAT")  # of an animation
# What is looked at. A JPEG has no longer block of EXIF; what it is about is at its beginning.
MAX_EXIF_BYTES, MAX_XMP_BYTES = 2**16, 2**20
_XMP_KEY = b"XML:com.adobe.xmp\0"
_PACKED_TEXTS = (b"iTXt", b"zTXt")  # that may be packed
_TEXTS = (b"tEXt", *_PACKED_TEXTS)
_DAMAGED = "the PNG is damaged or cut off"

_HEAD = struct.Struct(">I4s")  # length of the content, kind

ReadAt = Callable[[int, int], bytes | memoryview]
"""So many bytes from a place of the file on; fewer at its end."""


class Chunk(NamedTuple):
    """One chunk: its kind, where its content begins, and the length of that, bytes."""

    kind: bytes
    start: int
    length: int


class PngChunks(NamedTuple):
    """The chunks that count.

    Attributes:
        header: ``IHDR``.
        palettes: ``PLTE`` before the pixels.
        pixels: The first ``IDAT`` and those that follow it without another chunk between, except
            for empty ones.
        total: Number of all chunks.
        metadata: ``eXIf`` and texts, wherever they are.
    """

    header: Chunk
    palettes: tuple[Chunk, ...]
    pixels: tuple[Chunk, ...]
    metadata: tuple[Chunk, ...]
    total: int


def in_memory(data: bytes | memoryview) -> ReadAt:
    """Reads a file that is here."""
    view = memoryview(data)
    return lambda start, length: view[start : start + length]


def png_chunks(read: ReadAt) -> PngChunks:
    """Find the chunks of a PNG; only their heads are read.

    Raises:
        InvalidImage: It has more than `MAX_CHUNKS` chunks without pixels, more than
            `MAX_PIXEL_CHUNKS` with pixels, which may be empty, or not one header, which is first.
        UnsupportedImage: It is of Apple's own kind.
    """
    palettes: list[Chunk] = []
    pixels: list[Chunk] = []
    metadata: list[Chunk] = []
    first: Chunk | None = None
    others = drawn = 0
    more = True  # the pixels go on
    position = len(PNG_MAGIC)
    # One turn for each chunk of what may be fifty thousand: what is looked at first is the usual.
    while len(head := read(position, _HEAD.size)) == _HEAD.size:
        length, kind = _HEAD.unpack(head)
        chunk = Chunk(kind, position + _HEAD.size, length)
        position += _HEAD.size + length + 4
        if kind == b"IDAT" and first is not None:
            drawn += 1
            if more and length:
                pixels.append(chunk)
            if drawn > MAX_PIXEL_CHUNKS:
                raise InvalidImage(f"the PNG has more than {MAX_PIXEL_CHUNKS} chunks of pixels")
            continue
        if kind == b"IEND":  # what lies behind the end is not read
            break
        if first is None and kind == b"CgBI":
            raise UnsupportedImage(
                "the PNG is of the kind that Xcode packs into apps (CgBI), which is not read",
                hint="save it again as an ordinary PNG",
            )
        if (kind == b"IHDR") != (first is None):  # decoders would take the last one
            raise InvalidImage("the PNG does not begin with its header, or has two")
        first = first or chunk
        drawn += kind in _PIXELS_OF_FRAMES
        others += kind not in _PIXELS_OF_FRAMES
        if others > MAX_CHUNKS:
            raise InvalidImage(f"the PNG has more than {MAX_CHUNKS} chunks without pixels")
        if drawn > MAX_PIXEL_CHUNKS:
            raise InvalidImage(f"the PNG has more than {MAX_PIXEL_CHUNKS} chunks of pixels")
        more = more and not pixels
        if kind == b"PLTE" and more:
            palettes.append(chunk)
        elif kind == b"eXIf" or kind in _TEXTS:
            metadata.append(chunk)
        elif not kind.isalpha() and not pixels:
            raise InvalidImage(f"{_DAMAGED}: a chunk has the kind {kind!r}")
    if first is None:
        raise InvalidImage(f"{_DAMAGED}: it has no header")
    return PngChunks(first, tuple(palettes), tuple(pixels), tuple(metadata), drawn + others)


def png_header(read: ReadAt, header: Chunk) -> bytes:
    """The 13 bytes of the header.

    Raises:
        InvalidImage: They are damaged.
    """
    found = sound_content(read, header) if header.length == HEADER_BYTES else None
    if found is None:
        raise InvalidImage(f"{_DAMAGED}: its header is broken")
    return bytes(found)


def sound_content(read: ReadAt, chunk: Chunk) -> bytes | memoryview | None:
    """The content of a chunk; None where it is cut off or not the one of its checksum."""
    found = read(chunk.start - 4, chunk.length + 8)  # kind, content, checksum
    if len(found) < chunk.length + 8:
        return None
    if zlib.crc32(found[:-4]) != int.from_bytes(found[-4:], "big"):
        return None
    return found[4:-4]


def exif_and_xmp(read: ReadAt, metadata: tuple[Chunk, ...]) -> tuple[bytes, bytes]:
    """The block of EXIF and the packet of XMP of a PNG, each empty where there is none.

    The first of each counts whose checksum is right, as in libpng. The others are left out.
    """
    exif: bytes | None = None
    xmp: bytes | None = None
    for chunk in metadata:
        is_exif = chunk.kind == b"eXIf"
        if (exif if is_exif else xmp) is not None:
            continue  # one packet is unpacked, however many there are
        if not is_exif and bytes(read(chunk.start, len(_XMP_KEY))) != _XMP_KEY:
            continue
        content = sound_content(read, chunk)
        if content is None:
            continue
        if is_exif:
            exif = bytes(content[:MAX_EXIF_BYTES])
        else:
            xmp = _packet(chunk.kind, bytes(content[:MAX_XMP_BYTES]))
    return exif or b"", xmp or b""


def packed_xmp_bytes(read: ReadAt, metadata: tuple[Chunk, ...]) -> int:
    """Most bytes of a packet of XMP that `exif_and_xmp` unpacks; 0 where none may be packed."""
    return max(
        (
            min(chunk.length, MAX_XMP_BYTES)
            for chunk in metadata
            if chunk.kind in _PACKED_TEXTS and bytes(read(chunk.start, len(_XMP_KEY))) == _XMP_KEY
        ),
        default=0,
    )


def _packet(kind: bytes, text: bytes) -> bytes:
    """The packet of XMP in the content of a chunk of text."""
    content = text[len(_XMP_KEY) :]
    packed = kind == b"zTXt"
    if kind == b"iTXt":  # whether it is packed, the method; language and key in it end with 0
        packed = content[:1] == b"\1"
        content = content[1:2] + content[2:].partition(b"\0")[2].partition(b"\0")[2]
    elif not packed:
        return content
    if not packed:
        return content[1:]
    try:
        return zlib.decompressobj().decompress(content[1:], MAX_XMP_BYTES)
    except zlib.error:
        return b""
