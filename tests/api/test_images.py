"""Every form in which programs hold an image becomes the same array."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seatrial.api.images import pixels
from seatrial.errors import InputTooLarge, InvalidImage, InvalidInput

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


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "I;16"])
def test_other_modes_become_rgb(mode: str) -> None:
    found = pixels(Image.new(mode, (4, 3)), max_pixels=LIMIT)
    assert found.shape == (3, 4, 3)
    assert found.dtype == np.uint8


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(array: Any) -> None:
    with pytest.raises(InvalidImage):
        pixels(array, max_pixels=LIMIT)


def test_the_limit_is_that_of_every_form(array: Any) -> None:
    for form in (array, Image.fromarray(array), png(array)):
        assert pixels(form, max_pixels=35).shape == (5, 7, 3)
        with pytest.raises(InputTooLarge):
            pixels(form, max_pixels=34)


def test_what_is_no_image_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        pixels(tmp_path / "none.jpg", max_pixels=LIMIT)
    with pytest.raises(InvalidInput, match="int is not an image"):
        pixels(3, max_pixels=LIMIT)  # type: ignore[arg-type]


def test_a_pil_image_that_is_cut_off_is_an_error_of_the_tree() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (99, 99, 3)).astype(np.uint8)
    opened = Image.open(io.BytesIO(png(noise)[:20_000]))
    with pytest.raises(InvalidImage, match="damaged or cut off"):
        pixels(opened, max_pixels=LIMIT)
