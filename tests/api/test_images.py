"""Every form in which programs hold an image becomes the same array."""

from __future__ import annotations

import io
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from tests.support.jpeg_by_hand import jpeg_by_hand

from seatrial.api.images import pixels
from seatrial.errors import InputTooLarge, InvalidImage, InvalidInput
from seatrial.system.images import exif_orientation, upright_size

LIMIT = 10_000


@pytest.fixture
def array() -> Any:
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)


def png(array: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def test_all_forms_are_the_same(array: Any, tmp_path: Path) -> None:
    data = png(array)
    path = tmp_path / "a.png"
    path.write_bytes(data)
    forms = [
        array,
        Image.fromarray(array),
        data,
        bytearray(data),
        memoryview(data),
        path,
        str(path),
    ]
    for form in forms:
        found = pixels(form, max_pixels=LIMIT)
        assert found.dtype == np.uint8
        assert np.array_equal(found, array), type(form)


def test_an_array_is_not_copied(array: Any) -> None:
    assert pixels(array, max_pixels=LIMIT) is array


def test_a_pil_image_is_turned_upright(array: Any) -> None:
    image = Image.fromarray(array)
    exif = image.getexif()
    exif[0x0112] = 6  # turned by a quarter
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    opened = Image.open(io.BytesIO(buffer.getvalue()))
    upright = np.rot90(array, -1)
    assert np.array_equal(pixels(opened, max_pixels=LIMIT), upright)
    assert np.array_equal(pixels(buffer.getvalue(), max_pixels=LIMIT), upright)


def exif_of(kind: int, value: int) -> bytes:
    """EXIF with the orientation alone, in a number of type 3 (SHORT) or 4 (LONG)."""
    entry = struct.pack("<HHI", 0x0112, kind, 1) + struct.pack(
        "<HH" if kind == 3 else "<I", *((value, 0) if kind == 3 else (value,))
    )
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf='
    b'"http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description xmlns:tiff='
    b'"http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "options",
    [*({"exif": exif_of(kind, n)} for kind in (3, 4) for n in range(1, 9)), {"xmp": XMP}],
)
def test_a_pil_image_and_its_file_agree_on_what_is_upright(file_format: str, options: Any) -> None:
    corner = np.full((32, 48, 3), 20, np.uint8)
    corner[:16, :8] = 230
    buffer = io.BytesIO()
    Image.fromarray(corner).save(buffer, file_format, **options)
    of_file = pixels(buffer.getvalue(), max_pixels=LIMIT)
    opened = Image.open(io.BytesIO(buffer.getvalue()))
    assert np.array_equal(pixels(opened, max_pixels=LIMIT) > 128, of_file > 128)


