"""Datasets written: where files go, under which names, and what cannot be written."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from seatrial.datasets.labels import Category, Details, LabelledSet
from seatrial.datasets.read import format_of
from seatrial.datasets.writing import image_home, one_numbering, write_dataset
from seatrial.errors import InvalidDataset, InvalidInput

Sets = dict[str, LabelledSet]


def renamed(labelled: LabelledSet, *names: str) -> LabelledSet:
    images = zip(labelled.images, names, strict=True)
    return replace(
        labelled, images=tuple(msgspec.structs.replace(image, name=name) for image, name in images)
    )


@pytest.mark.parametrize(
    ("kind", "split", "home"),
    [
        ("coco", "train", "images/train"), ("coco", "", "images"),
        ("yolo", "val", "images/val"), ("yolo", "", "images/train"),
        ("voc", "train", "JPEGImages"), ("voc", "", "JPEGImages"),
    ],
)  # fmt: skip
def test_where_images_go(kind: str, split: str, home: str) -> None:
    assert image_home(kind, split) == home


def test_a_split_without_images_has_a_folder(sets: Sets, tmp_path: Path) -> None:
    """``data.yaml`` names it."""
    own = sets["val"]
    empty = replace(own, images=(), truth=own.truth.take(np.arange(0)))
    write_dataset(tmp_path / "out", {"train": own, "val": empty}, "yolo")
    assert list((tmp_path / "out" / image_home("yolo", "val")).iterdir()) == []


@pytest.mark.parametrize("kind", ["coco", "yolo", "voc"])
def test_crowds_are_kept_where_the_format_has_them(sets: Sets, tmp_path: Path, kind: str) -> None:
    own = sets["val"]
    crowd = np.array([True, False, False, False])
    crowded = replace(own, truth=replace(own.truth, crowd=crowd))
    notes = write_dataset(tmp_path / "out", {"train": own, "val": crowded}, kind)
    found = format_of(kind).read(tmp_path / "out", None, "val")
    if kind == "yolo":
        assert notes == [
            "details.json keeps what YOLO has no place for, and seatrial reads it back: "
            "1 crowd or difficult object",
            "for other tools 1 crowd or difficult object is background",
        ]
        assert len(found.truth) == 3
        np.testing.assert_allclose(found.truth.xywh, own.truth.xywh[1:])
        label = tmp_path / "out" / "labels" / "val" / own.images[0].name
        assert len(label.with_suffix(".txt").read_text().splitlines()) == 1
    else:
        assert notes == []
        assert found.truth.crowd.tolist() == crowd.tolist()


def test_names_stay_below_the_folder(sets: Sets, tmp_path: Path) -> None:
    own = renamed(sets["val"], "/../a/./b.jpg", "c\\d.jpg")
    write_dataset(tmp_path / "out", {"val": own}, "coco")
    home = tmp_path / "out" / "images" / "val"
    assert sorted(str(p.relative_to(home)) for p in home.rglob("*.jpg")) == ["a/b.jpg", "c/d.jpg"]


def test_voc_has_one_folder_and_adds_the_split_only_where_names_meet(
    sets: Sets, tmp_path: Path
) -> None:
    one, other = renamed(sets["val"], "a/x.jpg", "y.jpg"), renamed(sets["val"], "a_x.jpg", "z.jpg")
    another = renamed(sets["val"], "b/x.jpg", "z.jpg")
    write_dataset(tmp_path / "apart", {"train": one, "val": another}, "voc")
    names = {path.name for path in (tmp_path / "apart" / "JPEGImages").iterdir()}
    assert names == {"a_x.jpg", "y.jpg", "b_x.jpg", "z.jpg"}
    with pytest.raises(InvalidDataset, match="would both be labelled as a_x"):
        write_dataset(tmp_path / "x", {"train": renamed(sets["val"], "a/x.jpg", "a_x.png")}, "voc")
    write_dataset(tmp_path / "both", {"train": one, "val": other}, "voc")
    names = {path.name for path in (tmp_path / "both" / "JPEGImages").iterdir()}
    assert names == {"train_a_x.jpg", "train_y.jpg", "val_a_x.jpg", "val_z.jpg"}


def test_coco_knows_images_by_name_and_the_others_by_stem(sets: Sets, tmp_path: Path) -> None:
    own = renamed(sets["val"], "a.jpg", "a.png")
    write_dataset(tmp_path / "coco", {"val": own}, "coco")
    for kind in ("yolo", "voc"):
        with pytest.raises(InvalidDataset, match="would both be labelled as a"):
            write_dataset(tmp_path / kind, {"val": own}, kind)
        assert not (tmp_path / kind).exists()


def test_categories_of_all_sets_are_one_list_by_number(sets: Sets) -> None:
    own = sets["val"]
    other = replace(own, categories=(Category(9, "blue"), Category(1, "red")))
    joined = one_numbering({"train": own, "val": other})
    categories = (Category(1, "red"), Category(2, "green"), Category(9, "blue"))
    assert [one.categories for one in joined.values()] == [categories, categories]
    assert joined["train"].truth.category.tolist() == own.truth.category.tolist()
    assert joined["val"].truth.category.tolist() == [2, 0] * 2
    with pytest.raises(InvalidDataset, match="class 1 is 'blue' here, 'red' in"):
        one_numbering({"train": own, "val": replace(own, categories=(Category(1, "blue"),) * 2)})


def test_keys_without_a_place_are_named_once(sets: Sets, tmp_path: Path) -> None:
    own = sets["val"]
    count = len(own.truth)
    details = Details(
        images=({"license": 1, "file_name": "x"},) * len(own.images),
        objects=({"pose": "Left", "id": 1, "track_id": 3},) * count,
        file={"info": {"year": 2026}, "licenses": [], "annotations": []},
    )
    labelled = replace(own, details=details)
    left_out = {
        kind: write_dataset(tmp_path / kind, {"train": own, "val": labelled}, kind)
        for kind in ("coco", "yolo", "voc")
    }
    assert left_out["coco"] == []
    kept = "details.json keeps what {} has no place for, and seatrial reads it back: {}"
    assert left_out["yolo"] == [kept.format("YOLO", "info, license, pose, track_id")]
    assert left_out["voc"] == [kept.format("VOC", "info, license, track_id")]


def test_links_are_copies_where_the_file_system_has_none(
    sets: Sets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = sets["val"].images[0]

    def linked(kind: str) -> bool:
        write_dataset(tmp_path / kind, {"val": sets["val"]}, "coco", link=True)
        path = tmp_path / kind / "images" / "val" / source.name
        assert path.read_bytes() == source.path.read_bytes()
        return path.stat().st_ino == source.path.stat().st_ino

    assert linked("one")

    def refuse(*paths: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert not linked("other")


def test_progress_counts_the_images_of_all_splits(sets: Sets, tmp_path: Path) -> None:
    steps: list[tuple[object, ...]] = []
    write_dataset(tmp_path / "out", sets, "yolo", on_progress=lambda *step: steps.append(step))
    assert steps == [("writing images", number, 6) for number in range(1, 7)]


def test_a_folder_with_files_is_left_alone(
    sets: Sets, tmp_path: Path, tree: Callable[[Path], dict[str, str]]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(InvalidInput, match="holds files already"):
        write_dataset(tmp_path / "out", sets, "coco")
    assert tree(tmp_path) == before
