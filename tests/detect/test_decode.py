"""Decoding: every colour mode and orientation as the reference decoders have it."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from seatrial.detect import decode as decode_module
from seatrial.detect.decode import decode, decode_file, read_image
from seatrial.detect.pixels import MAX_SIDE_PX
from seatrial.errors import (
    InputTooLarge,
    InvalidDataset,
    InvalidImage,
    InvalidInput,
    UnsupportedImage,
)

MAX_PIXELS = 50_000_000
Encode = Callable[..., bytes]


@pytest.fixture(scope="module")
def noise() -> Image.Image:
    """37 x 23 pixels, none like its neighbour: any flip, shift or swap of channels shows."""
    return Image.fromarray(np.random.default_rng(7).integers(0, 256, (23, 37, 3), np.uint8))


@pytest.fixture(scope="module")
def gradient() -> Image.Image:
    """A smooth 64 x 48 picture, as lossy formats like it."""
    y, x = np.mgrid[:48, :64]
    return Image.fromarray(np.stack([x * 4, y * 5, 255 - x * 4], -1).astype(np.uint8))


def pil_rgb(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


def cv2_rgb(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


def read(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    image = decode(data, max_pixels=max_pixels)
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.flags.c_contiguous
    return image


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_is_bit_identical_with_pillow(
    noise: Image.Image, encode: Encode, quality: int, subsampling: str, progressive: bool
) -> None:
    data = encode(noise, quality=quality, subsampling=subsampling, progressive=progressive)
    np.testing.assert_array_equal(read(data), pil_rgb(data))


def test_photos_are_bit_identical_with_pillow(shared_photos: list[Path]) -> None:
    for path in shared_photos[:8]:
        np.testing.assert_array_equal(read(path.read_bytes()), pil_rgb(path.read_bytes()))


@pytest.mark.parametrize("image_format", ["PNG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "LA"])
def test_modes_equal_opencv(
    noise: Image.Image, encode: Encode, image_format: str, mode: str
) -> None:
    picture = noise.convert(mode)
    if mode in ("RGBA", "LA"):  # alpha from 0 to 255 over colours that are all there
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    data = encode(picture, image_format, **({"lossless": True} if image_format == "WEBP" else {}))
    np.testing.assert_array_equal(read(data), cv2_rgb(data))


def test_alpha_is_dropped_and_the_colour_under_it_shows(encode: Encode) -> None:
    unseen = Image.new("RGBA", (4, 3), (10, 200, 30, 0))
    for data in (encode(unseen, "PNG"), encode(unseen, "WEBP", lossless=True, exact=True)):
        assert (read(data) == (10, 200, 30)).all()


@pytest.mark.parametrize("transparency", [1, b"\x00\x80"])
def test_palette_with_transparency_shows_the_palette_colour(
    encode: Encode, transparency: int | bytes
) -> None:
    picture = Image.new("P", (4, 3), 1)
    picture.putpalette([0, 0, 0, 250, 10, 20])
    data = encode(picture, "PNG", transparency=transparency)
    assert (read(data) == (250, 10, 20)).all()
    np.testing.assert_array_equal(read(data), cv2_rgb(data))


def test_grey_jpeg_is_repeated(noise: Image.Image, encode: Encode) -> None:
    data = encode(noise.convert("L"))
    image = read(data)
    assert (image[:, :, 0] == image[:, :, 1]).all()
    assert (image[:, :, 1] == image[:, :, 2]).all()
    np.testing.assert_array_equal(image, pil_rgb(data))


def test_16_bit_grey_keeps_the_upper_eight_bits() -> None:
    values = np.arange(0, 65536, 257, np.uint16).reshape(16, 16) + np.uint16(0)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    image = read(buffer.getvalue())
    np.testing.assert_array_equal(image, np.repeat((values >> 8)[:, :, None], 3, 2))
    np.testing.assert_array_equal(image, cv2_rgb(buffer.getvalue()))


@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colour_keeps_the_upper_eight_bits(channels: int) -> None:
    values = np.random.default_rng(3).integers(0, 65536, (9, 11, channels), np.uint16)
    bgr = values[:, :, [2, 1, 0, 3][:channels]]
    data = cv2.imencode(".png", bgr)[1].tobytes()
    assert data[24] == 16  # bit depth in IHDR
    np.testing.assert_array_equal(read(data), values[:, :, :3] >> 8)


def test_cmyk_jpeg_with_reduced_colours(gradient: Image.Image, encode: Encode) -> None:
    """libjpeg-turbo's header reader does not know this sampling."""
    data = encode(gradient.convert("CMYK"), subsampling=2)
    np.testing.assert_array_equal(read(data), pil_rgb(data))


