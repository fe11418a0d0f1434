"""Augmentation: boxes go with their pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from seatrial.detect.detections import iou
from seatrial.train.augment import TrainingImage, augment
from seatrial.train.recipe import Augmentation

NOTHING = Augmentation(flip=0.0)
SIZE_HW = (60, 90)


@pytest.fixture
def example() -> TrainingImage:
    """Two rectangles, each of a colour of its own, on black."""
    image = np.zeros((*SIZE_HW, 3), np.uint8)
    xyxy = np.array([[5, 10, 25, 22], [50, 30, 85, 55]], np.float64)
    for (left, top, right, bottom), colour in zip(xyxy.astype(int), (80, 200), strict=True):
        image[top:bottom, left:right] = colour
    return TrainingImage(image, xyxy, np.array([0, 1]))


def painted(example: TrainingImage, colour: int) -> list[float]:
    """Where a colour is."""
    rows, columns = np.nonzero((example.image == colour).all(axis=2))
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def check_boxes(example: TrainingImage) -> None:
    for box, kind in zip(example.xyxy.tolist(), example.classes.tolist(), strict=True):
        assert box == painted(example, (80, 200)[kind])


@pytest.mark.parametrize(
    "settings",
    [
        Augmentation(flip=1.0),
        Augmentation(flip=0.0, vertical_flip=1.0),
        Augmentation(flip=0.0, zoom_out=1.0),
        Augmentation(flip=0.0, crop=1.0),
        Augmentation(flip=0.5, vertical_flip=0.5, zoom_out=0.5, crop=0.8),
    ],
)
def test_boxes_stay_around_what_they_were_around(
    example: TrainingImage, settings: Augmentation
) -> None:
    check_boxes(example)
    changed = 0
    for seed in range(40):
        varied = augment(example, settings, np.random.default_rng(seed))
        check_boxes(varied)
        changed += varied.image.shape != example.image.shape or not np.array_equal(
            varied.image, example.image
        )
    assert changed > 10


def test_crops_cut_boxes_and_drop_those_whose_middle_is_gone(example: TrainingImage) -> None:
    crops = [
        augment(example, Augmentation(flip=0.0, crop=1.0), np.random.default_rng(seed))
        for seed in range(60)
    ]
    assert {len(crop.classes) for crop in crops} == {1, 2}
    areas = {float((c.xyxy[:, 2:] - c.xyxy[:, :2]).prod(axis=1).max()) for c in crops}
    assert len(areas) > 5


def test_colours_change_within_their_ranges_and_boxes_do_not(example: TrainingImage) -> None:
    settings = Augmentation(flip=0.0, colour=1.0, brightness=0.1)
    grey = TrainingImage(np.full((8, 8, 3), 100, np.uint8), np.zeros((0, 4)), np.zeros(0, np.int64))
    found = {
        int(augment(grey, settings, np.random.default_rng(seed)).image[0, 0, 0])
        for seed in range(50)
    }
    assert min(found) >= 90
    assert max(found) <= 110
    assert len(found) > 10
    assert np.array_equal(augment(example, settings, np.random.default_rng(0)).xyxy, example.xyxy)


def test_hue_turns_colours_round() -> None:
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 200
    settings = Augmentation(flip=0.0, colour=1.0, hue=0.5)
    turned = [
        augment(TrainingImage(red, np.zeros((0, 4)), np.zeros(0, np.int64)), settings,
                np.random.default_rng(seed)).image[0, 0].argmax()
        for seed in range(30)
    ]  # fmt: skip
    assert set(turned) == {0, 1, 2}


def test_a_plain_picture_is_only_flipped(example: TrainingImage) -> None:
    everything = Augmentation(
        flip=0.0, colour=1.0, brightness=0.5, zoom_out=1.0, crop=1.0, contrast=0.5
    )
    varied = augment(example, everything, np.random.default_rng(0), plain=True)
    assert np.array_equal(varied.image, example.image)


def test_pictures_without_objects_are_left_whole(example: TrainingImage) -> None:
    empty = TrainingImage(example.image, np.zeros((0, 4)), np.zeros(0, np.int64))
    settings = Augmentation(flip=1.0, zoom_out=1.0, crop=1.0)
    assert augment(empty, settings, np.random.default_rng(1)).xyxy.shape == (0, 4)


def test_the_same_draw_gives_the_same_picture(example: TrainingImage) -> None:
    settings = Augmentation(colour=0.5, hue=0.1, saturation=0.5, zoom_out=0.5, crop=0.5)
    first, again = (augment(example, settings, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.xyxy, again.xyxy)
    assert np.array_equal(augment(example, NOTHING, np.random.default_rng(0)).image, example.image)


class FixedOverlap:
    """Random numbers, but the index of the least overlap is chosen."""

    def __init__(self, seed: int, index: int) -> None:
        self._draw = np.random.default_rng(seed)
        self._index = index

    def integers(self, high: int) -> int:
        return self._index

    def __getattr__(self, name: str) -> Any:
        return getattr(self._draw, name)


@pytest.mark.parametrize(("index", "least"), [(0, 0.0), (2, 0.3), (4, 0.7)])
def test_a_crop_keeps_its_shape_its_overlap_and_the_objects_whose_middle_it_has(
    index: int, least: float
) -> None:
    """SSD's rule, window by window: each pixel of the image holds its own place."""
    rows, columns = np.mgrid[:200, :200].astype(np.uint8)
    image = np.dstack([columns, rows, np.zeros_like(rows)])
    xyxy = np.array([[10, 10, 190, 190], [20, 30, 60, 70], [120, 100, 180, 190]], np.float64)
    example = TrainingImage(image, xyxy, np.arange(3))
    kept_counts = set()
    for seed in range(60):
        draw: Any = FixedOverlap(seed, index)
        crop = augment(example, Augmentation(flip=0.0, crop=1.0), draw)
        height, width = crop.image.shape[:2]
        left, top = crop.image[0, 0, :2].astype(int).tolist()
        assert 0.5 <= width / height <= 2.0
        assert 60 <= min(width, height) <= max(width, height) <= 200
        window = np.array([left, top, left + width, top + height], np.float64)
        middle = (xyxy[:, :2] + xyxy[:, 2:]) / 2
        inside = ((middle > window[:2]) & (middle < window[2:])).all(axis=1)
        assert crop.classes.tolist() == np.flatnonzero(inside).tolist()
        assert iou(xyxy[inside], window[None]).max() >= least
        cut = np.clip(xyxy[inside], np.tile(window[:2], 2), np.tile(window[2:], 2))
        assert crop.xyxy.tolist() == (cut - np.tile(window[:2], 2)).tolist()
        kept_counts.add(len(crop.classes))
    assert len(kept_counts) > 1 or least > 0.5


