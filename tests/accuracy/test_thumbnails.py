"""Labels of the error gallery leave the image to be seen."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from seatrial.accuracy.error_gallery import JudgedBox, JudgedImage
from seatrial.accuracy.thumbnails import COLOURS, LINE_PX, label_places, thumbnail

SIZE = (480, 360)
box = st.tuples(
    st.integers(-20, 470), st.integers(-20, 350), st.integers(1, 200), st.integers(1, 200)
)


def test_a_label_stands_above_its_box_or_below_it_where_there_is_no_room_above() -> None:
    assert label_places([(50, 100, 40, 30)], [60], SIZE) == [(50, 100 - LINE_PX - 1, 60, LINE_PX)]
    assert label_places([(50, 2, 40, 30)], [60], SIZE) == [(50, 33, 60, LINE_PX)]
    assert label_places([(470, 100, 10, 30)], [60], SIZE)[0] == (420, 85, 60, LINE_PX)


def test_a_label_without_room_is_left_out() -> None:
    assert label_places([(0, 0, 480, 360)], [60], SIZE) == [None]
    assert label_places([(10, 100, 50, 50)], [500], SIZE) == [None]
    stack = [(50, 100 + n, 40, 30) for n in range(12)]
    assert sum(place is not None for place in label_places(stack, [60] * 12, SIZE)) <= 2


@given(st.lists(st.tuples(box, st.integers(10, 200)), max_size=30))
def test_no_label_covers_a_label_or_another_box_or_leaves_the_image(drawn: list) -> None:
    boxes, lengths = [one for one, _ in drawn], [length for _, length in drawn]
    seen = np.zeros((SIZE[1], SIZE[0]), np.int64)
    for number, place in enumerate(label_places(boxes, lengths, SIZE)):
        if place is None:
            continue
        x, y, wide, high = place
        assert 0 <= x <= x + wide <= SIZE[0]
        assert 0 <= y <= y + high <= SIZE[1]
        seen[y : y + high, x : x + wide] += 1
        for other, (left, top, width, height) in enumerate(boxes):
            if other != number:
                apart = left >= x + wide or x >= left + width
                assert apart or top >= y + high or y >= top + height
    assert seen.max(initial=0) <= 1


def test_found_objects_have_a_box_and_no_label(tmp_path: Path) -> None:
    """Forty found objects and one error: nearly all of the image is the image."""
    path = tmp_path / "white.png"
    Image.new("RGB", (480, 480), "white").save(path)
    found = [
        JudgedBox((10.0 + 45 * (n % 10), 20.0 + 60 * (n // 10), 20.0, 20.0), "9 0.99", "found")
        for n in range(40)
    ]
    judged = JudgedImage("white", 40, 1, 0, (*found, JudgedBox((200, 400, 30, 30), "7", "missed")))
    address = thumbnail(judged, path).removeprefix("data:image/jpeg;base64,")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(address))).convert("RGB"), int)
    assert (pixels.min(-1) > 200).mean() > 0.9
    label = pixels[400 - LINE_PX : 398, 202:206].reshape(-1, 3)
    assert np.abs(label - COLOURS["missed"]).max(-1).min() < 40
