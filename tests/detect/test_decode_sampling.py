"""JPEGs with sampling that encoders hardly write, and frames that are not read."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image
from tests.support.jpeg_by_hand import jpeg_by_hand, segment

from seatrial.detect import decode as decode_module
from seatrial.detect.decode import decode, decoded_size
from seatrial.detect.decode_cost import DecodeCost, read_jpeg
from seatrial.errors import InvalidImage, UnsupportedImage

MAX_PIXELS = 1_000_000
# libjpeg-turbo's reader has a name for the first of these, and none for the others.
NAMED = [((2, 1), (2, 1), (2, 1)), ((2, 2), (1, 2), (1, 2))]
NAMELESS = [
    ((2, 2), (1, 1), (1, 2)), ((2, 2), (2, 1), (1, 2)), ((1, 1), (2, 2), (1, 1)),
    ((3, 1), (1, 1), (1, 1)), ((4, 2), (1, 1), (1, 1)),
]  # fmt: skip


@pytest.mark.parametrize("sampling", [*NAMED, *NAMELESS])
def test_any_sampling_gives_the_pixels_of_pillow_and_opencv(
    sampling: tuple[tuple[int, int], ...],
) -> None:
    data = jpeg_by_hand(sampling)
    image = decode(data, max_pixels=MAX_PIXELS)
    with Image.open(io.BytesIO(data)) as reference:
        np.testing.assert_array_equal(image, np.asarray(reference))
    other = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(image.astype(int) - other).mean() < 3
    assert decoded_size(data, max_pixels=MAX_PIXELS) == (100, 70)


@pytest.mark.parametrize("sampling", NAMELESS)
def test_sampling_without_a_name_is_refused_where_it_is_cut_off(
    sampling: tuple[tuple[int, int], ...],
) -> None:
    data = jpeg_by_hand(sampling)
    with pytest.raises(InvalidImage, match="damaged or cut off"):
        decode(data[: len(data) // 2], max_pixels=MAX_PIXELS)


def test_sampling_without_a_name_costs_what_pillow_takes() -> None:
    data = jpeg_by_hand(NAMELESS[0])
    costs: list[DecodeCost] = []
    decode(data, max_pixels=MAX_PIXELS, on_cost=costs.append)
    assert costs == [read_jpeg(data).cost_by_pillow]


def test_the_library_is_asked_for_unusual_sampling_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(decode_module.simplejpeg, "decode_jpeg_header")
    for first in ((1, 1), (2, 1), (2, 2), (1, 2), (4, 1), (1, 4)):
        data = jpeg_by_hand((first, (1, 1), (1, 1)))
        assert decode(data, max_pixels=MAX_PIXELS).shape == (70, 100, 3)
    with pytest.raises(AttributeError, match="decode_jpeg_header"):
        decode(jpeg_by_hand(NAMED[0]), max_pixels=MAX_PIXELS)


def test_12_bits_are_named_and_not_read() -> None:
    data = jpeg_by_hand([(1, 1)], bits=12).replace(b"\xff\xc0", b"\xff\xc1")
    with pytest.raises(UnsupportedImage, match="12 bits") as refusal:
        decode(data, max_pixels=MAX_PIXELS)
    assert refusal.value.hint == "save it again as an ordinary JPEG"


def test_jpeg_ls_is_named_and_not_read() -> None:
    frame = segment(0xF7, b"\x08\0\x10\0\x10\x01\x01\x11\0")
    with pytest.raises(UnsupportedImage, match="frame FFF7: lossless"):
        decode(b"\xff\xd8" + frame + bytes(50) + b"\xff\xd9", max_pixels=MAX_PIXELS)