def test_the_last_choice_of_a_crop_is_the_whole_image(example: TrainingImage) -> None:
    draw: Any = FixedOverlap(0, 6)
    crop = augment(example, Augmentation(flip=0.0, crop=1.0), draw)
    assert np.array_equal(crop.image, example.image)


class ScriptedDraw:
    """Gives the numbers of a list, whatever is asked for; the ranges asked for are noted."""

    def __init__(self, *numbers: float) -> None:
        self._numbers = iter(numbers)
        self.asked: list[tuple[float, ...]] = []

    def random(self) -> float:
        return next(self._numbers)

    def uniform(self, low: float, high: float) -> float:
        self.asked.append((low, high))
        return next(self._numbers)

    def integers(self, *limits: int) -> int:
        self.asked.append(limits)
        return int(next(self._numbers))

    def is_empty(self) -> bool:
        return next(self._numbers, None) is None


def scripted(settings: Augmentation, *numbers: float, **arrays: Any) -> tuple[Any, ScriptedDraw]:
    """The image of 100 x 80 with boxes, changed by these numbers; all of them are used."""
    xyxy = np.array(arrays.get("xyxy", []), np.float64).reshape(-1, 4)
    image = arrays.get("image", np.zeros((80, 100, 3), np.uint8))
    draw: Any = ScriptedDraw(*numbers)
    changed = augment(TrainingImage(image, xyxy, np.arange(len(xyxy))), settings, draw)
    assert draw.is_empty()
    return changed, draw


ALWAYS = 0.0  # below every probability but 0
NEVER = 1.0


def test_a_zoomed_out_image_can_lie_anywhere_on_up_to_four_times_its_sides() -> None:
    settings = Augmentation(flip=0.0, zoom_out=1.0)
    white = np.full((80, 100, 3), 255, np.uint8)
    changed, draw = scripted(
        settings, ALWAYS, 2.0, 100, 80, NEVER, NEVER, NEVER, xyxy=[[1, 2, 30, 40]], image=white
    )
    assert draw.asked == [(1.0, 4.0), (0, 101), (0, 81)]
    assert changed.image.shape == (160, 200, 3)
    assert (changed.image[80:, 100:] == 255).all()
    assert not changed.image[:80].any()
    assert not changed.image[:, :100].any()
    assert changed.xyxy.tolist() == [[101, 82, 130, 120]]


CROP = Augmentation(flip=0.0, crop=1.0)


