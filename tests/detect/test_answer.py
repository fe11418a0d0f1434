"""What a request is answered with."""

from __future__ import annotations

import io
import json

import msgspec
import numpy as np
import pytest
from PIL import Image

from seatrial.detect.answer import answer
from seatrial.detect.detections import Detections
from seatrial.detect.detector import Detected
from seatrial.detect.draw import annotated_jpeg, draw
from seatrial.detect.families.base import label_of

LABELS = ("person", "Fußgänger", "a label that is much wider than the box and the picture too")


def found(*rows: tuple[tuple[float, ...], float, int]) -> Detections:
    return Detections(
        np.array([box for box, _, _ in rows], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in rows], np.float32),
        np.array([class_id for _, _, class_id in rows], np.int64),
    )


def test_the_json_has_the_documented_shape() -> None:
    detections = found(((1.239, 2, 30.5, 40), 0.9123456, 0), ((0, 0, 5, 5), 0.5, 1))
    result = Detected(np.zeros((60, 80, 3), np.uint8), detections, {"infer": 1.0}, 2)
    got = json.loads(msgspec.json.encode(answer(result, LABELS, {"infer": 1.23456, "total": 2.0})))
    assert got == {
        "image": {"width": 80, "height": 60},
        "detections": [
            {
                "box": [1.24, 2.0, 30.5, 40.0],
                "confidence": 0.91235,
                "class_id": 0,
                "label": "person",
            },
            {"box": [0.0, 0.0, 5.0, 5.0], "confidence": 0.5, "class_id": 1, "label": "Fußgänger"},
        ],
        "timing_ms": {"infer": 1.235, "total": 2.0},
        "lane_threads": 2,
    }


def test_drawing_changes_a_copy_and_only_near_the_box() -> None:
    image = np.full((200, 300, 3), 114, np.uint8)
    drawn = draw(image, found(((100, 80, 160, 140), 0.9, 0)), LABELS)
    assert (image == 114).all()
    changed = (drawn != 114).any(axis=2)
    assert changed[80, 130]  # the upper edge
    assert changed[140, 130]  # the lower edge
    assert not changed[110, 130]  # inside
    assert not changed[:, :90].any()
    assert not changed[150:].any()


def test_no_detections_leave_the_picture_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    np.testing.assert_array_equal(draw(image, Detections.empty(), LABELS), image)


def test_classes_have_colours_of_their_own() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    edges = {
        tuple(draw(image, found(((10, 30, 50, 60), 0.9, class_id)), ["x"] * 80)[60, 30].tolist())
        for class_id in range(12)
    }
    assert len(edges) == 12


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 500), (500, 1), (7, 9), (1080, 1920)])
@pytest.mark.parametrize("class_id", [0, 1, 2])
def test_every_size_and_label_can_be_drawn(size_hw: tuple[int, int], class_id: int) -> None:
    height, width = size_hw
    image = np.zeros((height, width, 3), np.uint8)
    boxes = [
        ((0, 0, width, height), 0.9, class_id),
        ((width, height, width, height), 0.3, class_id),
    ]
    jpeg = annotated_jpeg(image, found(*boxes), LABELS)
    with Image.open(io.BytesIO(jpeg)) as picture:
        assert (picture.format, picture.mode) == ("JPEG", "RGB")
        assert picture.size == (width, height)


def test_the_jpeg_keeps_channel_order() -> None:
    jpeg = annotated_jpeg(np.full((32, 32, 3), (250, 5, 5), np.uint8), Detections.empty(), LABELS)
    with Image.open(io.BytesIO(jpeg)) as picture:
        red, green, blue = picture.getpixel((16, 16))
    assert red > 240
    assert max(green, blue) < 20


def test_a_class_without_a_name_is_told_by_its_number() -> None:
    assert label_of(1, ("a", "b")) == "b"
    assert label_of(7, ("a", "b")) == "7"
    assert label_of(-1, ("a", "b")) == "-1"