def test_cmyk_jpeg(gradient: Image.Image, encode: Encode) -> None:
    data = encode(gradient.convert("CMYK"))
    np.testing.assert_array_equal(read(data), pil_rgb(data))
    assert np.abs(read(data).astype(int) - np.asarray(gradient)).mean() < 8


def test_cmyk_is_taken_as_inverted_with_and_without_adobes_marker(
    gradient: Image.Image, encode: Encode
) -> None:
    marked = encode(gradient.convert("CMYK"))
    assert b"Adobe" in marked  # Pillow writes what Adobe does: inverted, with the marker
    bare = without_segment(marked, b"\xff\xee")
    np.testing.assert_array_equal(read(bare), pil_rgb(bare))
    np.testing.assert_array_equal(read(bare), read(marked))


def test_ycck_jpeg(gradient: Image.Image, encode: Encode) -> None:
    data = encode(gradient.convert("CMYK"))
    at = data.index(b"Adobe") + 11  # the marker's transform: 2 says YCCK
    ycck = data[:at] + b"\x02" + data[at + 1 :]
    np.testing.assert_array_equal(read(ycck), pil_rgb(ycck))
    assert not np.array_equal(read(ycck), read(data))


def test_rgb_jpeg(noise: Image.Image, encode: Encode) -> None:
    data = encode(noise, keep_rgb=True)
    np.testing.assert_array_equal(read(data), pil_rgb(data))
    assert np.abs(read(data).astype(int) - np.asarray(noise)).mean() < 4


@pytest.mark.parametrize("image_format", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame_counts(encode: Encode, image_format: str) -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "lime", "blue")]
    data = encode(
        frames[0], image_format, save_all=True, append_images=frames[1:], duration=40, lossless=True
    )
    with Image.open(io.BytesIO(data)) as animation:
        assert animation.n_frames == 3
    assert (read(data) == (255, 0, 0)).all()


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_as_pillow_applies_it(
    noise: Image.Image, encode: Encode, image_format: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(noise, image_format, exif=exif)
    upright = read(data)
    assert upright.shape[:2] == ((37, 23) if orientation >= 5 else (23, 37))
    np.testing.assert_array_equal(upright, pil_rgb(data))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_orientations_that_do_not_exist_change_nothing(
    noise: Image.Image, encode: Encode, image_format: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert read(encode(noise, image_format, exif=exif)).shape == (23, 37, 3)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\x00\x00",
        b"Exif\x00\x00II",
        b"Exif\x00\x00garbage that is no TIFF header",
        b"Exif\x00\x00II*\x00\xff\xff\xff\xff",
        b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff" + b"\xff" * 40,
        # The orientation as text, and one that lies behind the end.
        b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x02\x00\x04\x00\x00\x00abc\x00",
        # A number from 1 to 8, but not one SHORT or LONG: a BYTE, and two SHORTs.
        b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x01\x00\x01\x00\x00\x00\x06\x00\x00\x00",
        b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x02\x00\x00\x00\x06\x00\x00\x00",
        b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x09\x00\x00\x00\xff\xff\xff\x7f",
    ],
)
def test_a_picture_with_broken_exif_is_shown_as_it_lies(
    noise: Image.Image, encode: Encode, image_format: str, exif: bytes
) -> None:
    plain = encode(noise, image_format)
    np.testing.assert_array_equal(
        read(encode(noise, image_format, exif=exif)), read(plain), strict=True
    )


@pytest.mark.parametrize("order", [b"II*\x00", b"MM\x00*"])
def test_exif_in_either_byte_order(noise: Image.Image, encode: Encode, order: bytes) -> None:
    mark = "<" if order.startswith(b"I") else ">"
    make = struct.pack(mark + "HHI4s", 0x010F, 2, 4, b"abc\x00")
    orientation = struct.pack(mark + "HHIHH", 0x0112, 3, 1, 8, 0)
    tiff = order + struct.pack(mark + "IH", 8, 2) + make + orientation + bytes(4)
    data = encode(noise, exif=b"Exif\x00\x00" + tiff)
    np.testing.assert_array_equal(read(data), pil_rgb(data))
    assert read(data).shape == (37, 23, 3)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("order", [b"II*\x00", b"MM\x00*"])
def test_an_orientation_of_type_long_counts_as_in_pillow(
    noise: Image.Image, encode: Encode, image_format: str, order: bytes
) -> None:
    mark = "<" if order.startswith(b"I") else ">"
    for value, turned in ((6, True), (6 << 16, False), (9, False)):
        entry = struct.pack(mark + "HHHII", 1, 0x0112, 4, 1, value)
        tiff = order + struct.pack(mark + "I", 8) + entry + bytes(4)
        data = encode(noise, image_format, exif=b"Exif\x00\x00" + tiff)
        assert read(data).shape == ((37, 23, 3) if turned else (23, 37, 3))
        if turned:
            np.testing.assert_array_equal(read(data), pil_rgb(data))


