"""Progressive JPEGs of many scans: each takes time for all pixels, whatever its length."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from PIL import Image
from tests.support.jpeg_by_hand import jpeg_by_hand

from seatrial.detect.decode import COARSE_SCANS, decode, decoded_size
from seatrial.detect.decode_cost import MAX_SCANS, MAX_SEGMENTS, read_jpeg
from seatrial.errors import InvalidImage
from seatrial.system.png import MAX_CHUNKS, MAX_PIXEL_CHUNKS

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
    so_many = read_jpeg(with_scans(data, MAX_SCANS, between))
    assert so_many.orientation == 1  # they are let through
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


def without_scans(data: bytes, first: int, last: int) -> bytes:
    """A progressive JPEG without the scans from one up to before another, with their tables."""
    begins, place = [], 0
    while (place := data.find(b"\xff\xda", place)) >= 0:
        begins.append(place)
        place += 2
    begins.append(len(data) - 2)
    return data[: begins[first]] + data[begins[last] :]


@pytest.mark.parametrize(
    ("scans", "lacking"), [(3, ""), (2, "3 of 3"), (1, "2, 3 of 3"), (0, "1, 2, 3 of 3")]
)
def test_a_component_without_a_scan_is_refused(scans: int, lacking: str) -> None:
    """libjpeg would make it grey, without a warning."""
    data = jpeg_by_hand([(1, 1)] * 3, scans=[[0], [1], [2]][:scans])
    odd: list[str] = []
    if not lacking:
        image = decode(data, max_pixels=MAX_PIXELS, on_warning=odd.append)
        with Image.open(io.BytesIO(data)) as reference:
            np.testing.assert_array_equal(image, np.asarray(reference))
        assert odd == []
        return
    for read in (decode, decoded_size):
        with pytest.raises(InvalidImage, match=f"no pixels of component {lacking}"):
            read(data, max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("options", [{"mode": "RGB"}, {"mode": "CMYK", "subsampling": 2}])
def test_a_progressive_jpeg_without_its_first_scan_is_refused(options: dict[str, object]) -> None:
    data = jpeg(**options, progressive=True)
    with pytest.raises(InvalidImage, match="no pixels of component 1, 2, 3"):
        decode(without_scans(data, 0, 1), max_pixels=MAX_PIXELS)


@pytest.mark.parametrize(
    "options",
    [{"mode": "L"}, {"mode": "RGB"}, {"mode": "CMYK"}, {"mode": "CMYK", "subsampling": 2}],
)
def test_a_progressive_jpeg_that_lacks_scans_is_told(options: dict[str, object]) -> None:
    """It is a JPEG by the standard, and its pixels lack detail."""
    data = jpeg(**options, progressive=True)
    count = data.count(b"\xff\xda")
    whole = decode(data, max_pixels=MAX_PIXELS, on_warning=lambda text: pytest.fail(text))
    for left in range(1, count):
        for read in (decode, decoded_size):
            odd: list[str] = []
            cut = without_scans(data, left, count)
            found = read(cut, max_pixels=MAX_PIXELS, on_warning=odd.append)
            assert odd == [COARSE_SCANS]
            assert left > 1 or isinstance(found, tuple) or not np.array_equal(found, whole)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (5, 4), "red").save(buffer, "PNG")
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    check = zlib.crc32(kind + content).to_bytes(4, "big")
    return len(content).to_bytes(4, "big") + kind + content + check


def test_a_png_of_very_many_chunks_is_refused() -> None:
    data = png()
    assert data.count(b"IDAT") == 1
    # IHDR counts, IEND does not.
    few = data[:33] + (MAX_CHUNKS - 1) * chunk(b"tEXt", b"a\0b") + data[33:]
    np.testing.assert_array_equal(
        decode(few, max_pixels=MAX_PIXELS), decode(data, max_pixels=MAX_PIXELS)
    )
    many = data[:33] + MAX_CHUNKS * chunk(b"tEXt", b"a\0b") + data[33:]
    with pytest.raises(InvalidImage, match="more than 2000 chunks without pixels"):
        decode(memoryview(many), max_pixels=MAX_PIXELS)


def test_chunks_of_pixels_may_be_many_more() -> None:
    data = png()
    few = data[:-12] + (MAX_PIXEL_CHUNKS - 1) * chunk(b"IDAT") + data[-12:]
    np.testing.assert_array_equal(
        decode(few, max_pixels=MAX_PIXELS), decode(data, max_pixels=MAX_PIXELS)
    )


@pytest.mark.parametrize("kind", [b"IDAT", b"fdAT", b"fcTL"])
def test_very_many_chunks_of_pixels_are_refused(kind: bytes) -> None:
    data = png()
    for many in (
        data[:-12] + MAX_PIXEL_CHUNKS * chunk(kind) + data[-12:],
        data[:33] + MAX_PIXEL_CHUNKS * chunk(kind) + data[33:],
    ):
        with pytest.raises(InvalidImage, match="more than 50000 chunks of pixels"):
            decode(many, max_pixels=MAX_PIXELS)


def test_what_lies_behind_a_pngs_end_is_not_counted() -> None:
    data = png()
    for behind in (bytes(100_000), (MAX_CHUNKS + 1) * chunk(b"tEXt", b"a\0b")):
        np.testing.assert_array_equal(
            decode(data + behind, max_pixels=MAX_PIXELS), decode(data, max_pixels=MAX_PIXELS)
        )


def test_an_animation_of_very_many_frames_gives_its_first() -> None:
    frames = [Image.new("RGB", (2, 2), (number % 256, number // 256, 0)) for number in range(1100)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    data = buffer.getvalue()
    assert data.count(b"fcTL") == 1100
    assert not decode(data, max_pixels=MAX_PIXELS).any()
