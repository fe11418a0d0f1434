"""Datasets split anew: into what, and what comes along."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seatrial.datasets.convert import SplitOptions, split
from seatrial.datasets.labels import LabelledSet
from seatrial.datasets.read import read_labelled
from seatrial.errors import InvalidConfig

Sound = Callable[[str], Path]
Tree = Callable[[Path], dict[str, str]]


def objects(found: LabelledSet) -> list[tuple[Any, ...]]:
    """Name of the image, class and box of every object."""
    truth = found.truth
    return [
        (Path(found.images[i].name).name, found.categories[c].name, *np.round(box, 6).tolist())
        for i, c, box in zip(truth.image, truth.category, truth.xywh, strict=True)
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fractions": (0.8, 0.1, 0.2)}, "--fractions 0.8, 0.1, 0.2 do not add up to 1"),
        ({"fractions": (1, 0, 0)}, "--fractions gives all to one split"),
        ({"fractions": (1.2, -0.2, 0)}, "do not add up to 1"),
        ({"fractions": (1.5, -0.5, 0)}, "do not add up to 1"),
        ({"fractions": (0, 0, 1)}, "--fractions gives all to one split"),
        ({"seed": -1}, "--block and --seed must be 0 or more"),
        ({"block": -1}, "--block and --seed must be 0 or more"),
    ],
)
def test_options_that_cannot_be_carried_out(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        SplitOptions(**options)


@pytest.mark.parametrize("kind", ["coco", "yolo", "voc"])
def test_a_dataset_is_split_anew_in_its_own_format(
    sound: Sound, sets: dict[str, LabelledSet], tmp_path: Path, tree: Tree, kind: str
) -> None:
    options = SplitOptions(fractions=(0.5, 0.5, 0), group="none", seed=2)
    written = split(sound(kind), tmp_path / "out", options)
    assert [(one.split, one.images, one.groups) for one in written.splits] == [
        ("train", 3, 3),
        ("val", 3, 3),
    ]
    assert [one.classes for one in written.splits] == [{"red": 3, "green": 3}] * 2
    found = [read_labelled(f"{kind}:{tmp_path / 'out'}", split=s) for s in ("train", "val")]
    names = {Path(image.name).name for part in found for image in part.images}
    assert names == {image.name for part in sets.values() for image in part.images}
    assert sorted(row for part in found for row in objects(part)) == sorted(
        row for part in sets.values() for row in objects(part)
    )
    split(tmp_path / kind, tmp_path / "again", options)
    assert tree(tmp_path / "again") == tree(tmp_path / "out")


def test_the_same_picture_under_two_names_goes_to_one_split(sound: Sound, tmp_path: Path) -> None:
    folder = sound("yolo")
    home = folder / "images" / "val"
    for number in range(4):
        shutil.copyfile(home / "val0.jpg", home / f"copy{number}.jpg")
    (tmp_path / "labels").mkdir()
    written = split(
        folder, tmp_path / "out", SplitOptions(fractions=(0.5, 0.5, 0), group="none"), to="coco"
    )
    assert sum(one.groups or 0 for one in written.splits) == 6
    found = [read_labelled(f"coco:{tmp_path / 'out'}", split=s) for s in ("train", "val")]
    homes = [
        {index for index, part in enumerate(found) for i in part.images if "copy" in i.name
         or "val0" in i.name}
    ]  # fmt: skip
    assert len(homes[0]) == 1


def test_a_class_that_a_split_lacks_is_told(sound: Sound, tmp_path: Path) -> None:
    folder = sound("yolo")
    for path in (folder / "labels").rglob("*.txt"):
        own = "1" if path.stem in ("train0", "train1") else "0"
        path.write_text(f"{own} .5 .5 .2 .2\n")
    rule = "(train[01]|train|val)"
    written = split(
        folder, tmp_path / "out", SplitOptions(fractions=(0.5, 0.5, 0), group=f"^{rule}"), to="coco"
    )
    assert sum(one.images for one in written.splits) == 6
    lacking = [one.split for one in written.splits if not one.classes["green"]]
    assert [note.split(" ")[0] for note in written.notes] == lacking