def test_exif_after_fill_bytes_and_other_segments_is_found(
    noise: Image.Image, encode: Encode
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(noise, exif=exif)
    comment = b"\xff\xfe" + struct.pack(">H", 7) + b"hello"
    # ITU T.81 B.1.1.2: any marker may be preceded by any number of fill bytes.
    padded = data[:2] + comment + b"\xff\xff" + data[2:]
    np.testing.assert_array_equal(read(padded), read(data))
    assert read(padded).shape == (37, 23, 3)


def test_bytes_after_the_end_of_a_jpeg_do_not_matter(noise: Image.Image, encode: Encode) -> None:
    data = encode(noise)
    for tail in (b"\x00" * 100, b"trailing text", data):
        np.testing.assert_array_equal(read(data + tail), read(data))


def test_a_picture_of_one_pixel(encode: Encode) -> None:
    for image_format in ("JPEG", "PNG", "WEBP"):
        assert read(encode(Image.new("RGB", (1, 1), "white"), image_format)).shape == (1, 1, 3)


def test_a_memoryview_is_read_like_bytes(noise: Image.Image, encode: Encode) -> None:
    for image_format in ("JPEG", "PNG", "WEBP"):
        data = encode(noise, image_format)
        np.testing.assert_array_equal(
            decode(memoryview(bytearray(data)), max_pixels=MAX_PIXELS), read(data)
        )


def test_empty() -> None:
    with pytest.raises(InvalidInput, match="empty"):
        decode(b"", max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("image_format", ["GIF", "BMP", "TIFF", "ICO", "PPM", "TGA"])
def test_other_formats_are_refused_by_name(
    noise: Image.Image, encode: Encode, image_format: str
) -> None:
    with pytest.raises(UnsupportedImage) as refusal:
        read(encode(noise, image_format))
    assert refusal.value.http_status == 415
    assert "JPEG, PNG, WEBP" in refusal.value.hint


@pytest.mark.parametrize("data", [b"hello", b"<html></html>", b"\x00" * 64, b"%PDF-1.7", b"\xff"])
def test_what_is_no_image(data: bytes) -> None:
    with pytest.raises(UnsupportedImage):
        read(data)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.8, 0.95, 0.99])
