"""The digits set on disk: the same bytes every time, and two formats that say the same."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from grey_backgrounds import greys
from seatrial.datasets import digits, digits_folder
from seatrial.datasets.digits import (
    SPLITS,
    DigitsRecipe,
    render,
)
from seatrial.datasets.digits_folder import write_digits
from seatrial.datasets.read import read_labelled
from seatrial.errors import InvalidDataset, InvalidInput

pytest.importorskip("sklearn", reason="scikit-learn is not installed: seatrial[data]")


SMALL = DigitsRecipe(count=20, size_px=96, digits=(1, 4), seed=3)
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str = "digits", recipe: DigitsRecipe = SMALL, **options: str) -> Path:
        write_digits(tmp_path / name, recipe, greys(), **options)
        return tmp_path / name

    return write


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", ["coco", "yolo"])
@pytest.mark.parametrize("split", SPLITS)
def test_both_layouts_say_the_same(write: Write, kind: str, split: str) -> None:
    folder = write()
    found = read_labelled(f"{kind}:{folder}", split=split)
    made = [p for s, _, p in render(SMALL, greys()) if s == split]
    assert [image.path for image in found.images] == [
        folder / "images" / split / f"{number:06d}.jpg" for number in range(len(made))
    ]
    assert [category.name for category in found.categories] == list("0123456789")
    assert found.truth.category.tolist() == [d for p in made for d in p.digit.tolist()]
    np.testing.assert_allclose(
        found.truth.xywh, np.concatenate([p.xywh for p in made]), rtol=0, atol=1e-6
    )
    first = cv2.imread(str(found.images[0].path))
    assert np.abs(first.astype(int) - made[0].image).mean() < 8  # JPEG


@pytest.mark.parametrize(("layout", "other"), [("coco", "yolo"), ("yolo", "coco")])
def test_one_layout_has_no_files_of_the_other(write: Write, layout: str, other: str) -> None:
    folder = write(layout=layout)
    assert len(read_labelled(f"{layout}:{folder}", split="train").images) == 16
    with pytest.raises(InvalidDataset):
        read_labelled(f"{other}:{folder}", split="train")


def test_equal_recipes_give_equal_bytes_and_are_not_written_twice(write: Write) -> None:
    first, second = write("a"), write("b")
    assert files(first) == files(second)
    before = (first / "data.yaml").stat().st_mtime_ns
    (first / "labels" / "train.cache").write_bytes(b"Ultralytics leaves this behind")
    assert not write_digits(first, SMALL, greys())
    assert (first / "data.yaml").stat().st_mtime_ns == before


def test_the_sources_list_the_photos_in_the_order_of_their_names(write: Write) -> None:
    photos = json.loads((write() / "SOURCES.json").read_bytes())["photos"]
    used: dict[str, set[str]] = {}
    for split, _, one in render(SMALL, greys()):
        used.setdefault(one.labels().background, set()).add(split)
    assert [photo["name"] for photo in photos] == sorted(used)
    assert len(used) > 1
    for photo in photos:
        assert photo["splits"] == [split for split in SPLITS if split in used[photo["name"]]]


def test_a_folder_of_something_else_is_left_alone(write: Write, tmp_path: Path) -> None:
    folder = write()
    with pytest.raises(InvalidDataset, match="digits of another recipe"):
        write(recipe=DigitsRecipe(count=20, size_px=64))
    (folder / "images" / "train" / "000000.jpg").write_bytes(b"damaged")
    before = files(folder)
    with pytest.raises(InvalidInput, match="holds files already"):
        write()
    assert files(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def test_the_pixels_of_an_image_are_gone_before_the_next_but_one_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the default count they would take hundreds of megabytes."""
    drawn: list[weakref.ref[np.ndarray[Any, Any]]] = []
    alive: list[int] = []

    def watched(*given: Any) -> Iterator[tuple[str, int, Any]]:
        for split, number, one in digits.render(*given):
            drawn.append(weakref.ref(one.image))
            alive.append(sum(image() is not None for image in drawn))
            yield split, number, one

    monkeypatch.setattr(digits_folder, "render", watched)
    write_digits(tmp_path / "digits", SMALL, greys())
    assert len(alive) == SMALL.count
    assert max(alive) <= 2