def test_objects_with_their_middle_on_the_edge_of_a_crop_are_left_out() -> None:
    # The crop goes from 10, 20 to 60, 60.
    numbers = (NEVER, ALWAYS, 0, 0.5, 0.5, 0.2, 0.5, NEVER, NEVER)
    middles = [(10, 40), (60, 40), (30, 20), (30, 60), (11, 21), (59, 59)]
    changed, draw = scripted(
        CROP, *numbers, xyxy=[[x - 6, y - 6, x + 6, y + 6] for x, y in middles]
    )
    assert draw.asked == [(7,), (0.3, 1.0), (0.3, 1.0)]
    assert changed.image.shape == (40, 50, 3)
    assert changed.classes.tolist() == [4, 5]
    assert changed.xyxy.tolist() == [[0, 0, 7, 7], [43, 33, 50, 40]]


def test_objects_thinner_than_a_pixel_are_left_out() -> None:
    numbers = (NEVER, ALWAYS, 0, 0.5, 0.5, 0.2, 0.5, NEVER, NEVER)
    boxes = [[30, 30, 31, 40], [30, 30, 30.9, 40], [30, 30, 40, 31], [30, 30, 40, 30.9]]
    changed, _ = scripted(CROP, *numbers, xyxy=boxes)
    assert changed.classes.tolist() == [0, 2]


@pytest.mark.parametrize(("wide", "high"), [(0.4, 1.0), (1.0, 0.625)])
def test_a_crop_may_be_twice_as_long_as_wide(wide: float, high: float) -> None:
    numbers = (NEVER, ALWAYS, 0, wide, high, 0.0, 0.0, NEVER, NEVER)
    changed, _ = scripted(CROP, *numbers, xyxy=[[0, 0, 20, 20]])
    assert changed.image.shape[:2] == (int(80 * high), int(100 * wide))


def test_the_least_overlap_itself_is_enough() -> None:
    numbers = (NEVER, ALWAYS, 3, 0.5, 0.5, 0.0, 0.0, NEVER, NEVER)  # at least 0.5
    changed, _ = scripted(CROP, *numbers, xyxy=[[0, 0, 50, 20]])  # the upper half of the crop
    assert changed.image.shape == (40, 50, 3)


def test_after_forty_crops_of_no_use_another_overlap_is_drawn() -> None:
    too_long = (1.0, 0.3) * 40
    numbers = (NEVER, ALWAYS, 0, *too_long, 6, NEVER, NEVER)
    changed, draw = scripted(CROP, *numbers, xyxy=[[0, 0, 50, 20]])
    assert changed.image.shape == (80, 100, 3)
    assert draw.asked.count((7,)) == 2


COLOURS = Augmentation(flip=0.0, colour=1.0, brightness=0.1, contrast=1.0, saturation=1.0, hue=0.25)


@pytest.mark.parametrize("contrast_first", [True, False])
def test_colours_are_drawn_from_the_ranges_of_the_settings(contrast_first: bool) -> None:
    image = np.full((2, 2, 3), (200, 100, 50), np.uint8)
    tail = (NEVER,) * 4
    if contrast_first:  # brightness, then contrast, hue, saturation
        numbers = (ALWAYS, ALWAYS, 1.0, ALWAYS, 0.0, ALWAYS, 0.25, ALWAYS, 0.5)
        ranges = [(0.9, 1.1), (0.0, 2.0), (-0.25, 0.25), (0.0, 2.0)]
    else:
        numbers = (0.5, ALWAYS, 1.0, ALWAYS, 0.25, ALWAYS, 0.5, ALWAYS, 0.0)
        ranges = [(0.9, 1.1), (-0.25, 0.25), (0.0, 2.0), (0.0, 2.0)]
    changed, draw = scripted(COLOURS, *numbers, *tail, image=image)
    assert draw.asked == [pytest.approx(one) for one in ranges]
    # Without contrast everything is the mean grey: of the image as it was, or after its colours.
    assert len(np.unique(changed.image)) == 1
    if contrast_first:
        assert changed.image[0, 0, 0] == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)


@pytest.mark.parametrize(
    ("turn", "factor", "colour"),
    [
        (1 / 3, 1.0, (0, 200, 0)),
        (-1 / 3, 1.0, (0, 0, 200)),
        (0.0, 0.0, (200, 200, 200)),
        (0.0, 0.5, (200, 100, 100)),
        (0.0, 2.0, (200, 0, 0)),
    ],
)
def test_hue_and_saturation(turn: float, factor: float, colour: tuple[int, ...]) -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[..., 0] = 200
    numbers = (ALWAYS, NEVER, NEVER, ALWAYS, turn, ALWAYS, factor, *(NEVER,) * 4)
    changed, _ = scripted(COLOURS, *numbers, image=image)
    np.testing.assert_allclose(changed.image[0, 0], colour, atol=2)
