"""Chunks of a PNG: which count, and in what order."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from seatrial.errors import InvalidImage
from seatrial.system.images import upright_size
from seatrial.system.png import (
    MAX_EXIF_BYTES,
    PNG_MAGIC,
    exif_and_xmp,
    in_memory,
    png_chunks,
    png_header,
    sound_content,
)

KEY = b"XML:com.adobe.xmp\0"


def chunk(kind: bytes, content: bytes = b"", wrong: int = 0) -> bytes:
    check = zlib.crc32(kind + content) ^ wrong
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


IHDR = chunk(b"IHDR", struct.pack(">IIBBBBB", 30, 20, 8, 2, 0, 0, 0))


def test_the_first_run_of_pixels_counts_and_metadata_anywhere() -> None:
    data = PNG_MAGIC + IHDR + b"".join(
        (chunk(b"PLTE", b"abc"), chunk(b"eXIf", b"1"), chunk(b"IDAT", b"2"), chunk(b"IDAT"),
         chunk(b"IDAT", b"3"), chunk(b"tEXt", b"4"), chunk(b"IDAT", b"5"), chunk(b"PLTE", b"def"),
         chunk(b"IEND"), chunk(b"tEXt", b"6"))
    )  # fmt: skip
    read = in_memory(data)
    found = png_chunks(read)
    contents = [
        [bytes(sound_content(read, one) or b"") for one in chunks]
        for chunks in (found.palettes, found.pixels, found.metadata)
    ]
    assert contents == [[b"abc"], [b"2", b"3"], [b"1", b"4"]]
    assert found.total == 9  # the header, and not the end
    assert png_header(read, found.header) == IHDR[8:21]


def test_content_that_is_cut_off_or_changed_is_not_sound() -> None:
    whole = PNG_MAGIC + IHDR + chunk(b"eXIf", b"content")
    for data in (whole[:-1], whole[:-6], whole[:-1] + b"?", whole.replace(b"content", b"kontent")):
        read = in_memory(data)
        assert sound_content(read, png_chunks(read).metadata[0]) is None


def test_a_long_block_of_exif_is_cut() -> None:
    read = in_memory(PNG_MAGIC + IHDR + chunk(b"eXIf", bytes(10**6)))
    assert exif_and_xmp(read, png_chunks(read).metadata) == (bytes(MAX_EXIF_BYTES), b"")


def test_exif_and_xmp_are_read_from_a_file_as_from_memory(tmp_path: Path) -> None:
    exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x04\0\0\0\x01\0\0\0\x06\0\0\0\0"
    xmp = b'<x tiff:Orientation="8"/>'
    for said in (chunk(b"eXIf", exif), chunk(b"iTXt", KEY + b"\1\0\0\0" + zlib.compress(xmp))):
        data = PNG_MAGIC + IHDR + chunk(b"IDAT", b"0") + said
        (tmp_path / "a.png").write_bytes(data)
        read = in_memory(data)
        assert exif_and_xmp(read, png_chunks(read).metadata) in ((exif, b""), (b"", xmp))
        assert upright_size(tmp_path / "a.png") == (20, 30)


@pytest.mark.parametrize("data", [b"", b"\0\0\0", chunk(b"IDAT"), IHDR + IHDR, b"\0\0\0\0\0\0\0\0"])
def test_without_one_header_first_it_is_damaged(data: bytes) -> None:
    with pytest.raises(InvalidImage):
        png_chunks(in_memory(PNG_MAGIC + data))