@pytest.mark.parametrize("times", [0, 1, 2, 3])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_the_mark_of_exif_may_be_there_several_times(
    file_format: str, times: int, array: Any, tmp_path: Path
) -> None:
    """Programs write it into PNGs, where it does not belong, and double it in JPEGs."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, file_format)
    data = buffer.getvalue()
    block = b"Exif\0\0" * times + exif_of(3, 6).removeprefix(b"Exif\0\0")
    if file_format == "PNG":
        data = data[:33] + chunk(b"eXIf", block) + data[33:]
    else:
        data = data[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(block)) + block + data[2:]
    path = tmp_path / "image"
    path.write_bytes(data)
    loaded = Image.open(io.BytesIO(data))
    loaded.load()
    turned = ImageOps.exif_transpose(loaded)
    assert turned.size == ((5, 7) if times or file_format == "PNG" else (7, 5))
    for form in (path, data, Image.open(io.BytesIO(data)), loaded):
        found = pixels(form, max_pixels=LIMIT)
        assert found.shape[:2] == turned.size[::-1]
        assert np.abs(found.astype(int) - np.asarray(turned)).max() <= 8  # of two JPEG decoders
    assert upright_size(path) == turned.size


def test_a_block_of_exif_of_marks_alone_takes_no_time() -> None:
    marks = 300_000
    begun = time.thread_time()
    assert exif_orientation(b"Exif\0\0" * marks + exif_of(3, 6)) == 6
    assert time.thread_time() - begun < 5  # copies of the rest would take half a minute


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


HEADER = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 5, 40, 8, 2, 0, 0, 0))
ROW = b"\0" + bytes([200]) * 15
HALF = HEADER + chunk(b"IDAT", zlib.compress(ROW * 20)) + chunk(b"IEND")
# Damage of which Pillow says nothing: rows, or a component, are missing; corrupt blocks.
SILENT = {
    "half a PNG": HALF,
    "a checksum": HEADER + chunk(b"IDAT", zlib.compress(ROW * 40))[:-1] + b"?" + chunk(b"IEND"),
    "a component": jpeg_by_hand(((1, 1),) * 3, scans=[[0], [1]]),
}


@pytest.mark.parametrize("name", SILENT)
def test_a_pil_image_that_is_opened_only_has_the_error_of_its_file(
    name: str, tmp_path: Path
) -> None:
    data = SILENT[name]
    with pytest.raises(InvalidImage) as of_file:
        pixels(data, max_pixels=LIMIT)
    path = tmp_path / "image"
    path.write_bytes(data)
    for image in (Image.open(io.BytesIO(data)), Image.open(path)):
        with image, pytest.raises(InvalidImage) as of_image:
            pixels(image, max_pixels=LIMIT)
        assert of_image.value.message == of_file.value.message


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "MPO"])
def test_a_pil_image_can_be_used_after_its_file_was_read(array: Any, file_format: str) -> None:
    buffer = io.BytesIO()
    more = {"save_all": True, "append_images": [Image.new("RGB", (7, 5))]}
    Image.fromarray(array).save(buffer, file_format, **(more if file_format == "MPO" else {}))
    opened = Image.open(io.BytesIO(buffer.getvalue()))
    once, again = (pixels(opened, max_pixels=LIMIT) for _ in range(2))
    assert np.array_equal(once, again)
    assert np.array_equal(once, pixels(buffer.getvalue(), max_pixels=LIMIT))
    assert np.array_equal(np.asarray(opened.convert("RGB")), once)


def test_a_frame_and_a_size_that_were_asked_for_are_those() -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    animation = Image.open(buffer)
    animation.seek(1)
    assert pixels(animation, max_pixels=LIMIT)[0, 0].tolist() == [0, 0, 255]
    buffer = io.BytesIO()
    frames[0].save(buffer, "JPEG")
    photo = Image.open(buffer)
    photo.draft("RGB", (16, 16))
    assert pixels(photo, max_pixels=LIMIT).shape == (16, 16, 3)


def test_a_pil_image_whose_file_is_closed_cannot_be_read(array: Any) -> None:
    buffer = io.BytesIO(png(array))
    opened = Image.open(buffer)
    buffer.close()
    with pytest.raises(InvalidImage, match="the file was closed before its pixels were read"):
        pixels(opened, max_pixels=LIMIT)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "BMP", "GIF", "TIFF"])
def test_a_pil_image_after_its_with_block_or_verify(
    array: Any, file_format: str, tmp_path: Path
) -> None:
    path = tmp_path / "image"
    Image.fromarray(array).save(path, file_format)
    with Image.open(path) as left:
        pass
    with Image.open(path) as verified:
        verified.verify()
    of_memory = Image.open(io.BytesIO(path.read_bytes()))
    of_memory.verify()
    with Image.open(path) as loaded:
        expected = np.asarray(loaded.convert("RGB"))
    assert np.array_equal(pixels(loaded, max_pixels=LIMIT), expected)
    for image in (left, verified, of_memory):
        with pytest.raises(InvalidImage, match=r"call load\(\) within the with block") as refusal:
            pixels(image, max_pixels=LIMIT)
        assert "open the file again" in refusal.value.hint


def test_a_pil_image_stays_as_it_is() -> None:
    palette = Image.new("P", (4, 3))
    palette.info["transparency"] = b"\0\1"
    pixels(palette, max_pixels=LIMIT)
    assert palette.info == {"transparency": b"\0\1"}


@pytest.mark.parametrize("mode", ["I", "F"])
def test_modes_without_a_range_are_refused(mode: str) -> None:
    with pytest.raises(InvalidImage, match=f"mode {mode} has no fixed range") as refused:
        pixels(Image.new(mode, (4, 3), 200), max_pixels=LIMIT)
    assert "convert it to mode L or RGB" in refused.value.hint


def test_a_16_bit_png_keeps_the_upper_8_bits_in_every_form() -> None:
    values = np.arange(0, 65536, 5461, np.uint16).reshape(1, -1)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    for form in (buffer.getvalue(), Image.open(io.BytesIO(buffer.getvalue()))):
        assert np.array_equal(pixels(form, max_pixels=LIMIT)[:, :, 1], values >> 8)
    widened = Image.open(io.BytesIO(buffer.getvalue())).convert("I")
    widened.format = "PNG"  # as Pillow before 11.3 opens the file
    assert np.array_equal(pixels(widened, max_pixels=LIMIT)[:, :, 0], values >> 8)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "I;16"])
def test_other_modes_become_rgb(mode: str) -> None:
    found = pixels(Image.new(mode, (4, 3)), max_pixels=LIMIT)
    assert found.shape == (3, 4, 3)
    assert found.dtype == np.uint8


@pytest.mark.parametrize(
    ("array", "repair"),
    [
        (np.full((4, 5), 7, np.uint8), "np.dstack([image] * 3)"),
        (np.full((4, 5, 4), 7, np.uint8), "image[:, :, :3]"),
        (np.full((4, 5, 3), 0.5, np.float32), "(image * 255).round().astype(np.uint8)"),
        (np.full((3, 4, 5), 7, np.uint8), "image.transpose(1, 2, 0)"),
        (np.full((2, 4, 5, 3), 7, np.uint8), "list(images)"),
        (np.full((4, 5, 3), 7, np.int64), ""),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused_with_the_repair(
    array: Any, repair: str
) -> None:
    with pytest.raises(InvalidImage, match=r"an array must be \(H, W, 3\) uint8 RGB") as refusal:
        pixels(array, max_pixels=LIMIT)
    assert refusal.value.hint.endswith(repair)
    if repair:
        repaired = eval(repair, {"np": np, "image": array, "images": array})
        for image in repaired if isinstance(repaired, list) else [repaired]:
            assert pixels(image, max_pixels=LIMIT).shape == (4, 5, 3)


def test_an_array_without_pixels_is_refused() -> None:
    with pytest.raises(InvalidImage, match="no pixels"):
        pixels(np.zeros((0, 4, 3), np.uint8), max_pixels=LIMIT)


def test_an_image_file_that_is_damaged_is_named(array: Any, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(png(array)[:-30])
    with pytest.raises(InvalidImage, match=r"cut\.png: the PNG is damaged"):
        pixels(tmp_path / "cut.png", max_pixels=LIMIT)


def test_the_limit_is_that_of_every_form(array: Any) -> None:
    for form in (array, Image.fromarray(array), png(array)):
        assert pixels(form, max_pixels=35).shape == (5, 7, 3)
        with pytest.raises(InputTooLarge):
            pixels(form, max_pixels=34)


def test_what_is_no_image_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        pixels(tmp_path / "none.jpg", max_pixels=LIMIT)
    for name in ("a\0b.jpg", "a\udcff\ud800.jpg"):
        with pytest.raises(InvalidInput, match="is not the path of a file"):
            pixels(name, max_pixels=LIMIT)
    with pytest.raises(InvalidInput, match="int is not an image"):
        pixels(3, max_pixels=LIMIT)  # type: ignore[arg-type]


def test_a_pil_image_of_a_mode_that_is_not_read_names_those_that_are() -> None:
    for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"):
        assert pixels(Image.new(mode, (3, 2)), max_pixels=LIMIT).shape == (2, 3, 3)
    with pytest.raises(InvalidImage, match="a PIL image of mode La is not read") as refusal:
        pixels(Image.new("LA", (3, 2)).convert("La"), max_pixels=LIMIT)
    assert "convert it to one of 1, L, LA, P" in refusal.value.hint


def test_a_pil_image_that_is_cut_off_is_an_error_of_the_tree() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (99, 99, 3)).astype(np.uint8)
    opened = Image.open(io.BytesIO(png(noise)[:20_000]))
    with pytest.raises(InvalidImage, match="damaged or cut off"):
        pixels(opened, max_pixels=LIMIT)
