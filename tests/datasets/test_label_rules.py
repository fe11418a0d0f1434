"""Rules for boxes, to the pixel; and what mending leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seatrial.datasets.label_rules import (
    TOLERANCE_PX,
    box_issues,
    numbering_issues,
    read_sound,
)
from seatrial.datasets.labels import Category, LabelledImage, LabelledSet, Truth
from seatrial.errors import InvalidDataset

Sound = Callable[[str], Path]
WIDTH, HEIGHT = 64, 48
Box = list[float]  # left, top, width, height


def labelled(*boxes: Box, size: tuple[int | None, int | None] = (WIDTH, HEIGHT)) -> LabelledSet:
    return LabelledSet(
        "test",
        (LabelledImage(1, "a.jpg", Path("a.jpg"), *size, Path("a.txt")),),
        (Category(0, "red"),),
        Truth.of([0] * len(boxes), [0] * len(boxes), boxes),
    )


def kinds(*boxes: Box, **options: tuple[int | None, int | None]) -> list[str]:
    return [issue.kind for issue in box_issues(labelled(*boxes, **options))]


@pytest.mark.parametrize(
    ("least", "over"),
    [
        ([-1, 5, 10, 10], [-1.5, 5, 10, 10]),
        ([5, -1, 10, 10], [5, -1.5, 10, 10]),
        ([55, 5, 10, 10], [55.5, 5, 10, 10]),
        ([5, 39, 10, 10], [5, 39.5, 10, 10]),
    ],
    ids=["left", "top", "right", "bottom"],
)
def test_a_box_may_be_a_pixel_over_each_border(least: Box, over: Box) -> None:
    assert TOLERANCE_PX == 1
    assert kinds(least) == []
    assert kinds(over) == ["box-outside"]
    (issue,) = box_issues(labelled(over))
    assert "1.5 px over the border of a.jpg (64 x 48)" in issue.message
    assert issue.where == "a.txt, line 1"


@pytest.mark.parametrize("size", [(0.0, 5.0), (5.0, 0.0), (-1.0, 5.0), (5.0, -1.0)])
def test_a_box_needs_an_area(size: tuple[float, float]) -> None:
    assert kinds([1, 1, *size]) == ["box-empty"]
    assert kinds([1, 1, 0.1, 0.1]) == []


def test_a_box_is_a_duplicate_only_if_image_class_and_box_are_equal() -> None:
    box: Box = [1, 2, 3, 4]
    assert kinds(box, box, box) == ["duplicate-box"] * 2
    assert kinds(box, [1, 2, 3, 5], [1, 2, 4, 4], [1, 3, 3, 4], [2, 2, 3, 4]) == []


def test_without_a_size_a_box_is_outside_of_nothing() -> None:
    for size in ((None, None), (WIDTH, None), (None, HEIGHT)):
        assert kinds([1000, 1000, 5, 5], size=size) == []
    assert kinds([1, 1, 0, 5], size=(None, None)) == ["box-empty"]


def test_one_number_has_one_name() -> None:
    first, second = labelled([1, 1, 5, 5]), labelled([1, 1, 5, 5])
    assert list(numbering_issues({"train": first, "val": second})) == []
    other = LabelledSet("other", first.images, (Category(0, "blue"),), first.truth)
    (issue,) = numbering_issues({"train": first, "val": other})
    assert (issue.kind, issue.where) == ("classes-differ", "other")
    assert issue.message == "class 0 is 'blue' here, 'red' in test"


def test_a_format_and_a_file_can_be_named(sound: Sound) -> None:
    folder = sound("coco")
    file = folder / "annotations" / "instances_val.json"
    dataset, _ = read_sound(folder, "coco", file)
    assert {split: len(own.images) for split, own in dataset.sets.items()} == {"": 2}
    assert dataset.sets[""].details is not None


def test_mending_clips_what_is_over_the_tolerance_and_nothing_else(sound: Sound) -> None:
    folder = sound("yolo")
    # In pixels: half a pixel over the left border; 16 pixels over the right one.
    rows = ["0 0.070 0.5 0.15 0.5", "1 1 0.5 0.5 0.5", "1 0 0 0.5 0.5"]
    label = folder / "labels" / "val" / "val0.txt"
    label.write_text("\n".join(rows[:1]))
    dataset, notes = read_sound(folder)
    assert notes == []
    kept = dataset.sets["val"].truth.xywh[0]
    assert kept[0] == pytest.approx(-0.32)
    label.write_text("\n".join(rows))
    with pytest.raises(InvalidDataset, match="16 px over the border"):
        read_sound(folder)
    dataset, notes = read_sound(folder, mend=True)
    assert notes == ["mended, boxes outside their image: 2"]
    truth = dataset.sets["val"].truth
    np.testing.assert_allclose(truth.xywh[0], kept)
    np.testing.assert_allclose(truth.xywh[1:3], [[48, 12, 16, 24], [0, 0, 16, 12]])
    np.testing.assert_allclose(truth.area[:2], [kept[2] * kept[3], 16 * 24])


def test_a_set_of_which_nothing_can_be_used(sound: Sound) -> None:
    folder = sound("coco")
    for path in (folder / "images").rglob("*.jpg"):
        path.write_bytes(b"no image")
    for path in (folder / "annotations").iterdir():
        path.write_text(path.read_text().replace('"width":64', '"width":null'))
    with pytest.raises(InvalidDataset, match="no image that can be used"):
        read_sound(folder, mend=True)


def test_a_damaged_image_is_counted_once(sound: Sound) -> None:
    folder = sound("yolo")
    (folder / "images" / "val" / "val1.jpg").write_bytes(b"no image")
    dataset, notes = read_sound(folder, mend=True)
    assert notes == ["mended, damaged images: 1"]
    assert [image.name for image in dataset.sets["val"].images] == ["val0.jpg"]


def test_mending_leaves_out_a_box_beside_its_image(sound: Sound) -> None:
    folder = sound("yolo")
    label = folder / "labels" / "val" / "val0.txt"
    label.write_text("1 0.5 0.5 0.5 0.5\n0 -0.3 0.5 0.2 0.5\n0 0.5 -0.3 0.5 0.2\n")
    truth = read_sound(folder, mend=True)[0].sets["val"].truth
    assert truth.category[truth.image == 0].tolist() == [1]
