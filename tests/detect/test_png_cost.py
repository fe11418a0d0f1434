"""PNG: unpacking takes what its headers foretell, whatever the packed stream holds."""

from __future__ import annotations

import contextlib
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from seatrial.detect.decode import decode
from seatrial.detect.png import PNG_NS, png_cost
from seatrial.errors import InvalidImage
from seatrial.system.png import MAX_XMP_BYTES, PNG_MAGIC

MAX_PIXELS = 25_000_000
SIDE = 600
RAW = SIDE * (3 * SIDE + 1)
KEY = b"XML:com.adobe.xmp\0"
# Eight blocks of deflate with codes of their own and without content, 90 bits each.
EMPTY_BLOCKS = sum(0x6BFF90000000000081C004 << 90 * at for at in range(8)).to_bytes(90, "little")
# What the reference takes on the core that the rates are of, for each inflated byte.
REFERENCE_NS = 14
SLOWEST = 2.5  # times what is foretold: 1.5 to 1.9 were measured


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png(packed: bytes, size: tuple[int, int] = (SIDE, SIDE), *, before: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0))
    return PNG_MAGIC + header + before + chunk(b"IDAT", packed) + chunk(b"IEND")


def photo() -> bytes:
    """Rows as those of a photo: differences of neighbours, packed to six tenths."""
    chance = np.random.default_rng(0)
    rows = chance.normal(0, 6, (SIDE, 3 * SIDE)).astype(np.int8).tobytes()
    return png(zlib.compress(b"".join(
        b"\4" + rows[at : at + 3 * SIDE] for at in range(0, len(rows), 3 * SIDE)
    ), 6))  # fmt: skip


def one_colour(rows: int = SIDE) -> bytes:
    return zlib.compress((b"\0" + bytes(3 * SIDE)) * rows, 9)


def filled(packed: bytes, length: int) -> bytes:
    """The same with blocks of nothing before it, so many bytes together."""
    times = (length - len(packed)) // len(EMPTY_BLOCKS)
    return packed[:2] + EMPTY_BLOCKS * times + packed[2:]


def cpu_s(data: bytes) -> float:
    begun = time.thread_time()
    with contextlib.suppress(InvalidImage):
        decode(data, max_pixels=MAX_PIXELS)
    return time.thread_time() - begun


@pytest.mark.parametrize(
    "data",
    [
        png(filled(one_colour(), RAW + RAW // 16)),
        png(filled(one_colour(SIDE - 1), RAW + RAW // 16)),  # a row is missing
        png(filled(zlib.compress(bytes(7) * 19_999), 7 * 20_000), (2, 20_000)),  # unpacked twice
        png(
            zlib.compress(bytes(4)),
            (1, 1),
            before=chunk(b"zTXt", KEY + b"\0" + filled(zlib.compress(b""), MAX_XMP_BYTES)),
        ),
    ],
    ids=["whole", "a row is missing", "narrow", "xmp"],
)
def test_blocks_of_nothing_take_what_is_foretold(data: bytes) -> None:
    """As times of a sound image that is unpacked in turn with it: the machine may be slow."""
    reference = photo()
    pairs = [(cpu_s(data), cpu_s(reference)) for _ in range(5)]
    paid_s, reference_s = (min(one) for one in zip(*pairs, strict=True))
    slower = reference_s / (1e-9 * REFERENCE_NS * RAW)
    foretold_s = png_cost(data).cpu_s
    print(f"{1e3 * paid_s:.2f} ms, {paid_s / foretold_s / slower:.2f} times; {slower=:.2f}")
    assert paid_s < SLOWEST * slower * foretold_s


def test_rows_are_unpacked_once_also_where_some_are_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No one can make rows that are like the pattern below them: it is secret."""
    unpacked: list[int] = []
    own = Image.Image.frombytes

    def counted(image: Image.Image, data: bytes, name: str = "raw", *args: object) -> None:
        unpacked.append(name == "zip")
        own(image, data, name, *args)

    monkeypatch.setattr(Image.Image, "frombytes", counted)
    decode(png(one_colour()), max_pixels=MAX_PIXELS)
    assert sum(unpacked) == 1
    with pytest.raises(InvalidImage, match=f"{SIDE - 1} of {SIDE} rows are there"):
        decode(png(one_colour(SIDE - 1)), max_pixels=MAX_PIXELS)
    assert sum(unpacked) == 2


def test_a_packed_packet_of_xmp_counts_by_its_length_and_no_other_text_does() -> None:
    def foretold_s(kind: bytes, content: bytes) -> float:
        text = chunk(kind, content)
        others_s = 1e-9 * (PNG_NS["any_byte"] * len(text) + PNG_NS["chunk"])
        plain_s = png_cost(png(one_colour())).cpu_s
        return png_cost(png(one_colour(), before=text)).cpu_s - plain_s - others_s

    long = bytes(2 * MAX_XMP_BYTES)
    for kind in (b"zTXt", b"iTXt"):
        assert foretold_s(kind, b"workflow\0\0" + long) == pytest.approx(0, abs=1e-9)
        for content, counted in ((KEY + bytes(1000), 1018), (KEY + long, MAX_XMP_BYTES)):
            wanted_ns = PNG_NS["packed_xmp"] + PNG_NS["xmp_byte"] * counted
            assert foretold_s(kind, content) == pytest.approx(1e-9 * wanted_ns)
    assert foretold_s(b"tEXt", KEY + long) == pytest.approx(0, abs=1e-9)
