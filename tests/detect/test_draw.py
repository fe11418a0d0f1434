"""Images with boxes and labels drawn."""

from __future__ import annotations

import io
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from seatrial.detect.detections import Detections
from seatrial.detect.draw import annotated_jpeg, draw

LABELS = ("person", "Fußgänger", "a label that is much wider than the box and the image too")


def found(*rows: tuple[tuple[float, ...], float, int]) -> Detections:
    return Detections(
        np.array([box for box, _, _ in rows], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in rows], np.float32),
        np.array([class_id for _, _, class_id in rows], np.int64),
    )


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


def test_a_box_with_a_track_has_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    put = cv2.putText
    monkeypatch.setattr(cv2, "putText", lambda *a, **k: (said.append(a[1]), put(*a, **k))[1])
    boxes = found(((10, 30, 50, 60), 0.9, 0), ((80, 30, 99, 60), 0.5, 0))
    image = np.zeros((120, 160, 3), np.uint8)
    draw(image, replace(boxes, track_id=np.array([7, -1])), LABELS)
    draw(image, boxes, LABELS, scores=False)
    assert said == ["person 0.50", "person #7 0.90", "person", "person"]


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


def changed_by(box: tuple[float, ...], *, scores: bool = True) -> np.ndarray:
    """Mask of the pixels that drawing one box of class 0 changes in a black image."""
    drawn = draw(np.zeros((120, 200, 3), np.uint8), found((box, 0.9, 0)), LABELS, scores=scores)
    return (drawn != 0).any(axis=2)


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 4, 4), (196, 0, 200, 4), (0, 116, 4, 120), (196, 116, 200, 120),
        (100, 3, 104, 7), (198, 60, 200, 62),
    ],
)  # fmt: skip
def test_a_label_is_whole_at_every_border(box: tuple[float, ...]) -> None:
    inner = changed_by((100, 60, 104, 64))
    wanted = np.ptp(np.flatnonzero(inner.any(axis=0)))
    mask = changed_by(box)
    assert np.ptp(np.flatnonzero(mask.any(axis=0))) >= wanted - 2
    # Strokes of the box lie outside the image or under the label: 7 x 7 pixels at most. A label
    # that is cut by one row or column loses more.
    assert mask.sum() >= inner.sum() - 49


def test_a_label_lies_above_its_box_or_inside_it_where_there_is_no_room() -> None:
    below_the_box = changed_by((50, 60, 52, 62))[66:]
    assert not below_the_box.any()
    at_the_top = changed_by((50, 0, 52, 2))
    assert at_the_top[6:12, 55:70].any()


def test_the_confidence_is_left_out_on_request() -> None:
    box = (100, 60, 104, 64)
    with_score, without = changed_by(box), changed_by(box, scores=False)
    assert without.any(axis=0).sum() < with_score.any(axis=0).sum()


def test_the_most_confident_label_lies_on_top() -> None:
    image = np.zeros((120, 200, 3), np.uint8)
    box = (50, 60, 90, 100)
    sure, unsure = (box, 0.9, 0), (box, 0.3, 1)
    corner = (48, 52)  # in the label of both
    np.testing.assert_array_equal(
        draw(image, found(sure, unsure), LABELS)[corner],
        draw(image, found(sure), LABELS)[corner],
    )


def test_the_first_colours() -> None:
    """Hues a golden angle apart: reports and videos keep the colours of their classes."""
    image = np.zeros((960, 960, 3), np.uint8)
    edges = [
        draw(image, found(((100, 300, 500, 600), 0.9, class_id)), "abcd")[600, 300].tolist()
        for class_id in range(4)
    ]
    assert edges == [[235, 51, 51], [51, 235, 100], [155, 51, 235], [235, 210, 51]]


@pytest.mark.parametrize(
    ("side", "stroke", "scale", "thickness"),
    [(200, 1, 0.4, 1), (960, 4, 1.0, 2), (1680, 7, 1.75, 3)],
)
@pytest.mark.parametrize(("class_id", "ink"), [(0, 255), (1, 0), (13, 255)])
def test_strokes_and_letters_grow_with_the_image(
    side: int, stroke: int, scale: float, thickness: int, class_id: int, ink: int
) -> None:
    """White letters on dark colours, black ones on bright ones; class 13 is on the edge."""
    colour = {0: (235, 51, 51), 1: (51, 235, 100), 13: (235, 51, 94)}[class_id]
    wanted = np.zeros((side, side + 40, 3), np.uint8)
    box = (50, side // 2, side // 2, side - 30)
    cv2.rectangle(wanted, box[:2], box[2:], colour, stroke, cv2.LINE_AA)
    text, font = "a 0.90", cv2.FONT_HERSHEY_SIMPLEX
    (width, height), below = cv2.getTextSize(text, font, scale, thickness)
    cv2.rectangle(wanted, (50, box[1] - height - below), (50 + width, box[1]), colour, cv2.FILLED)
    place = (50, box[1] - below // 2 - 1)
    cv2.putText(wanted, text, place, font, scale, (ink,) * 3, thickness, cv2.LINE_AA)
    image = np.zeros_like(wanted)
    np.testing.assert_array_equal(draw(image, found((box, 0.9, class_id)), "a" * 20), wanted)
