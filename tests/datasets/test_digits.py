"""The digits set: exact boxes, nothing shared between splits, the same bytes every time."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from grey_backgrounds import greys
from seatrial.datasets import digits
from seatrial.datasets.digits import (
    SPLITS,
    DigitsRecipe,
    bundled_backgrounds,
    folder_backgrounds,
    render,
)
from seatrial.errors import InvalidConfig, InvalidDataset

pytest.importorskip("sklearn", reason="scikit-learn is not installed: seatrial[data]")


def test_a_box_is_the_smallest_rectangle_around_what_was_painted() -> None:
    boxes = 0
    for _, _, picture in render(DigitsRecipe(count=30, size_px=160, seed=1), greys()):
        plain = picture.background.image[0, 0]
        left_over = (picture.image != plain).any(2)
        for left, top, width, height in picture.xywh.tolist():
            inside = left_over[top : top + height, left : left + width]
            # Each side of the box has paint, and all the paint is in boxes.
            assert inside[0].any()
            assert inside[-1].any()
            assert inside[:, 0].any()
            assert inside[:, -1].any()
            left_over[top : top + height, left : left + width] = False
            boxes += 1
        assert not left_over.any()
    assert boxes > 100


def test_pictures_have_the_size_and_the_number_of_digits_asked_for() -> None:
    recipe = DigitsRecipe(count=40, size_px=128, digits=(0, 3))
    pictures = [picture for _, _, picture in render(recipe, greys())]
    assert len(pictures) == 40
    assert {picture.image.shape for picture in pictures} == {(128, 128, 3)}
    assert {len(picture.digit) for picture in pictures} == {0, 1, 2, 3}
    for picture in pictures:
        assert (picture.xywh[:, :2] >= 0).all()
        assert (picture.xywh[:, :2] + picture.xywh[:, 2:] <= 128).all()


def test_many_digits_find_their_places() -> None:
    recipe = DigitsRecipe(count=10, size_px=128, digits=(20, 20))
    assert {len(picture.digit) for _, _, picture in render(recipe, greys())} == {20}


def test_the_more_digits_the_smaller_they_are() -> None:
    for seed in range(10):
        placed = digits._places(24, 320, np.random.default_rng(seed))
        assert len(placed) == 24
        assert max(side for *_, side in placed) <= 0.9 * 320 / 5  # 25 squares of half the area


def test_no_handwritten_digit_is_in_two_splits() -> None:
    shares = digits._share_digits(0)
    seen = {
        split: {glyph.tobytes() for glyphs in shares[split].values() for glyph in glyphs}
        for split in SPLITS
    }
    assert not seen["train"] & seen["val"]
    assert not seen["train"] & seen["test"]
    assert not seen["val"] & seen["test"]
    # Nothing was lost, and every class is everywhere.
    assert sum(len(glyphs) for split in SPLITS for glyphs in shares[split].values()) == 1797
    assert {len(shares[split]) for split in SPLITS} == {10}


def test_a_larger_set_begins_with_the_smaller_one() -> None:
    def pictures(recipe: DigitsRecipe) -> dict[tuple[str, int], bytes]:
        return {(s, n): p.image.tobytes() for s, n, p in render(recipe, greys())}

    small = pictures(DigitsRecipe(count=10, size_px=96))
    large = pictures(DigitsRecipe(count=30, size_px=96))
    assert small.items() <= large.items()
    assert small.items().isdisjoint(pictures(DigitsRecipe(count=10, size_px=96, seed=1)).items())


def test_backgrounds_are_held_out_by_group() -> None:
    recipe = DigitsRecipe(count=60, size_px=64, digits=(1, 1), hold_out_backgrounds=True)
    groups: dict[str, set[str]] = {split: set() for split in SPLITS}
    names: dict[str, set[str]] = {split: set() for split in SPLITS}
    for split, _, picture in render(recipe, greys(10)):
        groups[split].add(picture.background.group)
        names[split].add(picture.background.name)
    assert not groups["train"] & groups["val"]
    assert not groups["train"] & groups["test"]
    assert not groups["val"] & groups["test"]
    assert len(names["train"]) == 6  # five groups of two photos: one each for val and test


def test_two_photos_cannot_be_held_out() -> None:
    with pytest.raises(InvalidConfig, match="2 photos cannot be held out"):
        next(render(DigitsRecipe(hold_out_backgrounds=True), greys(4)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 9}, "--count 9: too few"),
        ({"size_px": 63}, "--size 63 is not 64 to 4096 pixels"),
        ({"digits": (5, 3)}, "--digits 5 3 is not a range"),
        ({"digits": (0, 21)}, "--digits 0 21 is not a range"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_recipes_that_cannot_be_made(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        DigitsRecipe(**options)


def test_the_two_photos_of_scikit_learn_need_no_registry() -> None:
    found = bundled_backgrounds()
    assert [(photo.name, photo.image.shape) for photo in found] == [
        ("china.jpg", (427, 640, 3)),
        ("flower.jpg", (427, 640, 3)),
    ]


def test_frames_of_a_sample_clip_are_one_group(photos: dict[str, Path]) -> None:
    groups = {photo.name: photo.group for photo in folder_backgrounds(photos["chelsea"].parent)}
    assert groups["chelsea.jpg"] == "chelsea"
    assert groups["bikes-0007.jpg"] == groups["bikes-0151.jpg"] == "bikes"
    assert len(set(groups.values())) == 8


def test_photos_of_ones_own_are_a_group_each(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match="holds no JPEG, PNG or WebP"):
        folder_backgrounds(tmp_path)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((20, 30, 3), np.uint8))
    assert [photo.group for photo in folder_backgrounds(tmp_path)] == ["a", "b"]
    (tmp_path / "c.jpg").write_bytes(b"no picture")
    with pytest.raises(InvalidDataset, match=r"c\.jpg cannot be decoded"):
        folder_backgrounds(tmp_path)
