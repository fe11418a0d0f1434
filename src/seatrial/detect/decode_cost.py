"""Cost of decoding an image file, read from its headers alone.

The cost follows from the structure of a file, not from its length: each scan of a progressive JPEG
walks all blocks of its components, and 2 KB of WebP stand for as many pixels as one likes. The
figures are those of the slowest files that were found: a large file took up to 1.3 times as long, a
small one 1.8 times. `benchmarks/costly_inputs.py` looks for files that take longer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator

import msgspec

from seatrial.errors import InvalidImage, UnsupportedImage
from seatrial.system.images import EXIF_MAGIC, XMP_MAGIC, orientation
from seatrial.system.png import PNG_MAGIC

# CPU time that an image may take to decode, for each pixel that a service lets in. An ordinary
# photo takes 10 to 35 of a progressive JPEG, and 20 to 45 in other formats.
NS_PER_PIXEL = 50
ALWAYS_S = 0.05  # that a small limit of pixels leaves all the same
# Encoders write about 10 scans.
MAX_SCANS = 32
MAX_SEGMENTS = 2000
# CPU time of the slowest files that were found, on a core of 2.6 GHz: see docs/reference/http.md.
# Of a JPEG: by block of 8 x 8 in each scan of its component, by byte of a scan, and by block when
# pixels are made; those of a progressive JPEG may be smoothed.
SEQUENTIAL_NS = {"block": 50, "byte": 20, "output": 70}
PROGRESSIVE_NS = {"block": 80, "byte": 35, "output": 150}
WEBP_NS = {"pixel": 42, "byte": 16}
CMYK_NS, TURN_NS = 12, 3  # by pixel
# Pillow looks at each byte before the first scan of a JPEG, and takes some time for any file.
PILLOW_HEAD_NS, PILLOW_NS = 120, 600_000
# Bytes for each pixel that decoding takes at its peak, beside the file. Measured by the same.
COEFFICIENT_BYTES = 2  # libjpeg keeps those of all blocks of a JPEG of several scans
RGB_BYTES, CMYK_BYTES = 3, 4
WEBP_BYTES = 20  # two canvases, a copy of the frame, Pillow's image and RGB

_SAVE_AGAIN = "save it again as an ordinary JPEG"
# A marker, which neither a stuffed byte nor a restart in the pixel data is (ITU T.81 B.1.1.2).
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
APP1, SOS, EOI, WITHOUT_LENGTH = 0xE1, 0xDA, 0xD9, (0x01, 0xD8)
SEQUENTIAL, PROGRESSIVE = (0xC0, 0xC1), 0xC2
# The other frames (T.81, table B.1): lossless, of several images, or coded arithmetically.
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_LS = 0xF7  # frame of ISO 14495-1
COEFFICIENTS = 64  # of a block
NOT_CODED = -1
# Sampling of the first of three components beside others of (1, 1) that libjpeg-turbo's reader has
# by name. Others that it may have are found by asking it.
USUAL_SAMPLING = frozenset({(1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (1, 4)})


class DecodeCost(msgspec.Struct, frozen=True):
    """Upper bound of the cost of decoding.

    Attributes:
        cpu_s: CPU time of one core, seconds.
        peak_bytes: Memory at the same time, without the file.
    """

    cpu_s: float
    peak_bytes: int

    def check(self, max_pixels: int) -> None:
        """Refuse what takes longer than an image of the largest size may.

        Raises:
            InvalidImage: It does.
        """
        limit_s = max(ALWAYS_S, 1e-9 * NS_PER_PIXEL * max_pixels)
        if self.cpu_s > limit_s:
            raise InvalidImage(
                f"the image would take up to {1e3 * self.cpu_s:.0f} ms to decode, over the limit "
                f"of {1e3 * limit_s:.0f} ms",
                hint="save it as a JPEG that is not progressive, or smaller",
            )


OnCost = Callable[[DecodeCost], object]
"""Called with what an image costs before it is decoded; what it raises refuses the image."""


class Jpeg(msgspec.Struct, frozen=True):
    """The structure of a JPEG.

    Attributes:
        orientation: By EXIF or XMP, 1-8; 1 where there is none.
        cost: What it takes to decode.
        components: Number of its colours; 0 without a frame.
        size: (width, height) as stored, pixels.
        head_bytes: Length before the coded blocks.
        usual: Whether its components are sampled as those of nearly all files.
        lacking: Numbers of the components that no scan has blocks of, from 1 on.
        coarse: Whether it is progressive, and coefficients, or bits of them, are in no scan.
    """

    orientation: int
    cost: DecodeCost
    components: int = 0
    size: tuple[int, int] = (0, 0)
    head_bytes: int = 0
    usual: bool = True
    lacking: tuple[int, ...] = ()
    coarse: bool = False

    def check_scans(self) -> None:
        """Refuse an image without the blocks of a component: libjpeg would make them grey.

        Raises:
            InvalidImage: A component is in no scan.
        """
        if self.lacking:
            names = ", ".join(map(str, self.lacking))
            raise InvalidImage(
                f"the JPEG is damaged or cut off: it has no pixels of component {names} of "
                f"{self.components}"
            )

    @property
    def cost_by_pillow(self) -> DecodeCost:
        """Cost where Pillow reads the segments."""
        head_s = 1e-9 * (PILLOW_NS + PILLOW_HEAD_NS * self.head_bytes)
        return DecodeCost(self.cost.cpu_s + head_s, self.cost.peak_bytes)


class _Frame(msgspec.Struct, frozen=True):
    """Size in pixels, and the number of blocks and the sampling of each component by its name."""

    width: int
    height: int
    progressive: bool
    blocks: dict[int, int]
    sampling: dict[int, tuple[int, int]]

    @property
    def usual(self) -> bool:
        first, *others = self.sampling.values()
        return not others or (first in USUAL_SAMPLING and set(others) == {(1, 1)})


class _Coded:
    """Lowest bit of each coefficient that the scans of a JPEG have of its components."""

    def __init__(self, frame: _Frame) -> None:
        self._frame = frame
        self._bits = {name: [NOT_CODED] * COEFFICIENTS for name in frame.blocks}

    def add(self, scan: memoryview) -> None:
        """Count a scan by its header (T.81, B.2.3)."""
        rest = 1 + 2 * scan[0]
        first, last, before, low = 0, COEFFICIENTS - 1, 0, 0
        if self._frame.progressive and len(scan) >= rest + 3:
            first, last = scan[rest], min(scan[rest + 1], last)
            before, low = scan[rest + 2] >> 4, scan[rest + 2] & 15
        for name in scan[1:rest:2]:
            bits = self._bits.get(name, [])
            for place in range(first, min(last + 1, len(bits))):
                if before in (0, bits[place]):  # a scan that refines needs the one before it
                    bits[place] = low

    def lacking(self) -> tuple[int, ...]:
        """Numbers of the components without a mean of any block."""
        rows = enumerate(self._bits.values(), 1)
        return tuple(number for number, bits in rows if bits[0] == NOT_CODED)

    def coarse(self) -> bool:
        """Whether there is less than all bits of all coefficients."""
        return any(bit for bits in self._bits.values() for bit in bits)


def read_jpeg(data: bytes | memoryview) -> Jpeg:
    """Read the segments of a JPEG; no pixel is decoded.

    Raises:
        InvalidImage: It has too many scans or segments, or two frames.
        UnsupportedImage: It is lossless, hierarchical, or coded arithmetically.
    """
    exif = xmp = b""
    frame: _Frame | None = None
    coded: _Coded | None = None
    scans = walked = 0
    begin, finish = len(data), len(data)  # of the coded blocks
    for number, (marker, start, end) in enumerate(_segments(data)):
        if number == MAX_SEGMENTS:
            raise InvalidImage(f"the JPEG has more than {MAX_SEGMENTS} segments")
        segment = memoryview(data)[start:end]
        if marker == EOI:
            finish = start
        elif marker == APP1 and not scans:
            if not exif and segment[:6] == EXIF_MAGIC:
                exif = bytes(segment)
            elif not xmp and segment[: len(XMP_MAGIC)] == XMP_MAGIC:
                xmp = bytes(segment[len(XMP_MAGIC) :])
        elif marker in FRAMES or (marker == JPEG_LS and frame is None):
            if frame is not None:
                raise InvalidImage("the JPEG has two frames")
            frame = _frame(marker, segment)
            coded = _Coded(frame)
        elif marker == SOS and frame is not None and coded is not None and len(segment) > 0:
            scans += 1
            coded.add(segment)
            named = segment[1 : 1 + 2 * segment[0] : 2]
            walked += sum(frame.blocks.get(name, 0) for name in named)
            begin = min(begin, end)
            # Not progressive, and all is here: libjpeg takes no more.
            if not frame.progressive and segment[0] == len(frame.blocks):
                break
            if scans > MAX_SCANS:
                raise InvalidImage(
                    f"the JPEG has more than {MAX_SCANS} scans",
                    hint="save it again, not progressive",
                )
    turned = orientation(exif, xmp)
    if frame is None or coded is None:
        return Jpeg(turned, DecodeCost(0.0, 0))
    return Jpeg(
        turned,
        _jpeg_cost(frame, walked, finish - begin, turned != 1, scans > 1),
        components=len(frame.blocks),
        size=(frame.width, frame.height),
        head_bytes=begin,
        usual=frame.usual,
        lacking=coded.lacking(),
        coarse=frame.progressive and coded.coarse(),
    )


def _jpeg_cost(frame: _Frame, walked: int, coded: int, turned: bool, stored: bool) -> DecodeCost:
    ns = PROGRESSIVE_NS if frame.progressive else SEQUENTIAL_NS
    pixels, blocks = frame.width * frame.height, sum(frame.blocks.values())
    cmyk = len(frame.blocks) == 4
    # A film behind the one scan of a sequential JPEG is no part of it: 64 values of 26 bits.
    coded = min(coded, 208 * walked)
    conversion_ns = (CMYK_NS * cmyk + TURN_NS * turned) * pixels
    cpu_ns = walked * ns["block"] + coded * ns["byte"] + blocks * ns["output"] + conversion_ns
    held = 64 * COEFFICIENT_BYTES * blocks * (stored or frame.progressive)
    held += pixels * (RGB_BYTES * (1 + turned) + CMYK_BYTES * cmyk)
    return DecodeCost(1e-9 * cpu_ns, held)


def _frame(marker: int, segment: memoryview) -> _Frame:
    if marker not in (*SEQUENTIAL, PROGRESSIVE):
        raise UnsupportedImage(
            f"the JPEG is coded in a way that is not read (frame FF{marker:02X}: lossless, "
            "hierarchical or arithmetic)",
            hint=_SAVE_AGAIN,
        )
    bits = segment[0] if len(segment) > 0 else 8
    if bits == 12:
        raise UnsupportedImage(
            "the JPEG has 12 bits a colour, which are not read", hint=_SAVE_AGAIN
        )
    height, width = (int.from_bytes(segment[place : place + 2], "big") for place in (1, 3))
    count = segment[5] if len(segment) > 5 else 0
    parts = {
        segment[place]: (segment[place + 1] >> 4, segment[place + 1] & 15)
        for place in range(6, min(6 + 3 * count, len(segment) - 2), 3)
    }
    if len(parts) != count or not count or not all(min(sides) > 0 for sides in parts.values()):
        raise InvalidImage("the JPEG header is damaged: its frame is cut off")
    most_x, most_y = (max(sides[axis] for sides in parts.values()) for axis in (0, 1))
    units = math.ceil(width / (8 * most_x)) * math.ceil(height / (8 * most_y))
    blocks = {name: units * across * down for name, (across, down) in parts.items()}
    return _Frame(width, height, marker == PROGRESSIVE, blocks, parts)


def _segments(data: bytes | memoryview) -> Iterator[tuple[int, int, int]]:
    """Marker of each segment of a JPEG up to its end, and where its content begins and ends."""
    view, position = memoryview(data), 2
    while found := _MARKER.search(view, position):
        position = found.end()
        marker = view[position - 1]
        if marker == EOI:
            yield EOI, position, position
            return
        if marker in WITHOUT_LENGTH:
            continue
        end = position + int.from_bytes(view[position : position + 2], "big")
        yield marker, position + 2, end
        position = max(position, end)


def webp_cost(data: bytes | memoryview) -> DecodeCost:
    """Cost of a WebP, by its declared size."""
    width, height = declared_size(bytes(data[:30])) or (0, 0)
    cpu_ns = WEBP_NS["pixel"] * width * height + WEBP_NS["byte"] * len(data)
    return DecodeCost(1e-9 * cpu_ns, width * height * WEBP_BYTES)


def is_webp(head: bytes | memoryview) -> bool:
    """Whether a file begins as a WebP."""
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def declared_size(head: bytes) -> tuple[int, int] | None:
    """Width and height from the first 30 bytes of a PNG or WebP file; None for other files.

    Source: PNG (RFC 2083) 4.1.1; WebP container (RFC 9649) 2.5 to 2.7.
    """
    if head[:8] == PNG_MAGIC and head[12:16] == b"IHDR" and len(head) >= 24:
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    if not is_webp(head) or len(head) < 30:
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