def test_a_file_that_is_cut_off(
    noise: Image.Image, encode: Encode, image_format: str, share: float
) -> None:
    data = encode(noise, image_format)
    with pytest.raises(InvalidImage) as refusal:
        read(data[: int(len(data) * share)])
    assert refusal.value.http_status == 422


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_its_last_bytes(
    noise: Image.Image, encode: Encode, mode: str, progressive: bool
) -> None:
    data = encode(noise.convert(mode), progressive=progressive)
    for missing in (20, 100, 300):
        with pytest.raises(InvalidImage):
            read(data[:-missing])


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_jpeg_that_lacks_pixels_and_has_an_end(
    noise: Image.Image, encode: Encode, mode: str, share: float
) -> None:
    data = encode(noise.convert(mode))
    with pytest.raises(InvalidImage, match="damaged"):
        read(data[: int(len(data) * share)] + b"\xff\xd9")


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("size", [(36, 23), (37, 22), (38, 23), (37, 24), (10, 100)])
def test_a_size_that_the_library_reads_otherwise_takes_no_memory(
    noise: Image.Image, encode: Encode, monkeypatch: pytest.MonkeyPatch, mode: str,
    size: tuple[int, int],
) -> None:  # fmt: skip
    """What was weighed is what the image is decoded into."""
    data = encode(noise.convert(mode))
    told = decode_module.read_jpeg(data)
    assert told.size == (37, 23)
    wrong = msgspec.structs.replace(told, size=size)
    monkeypatch.setattr(decode_module, "read_jpeg", lambda data: wrong)
    with pytest.raises(InvalidImage, match="damaged"):
        read(data)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_library_is_not_asked_for_an_ordinary_header(
    noise: Image.Image, encode: Encode, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """It lets go of Python's lock for that, and other threads take it."""
    monkeypatch.delattr(decode_module.simplejpeg, "decode_jpeg_header")
    assert read(encode(noise.convert(mode))).shape == (23, 37, 3)


@pytest.mark.parametrize(("width", "height"), [(0, 0), (0, 5), (5, 0)])
def test_headers_that_say_no_pixels(
    noise: Image.Image, encode: Encode, width: int, height: int
) -> None:
    with pytest.raises(InvalidImage):
        read(png_with_size(width, height))
    with pytest.raises(InvalidImage):
        read(jpeg_with_size(encode(noise), width, height))


def test_the_limit_counts_pixels(noise: Image.Image, encode: Encode) -> None:
    for image_format in ("JPEG", "PNG", "WEBP"):
        data = encode(noise, image_format)
        assert read(data, max_pixels=23 * 37).shape == (23, 37, 3)
        with pytest.raises(InputTooLarge, match="37 x 23") as refusal:
            read(data, max_pixels=23 * 37 - 1)
        assert refusal.value.http_status == 413


def test_a_side_is_as_long_as_the_resizer_can_take(encode: Encode) -> None:
    assert read(encode(Image.new("L", (MAX_SIDE_PX, 1)), "PNG")).shape[1] == MAX_SIDE_PX
    for size in ((MAX_SIDE_PX + 1, 1), (1, MAX_SIDE_PX + 1)):
        for image_format in ("PNG", "JPEG"):
            with pytest.raises(InputTooLarge, match="side"):
                read(encode(Image.new("L", size), image_format))


def test_damaged_text_chunks_do_not_hide_the_picture(noise: Image.Image, encode: Encode) -> None:
    facts = PngImagePlugin.PngInfo()
    facts.add_text("Comment", "x" * 5000, zip=True)
    np.testing.assert_array_equal(read(encode(noise, "PNG", pnginfo=facts)), np.asarray(noise))


def without_segment(jpeg: bytes, marker: bytes) -> bytes:
    at = jpeg.index(marker)
    length = int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return jpeg[:at] + jpeg[at + 2 + length :]


def png_with_size(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\x00" * 100)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def jpeg_with_size(jpeg: bytes, width: int, height: int) -> bytes:
    at = jpeg.index(b"\xff\xc0") + 5  # SOF0: length, precision, then height and width
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


def test_an_orientation_behind_the_end_of_its_segment_does_not_count(
    noise: Image.Image, encode: Encode
) -> None:
    data = encode(noise)
    directory = struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\x00\x00II*\x00" + struct.pack("<I", 12)  # the directory is in the next segment
    segments = b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif
    segments += b"\xff\xfe" + struct.pack(">H", 2 + len(directory)) + directory
    assert read(data[:2] + segments + data[2:]).shape == (23, 37, 3)


def test_a_png_is_refused_by_the_first_24_bytes() -> None:
    """Pillow is not asked: it warns of some, and words the limit otherwise."""
    whole = png_with_size(30_000, 20_000)
    for data in (whole, whole[:24]):
        with pytest.raises(InputTooLarge, match="30000 x 20000, over the limit of 1000 pixels"):
            read(data, max_pixels=1000)
    with pytest.raises(InvalidImage):
        read(whole[:23], max_pixels=1000)


@pytest.mark.parametrize("rest", [b"", b"\x00", b"\x00\x00\x00\x0dIHDR\x00"])
def test_a_file_that_begins_as_a_png_is_a_damaged_one(rest: bytes) -> None:
    with pytest.raises(InvalidImage, match="damaged or cut off"):
        read(b"\x89PNG\r\n\x1a\n" + rest)


@pytest.mark.parametrize("kind", [b"VP8X", b"VP8L", b"VP8 "])
def test_only_a_whole_webp_header_says_a_size(kind: bytes) -> None:
    size = b"\xff" * 6
    header = kind + struct.pack("<I", 10) + b"\x2f\x00\x00\x00" + size
    with pytest.raises(InvalidImage):  # cut off within the size
        read(b"RIFF" + bytes(4) + b"WEBP" + header[:-3], max_pixels=100)
    with pytest.raises(UnsupportedImage):  # another RIFF file
        read(b"RIFF" + bytes(4) + b"WAVE" + header + size, max_pixels=100)


def test_errors_of_a_file_name_it(noise: Image.Image, tmp_path: Path) -> None:
    noise.convert("RGB").save(tmp_path / "whole.jpg")
    assert decode_file(tmp_path / "whole.jpg", max_pixels=MAX_PIXELS).shape[2] == 3
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-400])
    (tmp_path / "notes.png").write_bytes(b"no image")
    for name, kind, said in (
        ("cut.jpg", InvalidImage, "cut.jpg: the JPEG is damaged or cut off"),
        ("notes.png", UnsupportedImage, "notes.png: the file is not in a known image format"),
        ("gone.png", InvalidInput, "gone.png cannot be read: No such file"),
    ):
        path = tmp_path / name
        with pytest.raises(kind, match=f"{tmp_path}/{said}") as refusal:
            decode_file(path, max_pixels=MAX_PIXELS)
        with pytest.raises(InvalidDataset) as told:
            read_image(path, max_pixels=MAX_PIXELS, hint="replace it")
        assert told.value.message == refusal.value.message
        assert told.value.hint == "replace it"
