"""PNG: what is missing or damaged is refused, what nobody reads is not looked at."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from seatrial.detect import png as png_module
from seatrial.detect.decode import decode
from seatrial.detect.png import png_cost
from seatrial.errors import InvalidImage, UnsupportedImage
from seatrial.system import png as png_chunks
from seatrial.system.png import PNG_MAGIC

MAX_PIXELS = 1_000_000
WIDTH, HEIGHT = 20, 24
SHAPE = (HEIGHT, WIDTH, 3)
# Depth and colour type of all kinds of PNG, and bits of a pixel.
KINDS = {
    (1, 0): 1, (2, 0): 2, (4, 0): 4, (8, 0): 8, (16, 0): 16, (8, 2): 24, (16, 2): 48, (1, 3): 1,
    (2, 3): 2, (4, 3): 4, (8, 3): 8, (8, 4): 16, (16, 4): 32, (8, 6): 32, (16, 6): 64,
}  # fmt: skip
RGB = (8, 2)
# Columns and rows of each pass of an interlaced image: first, step (RFC 2083, 2.6).
PASSES = (((0, 8), (0, 8)), ((4, 8), (0, 8)), ((0, 4), (4, 8)), ((2, 4), (0, 4)), ((0, 2), (2, 4)),
          ((1, 2), (0, 2)), ((0, 1), (1, 2)))  # fmt: skip


def chunk(kind: bytes, content: bytes = b"", wrong: int = 0) -> bytes:
    check = zlib.crc32(kind + content) ^ wrong
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def rows_of(
    kind: tuple[int, int], size: tuple[int, int], *, interlaced: bool, seed: int = 1
) -> list[bytes]:
    """Random rows, each with its filter: those of the passes, one after another."""
    chance = np.random.default_rng(seed)
    sides = [size]
    if interlaced:
        sides = [tuple(len(range(first, side, step)) for side, (first, step) in
                       zip(size, one, strict=True)) for one in PASSES]  # fmt: skip
    return [
        bytes([chance.integers(5)]) + chance.bytes((width * KINDS[kind] + 7) // 8)
        for width, height in sides
        for _ in range(height * (width > 0))
    ]


def png(
    rows: list[bytes],
    kind: tuple[int, int] = RGB,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    *,
    interlaced: bool = False,
    before: bytes = b"",
    behind: bytes = b"",
    packed: bytes | None = None,
    palette: bytes | None = None,
) -> bytes:
    """A PNG of rows as they are; with a palette where its kind needs one."""
    if palette is None and kind[1] == 3:
        palette = chunk(b"PLTE", np.random.default_rng(9).bytes(3 * 2 ** kind[0]))
    header = struct.pack(">IIBBBBB", *size, *kind, 0, 0, interlaced)
    pixels = chunk(b"IDAT", zlib.compress(b"".join(rows)) if packed is None else packed)
    return b"".join((
        PNG_MAGIC, chunk(b"IHDR", header), before, palette or b"", pixels, behind, chunk(b"IEND"),
    ))  # fmt: skip


ROWS = rows_of(RGB, (WIDTH, HEIGHT), interlaced=False)
SOUND = png(ROWS)


def read(data: bytes) -> NDArray[np.uint8]:
    return decode(data, max_pixels=MAX_PIXELS)


def by_libpng(data: bytes) -> NDArray[np.uint8] | None:
    """The same by OpenCV's libpng; None where that refuses it."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    return None if image is None else np.asarray(image, np.uint8)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_pixels_of_libpng(kind: tuple[int, int], interlaced: bool) -> None:
    for size in ((WIDTH, HEIGHT), (1, 1), (2, 1), (3, 1), (1, 2), (5, 3), (4, 5), (70, 9), (33, 1)):
        rows = rows_of(kind, size, interlaced=interlaced)
        data = png(rows, kind, size, interlaced=interlaced)
        np.testing.assert_array_equal(read(data), by_libpng(data), err_msg=str(size))


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_png_that_lacks_a_row_is_refused_as_by_libpng(
    kind: tuple[int, int], interlaced: bool
) -> None:
    """The packed stream ends cleanly: nothing but the number of rows tells."""
    for size in ((WIDTH, HEIGHT), (1, 2), (5, 3), (70, 9)):
        rows = rows_of(kind, size, interlaced=interlaced)
        for there in (len(rows) - 1, len(rows) // 2, 0):
            data = png(rows[:there], kind, size, interlaced=interlaced)
            with pytest.raises(InvalidImage, match=f"{there} of {len(rows)} rows") as refusal:
                read(data)
            assert refusal.value.http_status == 422
            assert by_libpng(data) is None


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("kind", [(1, 0), (2, 0), (8, 0), RGB])
def test_the_last_pixels_may_be_any(
    kind: tuple[int, int], interlaced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row of few pixels may be like the pattern that lies below it: it is unpacked over two."""
    for size in ((1, 1), (1, 3), (2, 4)):
        rows = rows_of(kind, size, interlaced=interlaced)
        sound, cut = (png(some, kind, size, interlaced=interlaced) for some in (rows, rows[:-1]))
        for byte in (0, 90, 255):
            monkeypatch.setattr(png_module, "STAMP", bytes([byte]) * 256)
            monkeypatch.setattr(png_module, "_OTHER_STAMP", bytes([255 - byte]) * 256)
            np.testing.assert_array_equal(read(sound), by_libpng(sound))
            with pytest.raises(InvalidImage, match=f"{len(rows) - 1} of {len(rows)} rows"):
                read(cut)


def test_rows_that_are_like_the_pattern_are_found_by_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(png_module, "STAMP", bytes(256))
    monkeypatch.setattr(png_module, "_OTHER_STAMP", b"\xff" * 256)
    black = png([bytes(2)] * 4, (8, 0), (1, 4))
    assert not read(black).any()
    with pytest.raises(InvalidImage, match="3 of 4 rows"):
        read(png([bytes(2)] * 3, (8, 0), (1, 4)))


def test_more_rows_and_an_end_that_is_not_there_change_nothing() -> None:
    np.testing.assert_array_equal(read(png(ROWS * 2)), read(SOUND))
    np.testing.assert_array_equal(read(SOUND[:-12]), read(SOUND))
    np.testing.assert_array_equal(read(SOUND[:-16]), read(SOUND))  # nor the checksum


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png(ROWS, packed=zlib.compress(b"".join(ROWS))[:-200]), "rows are there"),
        (png([b"\x07" + row[1:] for row in ROWS]), "cannot be unpacked"),  # no such filter
        (png(ROWS, packed=b"\x78\x9c" + bytes(90)), "cannot be unpacked"),
        (SOUND[:-13] + bytes([SOUND[-13] ^ 1]) + SOUND[-12:], "checksum of its pixels is wrong"),
        (SOUND[:60] + bytes([SOUND[60] ^ 1]) + SOUND[61:], "checksum of its pixels is wrong"),
        (SOUND[:29] + bytes([SOUND[29] ^ 1]) + SOUND[30:], "header is broken"),
        (PNG_MAGIC + chunk(b"IHDR", SOUND[16:28]) + SOUND[33:], "header is broken"),
        (png(ROWS, (8, 5)), "colours or a packing that do not exist"),
        (png(ROWS, (5, 2)), "colours or a packing that do not exist"),
        (SOUND[:33] + b"\0\0\0\0\0\0\0\0" + SOUND[33:], "a chunk has the kind"),
        (png(ROWS, packed=b""), "0 of 24 rows"),
        (png(ROWS, packed=zlib.compress(b"".join(ROWS))[:99],
             behind=chunk(b"tEXt", b"a\0b") + chunk(b"IDAT", zlib.compress(b"".join(ROWS))[99:])),
         "rows are there"),
    ],
)  # fmt: skip
def test_damage_is_refused_as_by_libpng(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidImage, match=f"the PNG is damaged or cut off: .*{reason}"):
        read(data)
    assert by_libpng(data) is None


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize(
    ("palette", "reason"),
    [
        (b"", "palette is missing"),
        (chunk(b"PLTE"), "palette is broken"),
        (chunk(b"PLTE", bytes(4)), "palette is broken"),
        (chunk(b"PLTE", bytes(771)), "palette is broken"),
        (chunk(b"PLTE", bytes(6), wrong=1), "palette is broken"),
        (chunk(b"PLTE", bytes(6)) * 2, "more than one palette"),
    ],
)
def test_a_palette_is_there_and_whole_as_for_libpng(
    depth: int, palette: bytes, reason: str
) -> None:
    rows = rows_of((depth, 3), (WIDTH, HEIGHT), interlaced=False)
    data = png(rows, (depth, 3), palette=palette)
    with pytest.raises(InvalidImage, match=reason):
        read(data)
    assert by_libpng(data) is None


def test_a_palette_behind_the_pixels_is_none() -> None:
    rows = rows_of((8, 3), (WIDTH, HEIGHT), interlaced=False)
    data = png(rows, (8, 3), palette=b"", behind=chunk(b"PLTE", bytes(768)))
    with pytest.raises(InvalidImage, match="palette is missing"):
        read(data)


def test_an_index_that_the_palette_lacks_is_black_as_in_opencv() -> None:
    data = png([bytes([0, 0, 1, 2, 255])], (8, 3), (4, 1),
               palette=chunk(b"PLTE", bytes([255, 0, 0, 0, 255, 0])))  # fmt: skip
    assert read(data).tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 0], [0, 0, 0]]]
    np.testing.assert_array_equal(read(data), by_libpng(data))


# Sound images with a chunk that is none: libpng leaves it out.
TEXT = os.urandom(600_000).hex().encode()
UNREAD = {
    "zTXt of 1.2 MB": chunk(b"zTXt", b"workflow\0\0" + zlib.compress(TEXT, 1)),
    "iTXt of 1.2 MB": chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(TEXT, 1)),
    "iCCP of 1.2 MB": chunk(b"iCCP", b"icc\0\0" + zlib.compress(TEXT, 1)),
    "method of zTXt": chunk(b"zTXt", b"a\0\1xx"),
    "method of iCCP": chunk(b"iCCP", b"a\0\1xx"),
    "short pHYs": chunk(b"pHYs", b"\1"),
    "short gAMA": chunk(b"gAMA", b"\1"),
    "short cHRM": chunk(b"cHRM", b"\1"),
    "empty sRGB": chunk(b"sRGB"),
    "short tRNS": chunk(b"tRNS", b"\0"),
    "short tIME": chunk(b"tIME", b"\1"),
    **{f"checksum of {kind.decode()}": chunk(kind, content, wrong=1) for kind, content in {
        b"tEXt": b"a\0b", b"zTXt": b"a\0\0" + zlib.compress(b"b"), b"iTXt": b"a\0\0\0\0\0b",
        b"iCCP": b"a\0\0" + zlib.compress(b"b"), b"pHYs": b"\0\0\0\1\0\0\0\1\0",
        b"gAMA": b"\0\0\xb1\x8f", b"sRGB": b"\0", b"tRNS": bytes(6), b"teSt": b"private",
    }.items()},
}  # fmt: skip


@pytest.mark.parametrize("place", ["before", "behind"])
@pytest.mark.parametrize("name", UNREAD)
def test_chunks_that_nobody_reads_hide_no_pixels(name: str, place: str) -> None:
    data = png(ROWS, **{place: UNREAD[name]})
    np.testing.assert_array_equal(read(data), read(SOUND))
    np.testing.assert_array_equal(read(memoryview(data)), by_libpng(data))


TURNED = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # orientation 6
XMP = b'<x tiff:Orientation="6"/>'
PACKED = zlib.compress(XMP)
KEY = b"XML:com.adobe.xmp\0"


@pytest.mark.parametrize("place", ["before", "behind"])
@pytest.mark.parametrize(
    ("said", "counts"),
    [
        (chunk(b"eXIf", TURNED), True),
        (chunk(b"eXIf", TURNED, wrong=1), False),
        (chunk(b"eXIf", b"", wrong=1) + chunk(b"eXIf", TURNED), True),
        (chunk(b"eXIf", TURNED) + chunk(b"eXIf", TURNED.replace(b"\6", b"\1")), True),
        (chunk(b"iTXt", KEY + b"\0\0\0\0" + XMP), True),
        (chunk(b"iTXt", KEY + b"\0\0de\0Schl\xc3\xbcssel\0" + XMP), True),
        (chunk(b"iTXt", KEY + b"\1\0\0\0" + PACKED), True),
        (chunk(b"iTXt", KEY + b"\1\0\0\0" + PACKED[:9]), False),
        (chunk(b"iTXt", KEY + b"\1\0\0\0" + b"no zlib"), False),
        (chunk(b"iTXt", KEY), False),
        (chunk(b"zTXt", KEY + b"\0" + PACKED), True),
        (chunk(b"tEXt", KEY + XMP), True),
        (chunk(b"tEXt", KEY + XMP, wrong=1), False),
        (chunk(b"tEXt", b"comment\0" + XMP), False),
    ],
)
def test_the_orientation_is_that_of_the_first_sound_chunk(
    said: bytes, counts: bool, place: str
) -> None:
    image = read(png(ROWS, **{place: said}))
    plain = read(SOUND)
    np.testing.assert_array_equal(image, np.rot90(plain, -1) if counts else plain)


def test_a_packet_of_xmp_is_unpacked_up_to_a_bound() -> None:
    for text, shape in ((bytes(2**20) + XMP, SHAPE), (XMP + bytes(2**24), (WIDTH, HEIGHT, 3))):
        assert (
            read(png(ROWS, before=chunk(b"zTXt", KEY + b"\0" + zlib.compress(text)))).shape == shape
        )


def test_one_packet_of_xmp_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kilobyte unpacks to a megabyte, and there can be two thousand of them."""
    unpacked: list[bytes] = []
    monkeypatch.setattr(png_chunks, "_packet", lambda kind, text: unpacked.append(text) or b"")
    read(png(ROWS, before=chunk(b"zTXt", KEY + b"\0damaged") * 3, behind=chunk(b"tEXt", KEY + XMP)))
    assert len(unpacked) == 1


def test_a_broken_count_of_frames_does_not_count() -> None:
    """OpenCV, which reads animations, refuses it; Pillow too, before the pixels only."""
    for place in ("before", "behind"):
        data = png(ROWS, **{place: chunk(b"acTL", b"\0")})
        np.testing.assert_array_equal(read(data), read(SOUND))


def test_a_frame_that_is_smaller_than_the_image_does_not_count() -> None:
    """The first image of an animation is IDAT, whatever a damaged chunk says of it."""
    frame = struct.pack(">IIIIIHHBB", 0, 5, 5, 3, 3, 1, 1, 0, 0)
    data = png(ROWS, before=chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", frame))
    np.testing.assert_array_equal(read(data), read(SOUND))


def test_the_kind_of_png_in_apps_is_named() -> None:
    data = PNG_MAGIC + chunk(b"CgBI", b"\x50\0\x20\x02") + SOUND[8:]
    with pytest.raises(UnsupportedImage, match=r"Xcode packs into apps \(CgBI\)") as refusal:
        read(data)
    assert refusal.value.http_status == 415


def test_pixels_in_many_chunks_are_those_in_one() -> None:
    packed = zlib.compress(b"".join(ROWS))
    pieces = b"".join(chunk(b"IDAT", packed[at : at + 1]) for at in range(2, len(packed)))
    data = png(ROWS, packed=packed[:2], behind=pieces)
    np.testing.assert_array_equal(read(data), read(SOUND))
    one, many = png_cost(SOUND), png_cost(data)
    assert many.peak_bytes == one.peak_bytes + len(packed)  # they are copied into one piece
    assert many.cpu_s > one.cpu_s


def test_wherever_a_file_ends_it_is_refused_or_whole() -> None:
    for end in range(9, len(SOUND), 7):
        try:
            image = read(SOUND[:end])
        except InvalidImage:
            continue
        np.testing.assert_array_equal(image, read(SOUND))


COUNTED = """
import resource, struct, sys, zlib
from seatrial.detect.decode import decode
from seatrial.errors import InvalidImage

def chunk(kind, content):
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

side = 2000  # 12 MB unpacked, in 12 KB
header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
decode(b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", struct.pack(
    ">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(bytes(4))), max_pixels=9)
packed = zlib.compress(bytes(side * 3 + 1) * (side - 1), 9)
data = b"\\x89PNG\\r\\n\\x1a\\n" + header + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
costs = []
begun = resource.getrusage(resource.RUSAGE_SELF)
try:
    decode(data, max_pixels=side * side, on_cost=costs.append)
except InvalidImage as error:
    assert "1999 of 2000 rows" in error.message, error.message
else:
    raise SystemExit("decoded")
done = resource.getrusage(resource.RUSAGE_SELF)
grown = 1024 * (done.ru_maxrss - begun.ru_maxrss)
print(done.ru_utime + done.ru_stime - begun.ru_utime - begun.ru_stime, grown)
print(costs[0].cpu_s, costs[0].peak_bytes)
"""


def test_what_is_counted_costs_no_more_than_was_said() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COUNTED], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    cpu_s, grown, bound_s, bound = map(float, done.stdout.split())
    assert cpu_s < bound_s
    assert grown < bound


def test_the_first_image_of_an_animation_is_that_of_pillow() -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "lime", "blue")]
    for default in (False, True):
        buffer = io.BytesIO()
        more = {"save_all": True, "append_images": frames[1:], "default_image": default}
        frames[0].save(buffer, "PNG", **more)
        with Image.open(io.BytesIO(buffer.getvalue())) as first:
            np.testing.assert_array_equal(read(buffer.getvalue()), np.asarray(first.convert("RGB")))


