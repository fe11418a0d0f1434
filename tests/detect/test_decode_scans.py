"""Progressive JPEGs of many scans: each takes time for all pixels, whatever its length."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from seatrial.detect.decode import MAX_SCANS, MAX_SEGMENTS, _scan_segments, decode
from seatrial.errors import InvalidImage

MAX_PIXELS = 1_000_000
COMMENT_WITH_AN_END = b"\xff\xfe\x00\x06ab\xff\xd9"


def jpeg(mode: str = "RGB", **options: object) -> bytes:
    """A JPEG of 32 x 32 pixels; 10 scans where it is progressive and in colour."""
    noise = np.random.default_rng(3).integers(0, 256, (32, 32, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def with_scans(data: bytes, scans: int, between: bytes = b"") -> bytes:
    """The same with its last scan repeated until there are so many."""
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + (between + last) * (scans - data.count(b"\xff\xda")) + data[-2:]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("between", [b"", COMMENT_WITH_AN_END, b"\xff"])
def test_many_scans_are_refused_undecoded(
    mode: str, between: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = jpeg(mode, progressive=True)
    assert decode(data, max_pixels=MAX_PIXELS).shape == (32, 32, 3)
    assert _scan_segments(with_scans(data, MAX_SCANS, between)) == 1  # so many are let through
    for decoder in ("simplejpeg.decode_jpeg", "PIL.Image.open"):
        monkeypatch.setattr(decoder, lambda *args, **options: pytest.fail("it is decoded"))
    with pytest.raises(InvalidImage, match="scans") as refusal:
        decode(with_scans(data, MAX_SCANS + 1, between), max_pixels=MAX_PIXELS)
    assert refusal.value.hint == "save it again, not progressive"


def test_a_picture_that_is_not_progressive_has_one_scan() -> None:
    with pytest.raises(InvalidImage, match="more than one scan"):  # libjpeg's own words
        decode(with_scans(jpeg(), 1000), max_pixels=MAX_PIXELS)


def test_what_lies_behind_the_end_is_not_counted() -> None:
    """Phones put a second picture there, or a film."""
    for data in (jpeg(), jpeg(progressive=True)):
        film = np.random.default_rng(4).bytes(2**20) + b"\xff\xda\x00\x02" * 100
        plain = decode(data, max_pixels=MAX_PIXELS)
        assert np.array_equal(decode(data + film, max_pixels=MAX_PIXELS), plain)


def test_scans_in_a_thumbnail_are_not_counted() -> None:
    thumbnail = b"\xff\xe1" + (2002).to_bytes(2, "big") + b"\xff\xda\x00\x02" * 500
    data = jpeg(progressive=True)
    decode(data[:2] + thumbnail + data[2:], max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("progressive", [False, True])
def test_many_segments_are_refused(progressive: bool) -> None:
    data = jpeg(progressive=progressive)
    for many in (MAX_SEGMENTS - 100, MAX_SEGMENTS + 1):
        padded = data[:2] + b"\xff\xfe\x00\x02" * many + data[2:]
        if many < MAX_SEGMENTS:
            decode(padded, max_pixels=MAX_PIXELS)
        else:
            with pytest.raises(InvalidImage, match=f"more than {MAX_SEGMENTS} segments"):
                decode(padded, max_pixels=MAX_PIXELS)


def test_a_png_of_very_many_chunks_is_refused() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (5, 4), "red").save(buffer, "PNG")
    data = buffer.getvalue()
    chunk = b"\0\0\0\x03tEXta\0b" + zlib.crc32(b"tEXta\0b").to_bytes(4, "big")
    few = data[:33] + 1000 * chunk + data[33:]  # behind IHDR
    np.testing.assert_array_equal(
        decode(few, max_pixels=MAX_PIXELS), decode(data, max_pixels=MAX_PIXELS)
    )
    many = data[:33] + MAX_SEGMENTS * chunk + data[33:]
    with pytest.raises(InvalidImage, match="more than 2000 chunks without pixels"):
        decode(memoryview(many), max_pixels=MAX_PIXELS)
