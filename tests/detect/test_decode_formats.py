"""Formats beyond those of the service, and JPEGs that are odd and whole."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from seatrial.detect import decode as decoding
from seatrial.detect.decode import (
    EXTRANEOUS,
    as_served,
    decode,
    decode_file,
    decoded_size,
    format_of,
    misnamed,
)
from seatrial.errors import (
    InputTooLarge,
    InvalidDataset,
    InvalidImage,
    InvalidInput,
    UnsupportedImage,
)
from seatrial.system.images import file_formats, upright_size

MAX_PIXELS = 1_000_000
LOSSLESS = {"AVIF": {"quality": 100, "subsampling": "4:4:4"}, "JPEG2000": {}, "BMP": {}, "PPM": {},
            "TIFF": {}, "GIF": {}}  # fmt: skip


@pytest.fixture(scope="module")
def blocks() -> Image.Image:
    """40 x 24 pixels in four colours."""
    colours = np.array([[[250, 20, 30], [10, 240, 60]], [[30, 60, 200], [255, 255, 255]]], np.uint8)
    return Image.fromarray(colours.repeat(12, 0).repeat(20, 1))


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", LOSSLESS)
def test_formats_of_files_are_read_from_disk_and_refused_by_name_elsewhere(
    blocks: Image.Image, tmp_path: Path, kind: str
) -> None:
    if kind not in file_formats():
        pytest.skip(f"this Pillow reads no {kind}")
    data = encoded(blocks, kind, **LOSSLESS[kind])
    (tmp_path / "x.jpg").write_bytes(data)  # the content counts, whatever the name
    image = decode_file(tmp_path / "x.jpg", max_pixels=MAX_PIXELS)
    assert np.abs(image.astype(int) - np.asarray(blocks)).max() <= 6
    with pytest.raises(UnsupportedImage, match=f"the file is in the format {kind}, which") as told:
        decode(data, max_pixels=MAX_PIXELS)
    assert told.value.hint == "known formats: JPEG, PNG, WEBP"
    served = as_served(data, max_pixels=MAX_PIXELS)
    assert served.startswith(b"\x89PNG")
    np.testing.assert_array_equal(decode(served, max_pixels=MAX_PIXELS), image)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_formats_of_the_service_are_passed_on_as_they_are(blocks: Image.Image, kind: str) -> None:
    data = encoded(blocks, kind)
    assert as_served(data, max_pixels=MAX_PIXELS) is data


@pytest.mark.parametrize("kind", ["GIF", "TIFF"])
def test_of_several_images_the_first_counts(blocks: Image.Image, kind: str) -> None:
    more = [Image.new("RGB", blocks.size, "black")]
    data = encoded(blocks, kind, save_all=True, append_images=more)
    image = decode(data, max_pixels=MAX_PIXELS, formats=file_formats())
    np.testing.assert_array_equal(image, np.asarray(blocks))


def test_tiff_of_16_bits_keeps_the_upper_eight() -> None:
    values = np.arange(0, 65536, 257, np.uint16).reshape(16, 16)
    data = encoded(Image.fromarray(values), "TIFF")
    image = decode(data, max_pixels=MAX_PIXELS, formats=file_formats())
    np.testing.assert_array_equal(image, np.repeat((values >> 8)[:, :, None], 3, 2))


HEADS = {
    "HEIF": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "AVIF": b"\0\0\0\x1cftypavif\0\0\0\0",
    "PSD": b"8BPS\0\1", "JPEG XL": b"\xff\x0a12", "SVG": b"<?xml version='1.0'?> <svg/>",
    "PDF": b"%PDF-1.7", "TIFF": b"MM\0*", "BMP": b"BM12", "GIF": b"GIF89a", "PPM": b"P6\n1 1",
}  # fmt: skip


@pytest.mark.parametrize("kind", HEADS)
def test_a_format_is_known_by_its_first_bytes(kind: str) -> None:
    assert format_of(HEADS[kind]) == kind


def test_heif_without_its_plug_in_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    formats = tuple(name for name in file_formats() if name != "HEIF")
    monkeypatch.setattr(decoding, "file_formats", lambda: formats)
    with pytest.raises(UnsupportedImage, match="HEIF is not read here: pip install pillow-heif"):
        as_served(HEADS["HEIF"], max_pixels=MAX_PIXELS)


@pytest.mark.parametrize(
    ("suffix", "kind", "held"),
    [(".jpg", "PNG", "PNG"), (".png", "JPEG", "JPEG"), (".jpg", "BMP", "BMP"),
     (".jfif", "JPEG", ""), (".JPE", "JPEG", ""), (".tif", "TIFF", ""), (".gif", "WEBP", "WEBP"),
     (".xyz", "PNG", "")],
)  # fmt: skip
def test_a_name_of_another_format_is_told(
    blocks: Image.Image, suffix: str, kind: str, held: str
) -> None:
    assert misnamed(suffix, encoded(blocks, kind)) == held


def test_large_images_of_other_formats_are_refused_by_their_header(blocks: Image.Image) -> None:
    for kind in ("BMP", "GIF", "TIFF"):
        with pytest.raises(InputTooLarge):
            decode(encoded(blocks, kind), max_pixels=900, formats=file_formats())


# --------------------------------------------------------------------- JPEGs of webcams


def padded(data: bytes, filler: bytes) -> bytes:
    assert data[-2:] == b"\xff\xd9"
    return data[:-2] + filler + data[-2:]


FILLERS = {"zeros": bytes(20), "many": bytes(5000), "text": b"made by a camera" * 3,
           "stuffing": b"\x7f\xff\x00" * 20, "fill bytes": bytes(16) + b"\xff" * 9}  # fmt: skip
READERS: dict[str, Callable[[bytes, list[str]], object]] = {
    "decode": lambda data, odd: decode(data, max_pixels=MAX_PIXELS, on_warning=odd.append).shape,
    "size": lambda data, odd: decoded_size(data, max_pixels=MAX_PIXELS, on_warning=odd.append),
}


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("filler", FILLERS)
def test_bytes_before_the_end_marker_are_told_and_the_image_is_whole(
    blocks: Image.Image, mode: str, progressive: bool, filler: str
) -> None:
    data = encoded(blocks.convert(mode), "JPEG", progressive=progressive)
    odd: list[str] = []
    image = decode(padded(data, FILLERS[filler]), max_pixels=MAX_PIXELS, on_warning=odd.append)
    np.testing.assert_array_equal(image, decode(data, max_pixels=MAX_PIXELS))
    assert odd == [EXTRANEOUS]
    assert decode(padded(data, FILLERS[filler]), max_pixels=MAX_PIXELS).shape == image.shape


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("change", ["no end", "cut", "cut and padded", "cut with an end"])
def test_what_is_cut_off_stays_refused(reader: str, change: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encoded(Image.fromarray(noise), "JPEG", quality=95)
    cut = data[: len(data) * 3 // 4]
    broken = {
        "no end": data[:-2],
        "cut": cut,
        "cut and padded": cut + bytes(5000),
        "cut with an end": cut + b"\xff\xd9",
    }[change]
    odd: list[str] = []
    with pytest.raises(InvalidImage, match="damaged or cut off"):
        READERS[reader](broken, odd)
    assert odd == []


def test_the_coarse_size_is_that_of_the_whole_image(blocks: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for picture, options, size in (
        (blocks, {}, (40, 24)), (blocks, {"exif": exif}, (24, 40)),
        (blocks.convert("CMYK"), {"subsampling": 2}, (40, 24)),
        (blocks.crop((0, 0, 1, 1)), {}, (1, 1)), (blocks.crop((0, 0, 17, 3)), {}, (17, 3)),
    ):  # fmt: skip
        assert decoded_size(encoded(picture, "JPEG", **options), max_pixels=MAX_PIXELS) == size
    with pytest.raises(InvalidInput, match="empty"):
        decoded_size(b"", max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16, np.int32])
def test_a_whole_tiff_of_pixels_that_are_not_read_is_not_called_damaged(
    kind: type, tmp_path: Path
) -> None:
    path = tmp_path / "deep.tiff"
    cv2.imwrite(str(path), np.arange(1800).reshape(20, 30, 3).astype(kind))
    with pytest.raises(
        UnsupportedImage, match=r"deep\.tiff: the TIFF has pixels of a kind"
    ) as deep:
        decode_file(path, max_pixels=MAX_PIXELS)
    bits = 8 * np.dtype(kind).itemsize
    assert f"(bits per channel: {bits}, {bits}, {bits}): convert it" in deep.value.message
    with pytest.raises(InvalidDataset, match=r"deep\.tiff: the TIFF has pixels of a kind"):
        upright_size(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InvalidImage, match="damaged or cut off"):
        decode_file(path, max_pixels=MAX_PIXELS)
