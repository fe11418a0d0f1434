"""The contact sheet: the right pictures, the boxes where they belong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from seatrial.datasets.preview import CAPTION_PX, GAP_PX, PreviewOptions, preview
from seatrial.errors import InvalidConfig, InvalidDataset, InvalidInput

Sound = Callable[[str], Path]
TILE = 128  # twice the width of the pictures


def sheet_of(folder: Path, path: Path, **options: object) -> np.ndarray:
    preview(folder, path, PreviewOptions(tile=TILE, **options))
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


@pytest.mark.parametrize("kind", ["coco", "yolo", "voc"])
def test_all_pictures_in_rows(sound: Sound, tmp_path: Path, kind: str) -> None:
    sheet = sheet_of(sound(kind), tmp_path / "sheet.jpg", columns=4)
    step = TILE + GAP_PX
    assert sheet.shape == (2 * (step + CAPTION_PX) + GAP_PX, 4 * step + GAP_PX, 3)


def test_boxes_are_drawn_where_the_labels_have_them(sound: Sound, tmp_path: Path) -> None:
    folder = sound("yolo")
    for path in (folder / "images" / "val").iterdir():
        Image.new("RGB", (64, 48), (128, 128, 128)).save(path)
    sheet = sheet_of(folder, tmp_path / "sheet.png", split="val", columns=1)
    # The first object: 4, 6, 20 x 10 pixels, at twice the size, in the middle of the tile.
    left, top = GAP_PX + 2 * 4, GAP_PX + (TILE - 96) // 2 + 2 * 6
    coloured = np.abs(sheet.astype(int) - 128).max(2) > 60
    for x, y in ((left, top + 10), (left + 40, top + 10), (left + 30, top + 20)):
        assert coloured[y - 1 : y + 2, x - 1 : x + 2].any(), (x, y)
    assert not coloured[top + 5 : top + 15, left + 5 : left + 35].any()


def test_a_seeded_draw_of_one_class(sound: Sound, tmp_path: Path) -> None:
    folder = sound("yolo")
    for number in range(3):
        (folder / "labels" / "train" / f"train{number}.txt").write_text("1 .5 .5 .2 .2\n")
    path = tmp_path / "sheet.png"
    assert preview(folder, path, PreviewOptions(only="RED")) == 3
    assert preview(folder, path, PreviewOptions(count=2, seed=1)) == 2
    first = path.read_bytes()
    preview(folder, path, PreviewOptions(count=2, seed=1))
    assert path.read_bytes() == first
    preview(folder, path, PreviewOptions(count=2, seed=2))
    assert path.read_bytes() != first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sheet.png", "yolo"]


def test_broken_pictures_and_labels_do_not_stop_it(sound: Sound, tmp_path: Path) -> None:
    folder = sound("yolo")
    (folder / "images" / "val" / "val0.jpg").write_bytes(b"nothing")
    (folder / "labels" / "val" / "val1.txt").write_text("nothing\n1 .9 .9 .5 .5\n")
    assert preview(folder, tmp_path / "sheet.jpg") == 6


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("sheet.txt", {}, InvalidInput, "no image is written as sheet.txt"),
        ("sheet.jpg", {"columns": 0}, InvalidConfig, "--columns 1 or more"),
        ("sheet.jpg", {"count": -1}, InvalidConfig, "--count"),
        ("sheet.jpg", {"tile": 31}, InvalidConfig, "--tile"),
        (
            "sheet.jpg",
            {"tile": 70_000},
            InvalidConfig,
            r"a sheet of .* would",
        ),
        ("sheet.png", {"tile": 20_000, "columns": 1}, InvalidConfig, "would have 200"),
        ("sheet.jpg", {"split": "test"}, InvalidDataset, "has no split test"),
        ("sheet.jpg", {"only": "blue"}, InvalidDataset, "has no class 'blue'"),
    ],
)
def test_what_cannot_be_drawn(
    sound: Sound, tmp_path: Path, name: str, options: dict[str, object],
    error: type[Exception], message: str,
) -> None:  # fmt: skip
    with pytest.raises(error, match=message):
        preview(sound("coco"), tmp_path / name, PreviewOptions(**options))
    assert not (tmp_path / name).exists()


def test_no_image_of_the_dataset_is_overwritten(sound: Sound, tmp_path: Path) -> None:
    folder = sound("yolo")
    image = folder / "images" / "val" / "val0.jpg"
    content = image.read_bytes()
    link = tmp_path / "sheet.jpg"
    link.symlink_to(image)
    for sheet in (image, link):
        with pytest.raises(InvalidInput, match="is one of the inputs"):
            preview(folder, sheet, PreviewOptions(split="train"))
    assert image.read_bytes() == content


def test_all_pictures_are_shown_where_no_number_is_given(sound: Sound, tmp_path: Path) -> None:
    options = PreviewOptions(count=0, columns=1, tile=32)
    assert preview(sound("coco"), tmp_path / "sheet.jpg", options) == 6


def test_where_no_picture_is_left_there_is_no_sheet(sound: Sound, tmp_path: Path) -> None:
    folder = sound("coco")
    for path in folder.rglob("*.jpg"):
        path.unlink()
    with pytest.raises(InvalidDataset, match="to show"):
        preview(folder, tmp_path / "sheet.jpg", PreviewOptions())
    assert not (tmp_path / "sheet.jpg").exists()
