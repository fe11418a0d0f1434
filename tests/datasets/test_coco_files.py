"""COCO folders as tools lay them out: a file for each split, images of other machines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from coco_labels import two_images
from seatrial.datasets.coco import splits
from seatrial.datasets.coco_files import annotation_file, unused_files
from seatrial.datasets.issues import LabelIssue
from seatrial.datasets.label_rules import read_sound
from seatrial.datasets.read import read_labelled
from seatrial.datasets.splits import read_dataset
from seatrial.errors import InvalidDataset

LAYOUTS = {
    "by name": ("annotations/train.json", "annotations/val.json", "train", "val"),
    "at the top": ("train.json", "valid.json", "images", "images"),
    "2014": ("annotations/instances_train2014.json", "annotations/instances_val2014.json",
             "train2014", "val2014"),
    "FiftyOne": ("train/labels.json", "validation/labels.json", "train/data", "validation/data"),
    "mmdet": ("annotations/train_coco.json", "annotations/val_coco.json", "train", "val"),
    "folders of images": ("annotations/train.json", "annotations/test.json", "images/train",
                          "images/test"),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_for_each_split_however_it_is_named(tmp_path: Path, layout: str) -> None:
    *files, first, second = LAYOUTS[layout]
    for place, colour, file in zip((first, second), ("red", "blue"), files, strict=True):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        found = two_images()
        for row in found["images"]:
            row["file_name"] = f"{colour}-{row['file_name']}" if first == second else "x.png"
            Image.new("RGB", (40, 30), colour).save(tmp_path / place / row["file_name"])
        (tmp_path / file).write_text(json.dumps(found))
    (tmp_path / "annotations").mkdir(exist_ok=True)
    (tmp_path / "annotations" / "._val.json").write_bytes(b"\0\5\26\7 images annotations")
    sets = read_dataset(tmp_path, "coco").sets
    assert list(sets) == ["train", "test" if "test" in files[1] else "val"]
    for labelled, place in zip(sets.values(), (first, second), strict=True):
        assert {image.path.parent for image in labelled.images} == {tmp_path / place}
        assert all(image.path.is_file() for image in labelled.images)


NAMES = ("annotations/instances_{}.json", "{}/_annotations.coco.json", "{}.json", "{}/labels.json",
         "annotations/set_{}_v2.json")  # fmt: skip


def write_labels(folder: Path, *files: str) -> None:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(json.dumps(two_images()))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        ("train", "validation", ["train", "val"]), ("Train", "dev", ["train", "val"]),
        ("training", "eval", ["train", "val"]), ("train", "val2014", ["train", "val"]),
        ("val", "testing", ["val", "test"]), ("train2017", "test-dev2017", ["train", "test"]),
    ],
)  # fmt: skip
def test_no_split_is_dropped_whatever_it_is_called(
    tmp_path: Path, name: str, first: str, second: str, wanted: list[str]
) -> None:
    write_labels(tmp_path, name.format(first), name.format(second))
    assert list(splits(tmp_path, None)) == wanted
    assert unused_files(tmp_path) == []
    for split, own in zip(wanted, (first, second), strict=True):
        assert annotation_file(tmp_path, split) == tmp_path / name.format(own)


def test_files_of_labels_in_no_split_are_named(tmp_path: Path) -> None:
    write_labels(
        tmp_path, "annotations/instances_train.json", "annotations/instances_default.json",
        "annotations/instances_val.json", "annotations/person_keypoints_val.json",
        "night/_annotations.coco.json", "annotations/val_1000.json", "labels.json",
    )  # fmt: skip
    left_out = ("annotations/instances_default.json", "annotations/val_1000.json", "labels.json",
                "night/_annotations.coco.json")  # fmt: skip
    (tmp_path / "images").mkdir()
    for row in two_images()["images"]:
        size = (row["width"], row["height"])
        Image.new("RGB", size).save(tmp_path / "images" / row["file_name"])
    issues: list[LabelIssue] = []
    found = read_dataset(tmp_path, on_issue=issues.append)
    assert found.left_out == tuple(tmp_path / name for name in left_out)
    told = [issue.where for issue in issues if issue.kind == "unlisted-labels"]
    assert told == [str(tmp_path / name) for name in left_out]
    _, notes = read_sound(tmp_path, mend=True)
    assert f"left out, since they belong to no split: {', '.join(left_out)}" in notes
    assert read_dataset(tmp_path, annotations=tmp_path / "labels.json").left_out == ()


@pytest.mark.parametrize("second", ["val2017", "validation", "dev"])
def test_two_files_for_a_split_are_asked_for(tmp_path: Path, second: str) -> None:
    write_labels(tmp_path, *(f"annotations/instances_{name}.json" for name in ("val", second)))
    with pytest.raises(InvalidDataset, match="several annotation files"):
        read_labelled(f"coco:{tmp_path}")


def test_cocos_own_folder_has_other_files_for_the_same_split(tmp_path: Path) -> None:
    home = tmp_path / "annotations"
    home.mkdir()
    for name in ("instances_train2014", "person_keypoints_train2014", "instances_val2014"):
        (home / f"{name}.json").write_text(json.dumps(two_images()))
    assert splits(tmp_path, None) == ("train", "val")
    (home / "instances_train2014.json").unlink()
    (home / "other_train2014.json").write_text(json.dumps(two_images()))
    with pytest.raises(InvalidDataset, match="several annotation files") as told:
        read_labelled(f"coco:{tmp_path}", split="train")
    assert f"--annotations {home / 'other_train2014.json'}" in told.value.hint
    with pytest.raises(InvalidDataset, match="has no 'test' set") as told:
        read_labelled(f"coco:{tmp_path}", split="test")
    assert "--split: train or val" in told.value.hint


@pytest.mark.parametrize(
    "name", ["images\\a.png", "..\\..\\label-studio\\media\\upload\\1\\a.png", "data/a.png",
             "C:\\Users\\me\\a.png", "/home/me/set/images/a.png"],
)  # fmt: skip
@pytest.mark.parametrize("home", ["", "images", "data"])
def test_images_are_found_under_names_of_other_machines(
    tmp_path: Path, name: str, home: str
) -> None:
    (tmp_path / home).mkdir(exist_ok=True)
    Image.new("RGB", (40, 30)).save(tmp_path / home / "a.png")
    found = two_images(annotations=two_images()["annotations"][:1])
    found["images"] = [found["images"][0] | {"file_name": name}]
    (tmp_path / "result.json").write_text(json.dumps(found))
    assert read_labelled(f"coco:{tmp_path}").images[0].path == tmp_path / home / "a.png"