@pytest.mark.parametrize("kind", [(1, 0), (4, 3), RGB])
@pytest.mark.parametrize("width", [1, 3, 8])
def test_rows_of_passes_count_each_for_themselves(kind: tuple[int, int], width: int) -> None:
    """A narrow image has more filters than pixels, and each row of a pass is whole bytes."""
    size = (width, 9_000)
    rows = rows_of(kind, size, interlaced=True)
    data = png(rows, kind, size, interlaced=True, packed=zlib.compress(b"".join(rows), 0))
    np.testing.assert_array_equal(read(data), by_libpng(data))
    spare = sum(map(len, rows)) // 16 + png_module.SPARE_BYTES
    nothing = b"\0\0\0\xff\xff" * (spare // 5 + 1)
    packed = zlib.compress(b"".join(rows), 0)
    longer = png(rows, kind, size, interlaced=True, packed=packed[:2] + nothing + packed[2:])
    with pytest.raises(InvalidImage, match=f"pixels of {sum(map(len, rows))} bytes"):
        read(longer)


def test_packed_pixels_that_are_longer_than_the_pixels_are_refused_before_they_are_unpacked() -> (
    None
):
    """Blocks of nothing: 8 MiB of them took 1.3 s."""
    packed = zlib.compress(bytes(2), 0)
    nothing = b"\0\0\0\xff\xff" * 20_000
    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    data += chunk(b"IDAT", packed[:2] + nothing + packed[2:]) + chunk(b"IEND", b"")
    with pytest.raises(InvalidImage, match="packed bytes for pixels of 2 bytes"):
        decode(data, max_pixels=9)
