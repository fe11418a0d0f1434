"""PIL images of every mode become RGB; sizes are checked; orientations are undone."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from seatrial.detect import pixels as pixels_module
from seatrial.detect.pixels import MAX_SIDE_PX, check_size, pil_to_rgb, upright
from seatrial.errors import InputTooLarge, InvalidImage

NOISE = Image.fromarray(np.random.default_rng(2).integers(0, 256, (13, 9, 4), np.uint8), "RGBA")


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV"]
)
def test_every_mode_becomes_the_rgb_of_pillow(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alpha is dropped; and an image of several strips is that of one."""
    source = NOISE if mode in ("LA", "RGBA", "RGBa") else NOISE.convert("RGB")
    picture = source.convert(mode)
    expected = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(pil_to_rgb(picture), expected)
    monkeypatch.setattr(pixels_module, "STRIP_PIXELS", 40)
    np.testing.assert_array_equal(pil_to_rgb(picture), expected)


def test_16_bits_keep_the_upper_8() -> None:
    values = np.random.default_rng(2).integers(0, 2**16, (13, 9), np.uint16)
    expected = np.repeat((values >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(pil_to_rgb(Image.fromarray(values)), expected)


@pytest.mark.parametrize(
    ("mode", "reason"), [("I", "no fixed range"), ("F", "no fixed range"), ("La", "is not read")]
)
def test_modes_that_say_no_colour_are_refused(mode: str, reason: str) -> None:
    source = NOISE.convert("LA" if mode == "La" else "L")
    with pytest.raises(InvalidImage, match=f"mode {mode} .*{reason}") as refusal:
        pil_to_rgb(source.convert(mode))
    assert "convert it to" in refusal.value.hint


def test_sizes_are_checked() -> None:
    check_size(MAX_SIDE_PX, 1, MAX_SIDE_PX)
    for width, height, kind in ((0, 5, InvalidImage), (MAX_SIDE_PX + 1, 1, InputTooLarge),
                                (11, 10, InputTooLarge)):  # fmt: skip
        with pytest.raises(kind):
            check_size(width, height, 100)


@pytest.mark.parametrize("orientation", range(10))
def test_orientations_are_undone_as_by_pillow(orientation: int) -> None:
    picture = NOISE.convert("RGB")
    picture.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(upright(np.asarray(NOISE.convert("RGB")), orientation), expected)
