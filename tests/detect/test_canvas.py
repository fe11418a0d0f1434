"""Images that are decoded onto the canvas, and those that are copied there."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seatrial.detect.canvas import CanvasRoom
from seatrial.detect.decode import EXTRANEOUS, decode
from seatrial.detect.preprocess import fit
from seatrial.errors import InvalidImage
from seatrial.manifest import Preprocessing

CENTRE = Preprocessing((96, 64), "letterbox", 114)
TOP = Preprocessing((96, 64), "letterbox", 114, align="top_left")


def file(size: tuple[int, int], mode: str = "RGB", form: str = "JPEG", **options: Any) -> bytes:
    """An encoded image of noise; size as (width, height)."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), np.uint8)
    image = Image.fromarray(noise[:, :, :3]).convert(mode)
    written = io.BytesIO()
    image.save(written, form, **options)
    return written.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return file((64, 48), exif=exif)


@pytest.mark.parametrize("preprocessing", [CENTRE, TOP])
@pytest.mark.parametrize(
    ("data", "lies_there"),
    [
        (file((64, 48)), True),
        (file((64, 47)), True),
        (file((64, 96)), True),
        (file((64, 1)), True),
        (file((64, 48), "L"), True),
        (file((64, 48), progressive=True), True),
        (turned(1), True),
        (file((64, 97)), False),  # made smaller
        (file((63, 48)), False),  # made larger
        (file((128, 96)), False),
        (file((48, 96)), False),  # bars at its sides
        (turned(3), False),
        (turned(6), False),
        (file((64, 48), "CMYK"), False),
        (file((64, 48), form="PNG"), False),
        (file((64, 48), form="WEBP"), False),
    ],
)
def test_the_canvas_is_the_one_of_a_copy(
    preprocessing: Preprocessing, data: bytes, lies_there: bool
) -> None:
    image = decode(data, max_pixels=10**6)
    expected, where = fit(image, preprocessing)
    canvas = CanvasRoom(preprocessing)
    same = decode(data, max_pixels=10**6, room=canvas.room)
    assert np.array_equal(same, image)
    assert same.flags.c_contiguous
    fitted = canvas.fitted(same)
    assert (fitted is not None) == lies_there
    if fitted is not None:
        found, place = fitted
        assert place == where
        assert (found.shape, found.dtype, found.flags.c_contiguous) == (
            expected.shape, expected.dtype, True,
        )  # fmt: skip
        assert np.array_equal(found, expected)
        assert np.shares_memory(found, same)


def test_only_a_letterbox_has_room() -> None:
    for resize in ("stretch", "shortest_edge"):
        assert CanvasRoom(Preprocessing((96, 64), resize, 114)).room((96, 64)) is None


def test_another_image_is_not_taken_for_the_one_on_the_canvas() -> None:
    canvas = CanvasRoom(CENTRE)
    assert canvas.fitted(np.zeros((48, 64, 3), np.uint8)) is None
    image = decode(file((64, 48)), max_pixels=10**6, room=canvas.room)
    assert canvas.fitted(image.copy()) is None
    assert canvas.fitted(image) is not None


def test_damage_is_noticed_and_what_is_odd_is_told_all_the_same() -> None:
    data, odd = file((64, 48)), []
    canvas = CanvasRoom(CENTRE)
    with pytest.raises(InvalidImage):
        decode(data[:-300], max_pixels=10**6, room=canvas.room)
    canvas = CanvasRoom(CENTRE)
    extra = data[:-2] + bytes(8) + data[-2:]
    image = decode(extra, max_pixels=10**6, room=canvas.room, on_warning=odd.append)
    assert odd == [EXTRANEOUS]
    found, _ = canvas.fitted(image) or fit(image, CENTRE)
    assert np.array_equal(found, fit(decode(data, max_pixels=10**6), CENTRE)[0])
