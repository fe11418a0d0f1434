"""Datasets written in another format: what comes back, what is lost, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seatrial.datasets import voc
from seatrial.datasets.convert import RewriteOptions, convert
from seatrial.datasets.labels import LabelledSet
from seatrial.datasets.read import read_labelled
from seatrial.errors import InvalidDataset, InvalidInput, NotWritable

Sound = Callable[[str], Path]
Tree = Callable[[Path], dict[str, str]]
FORMATS = ["coco", "yolo", "voc"]


def objects(found: LabelledSet) -> list[tuple[Any, ...]]:
    truth = found.truth
    return sorted(
        (
            Path(found.images[i].name).name,
            found.categories[c].name,
            *np.round(truth.xywh[n], 6).tolist(),
            bool(truth.crowd[n]),
        )
        for n, (i, c) in enumerate(zip(truth.image.tolist(), truth.category.tolist(), strict=True))
    )


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
def test_boxes_classes_and_splits_come_through(
    sound: Sound, sets: dict[str, LabelledSet], tmp_path: Path, source: str, target: str
) -> None:
    written = convert(sound(source), tmp_path / "out", target)
    assert [(one.split, one.images, one.objects) for one in written.splits] == [
        ("train", 4, 8),
        ("val", 2, 4),
    ]
    assert written.notes == ()
    for split, original in sets.items():
        found = read_labelled(f"{target}:{tmp_path / 'out'}", split=split)
        assert objects(found) == objects(original)
        assert {c.name for c in found.categories} == {"red", "green"}
        for image, before in zip(found.images, original.images, strict=True):
            assert image.path.read_bytes() == before.path.read_bytes()


def test_coco_comes_back_to_the_letter(tmp_path: Path, sound: Sound) -> None:
    """Every key, also those that are nothing to us; ids too."""
    source = sound("coco")
    path = source / "annotations" / "instances_val.json"
    document = json.loads(path.read_text())
    document["info"] = {"year": 2026}
    document["licenses"] = [{"id": 1, "name": "CC BY"}]
    document["images"][0] |= {"license": 1, "id": 1001}
    document["annotations"] = [
        {"id": 77, "image_id": 1001, "category_id": 2, "bbox": [1.25, 2, 10, 8.5], "area": 33.5,
         "iscrowd": 0, "segmentation": [[1.25, 2, 11, 2, 11, 10.5]], "keypoints": [1, 2, 2]},
        {"id": 78, "image_id": 2, "category_id": 1, "bbox": [0, 0, 5, 5], "area": 25,
         "iscrowd": 1, "segmentation": {"size": [48, 64], "counts": [0, 5]}},
    ]  # fmt: skip
    document["categories"][0]["supercategory"] = "colour"
    path.write_text(json.dumps(document))
    convert(source, tmp_path / "out", "coco")
    found = json.loads((tmp_path / "out" / "annotations" / "instances_val.json").read_text())
    by_id = {section: sorted(found[section], key=lambda row: row["id"]) for section in
             ("images", "annotations", "categories")}  # fmt: skip
    assert by_id["annotations"] == document["annotations"]
    assert by_id["categories"] == document["categories"]
    assert by_id["images"] == sorted(document["images"], key=lambda row: row["id"])
    assert (found["info"], found["licenses"]) == (document["info"], document["licenses"])


def test_what_a_format_cannot_hold_is_told(tmp_path: Path, sound: Sound) -> None:
    source = sound("coco")
    path = source / "annotations" / "instances_train.json"
    document = json.loads(path.read_text())
    document["annotations"][0] |= {"iscrowd": 1}
    document["annotations"][1] |= {"segmentation": [[1, 2, 11, 2, 11, 10]]}
    document["annotations"][2] |= {"keypoints": [1, 2, 2], "truncated": 1, "area": 3.5}
    path.write_text(json.dumps(document))
    kept = "details.json keeps what {} has no place for, and seatrial reads it back: {}"
    assert convert(source, tmp_path / "yolo-out", "yolo").notes == (
        kept.format(
            "YOLO",
            "1 outline; 1 crowd or difficult object; keypoints, truncated; 1 area",
        ),
        "for other tools 1 crowd or difficult object is background",
    )
    assert convert(source, tmp_path / "voc-out", "voc").notes == (
        kept.format("VOC", "1 outline; keypoints; 1 area"),
    )
    crowds = voc.read(tmp_path / "voc-out", None, "train").truth.crowd
    assert crowds.tolist().count(True) == 1  # VOC's "difficult"


def test_outlines_of_yolo_become_outlines_of_coco(tmp_path: Path, sound: Sound) -> None:
    source = sound("yolo")
    (source / "labels" / "val" / "val0.txt").write_text("1 .25 .25 .5 .25 .5 .5\n")
    convert(source, tmp_path / "out", "coco")
    found = json.loads((tmp_path / "out" / "annotations" / "instances_val.json").read_text())
    row = next(row for row in found["annotations"] if row["image_id"] == 1)
    assert row["segmentation"] == [[16, 12, 32, 12, 32, 24]]
    assert row["bbox"] == [16, 12, 16, 12]


def test_attributes_of_voc_survive_coco(tmp_path: Path, sound: Sound) -> None:
    source = sound("voc")
    path = source / "Annotations" / "val0.xml"
    text = path.read_text().replace(
        "<name>green</name><difficult>0</difficult>",
        "<name>green</name><pose>Left</pose><truncated>1</truncated><difficult>1</difficult>",
    )
    assert "Left" in text
    path.write_text(text)
    convert(source, tmp_path / "coco", "coco")
    convert(tmp_path / "coco", tmp_path / "back", "voc")
    assert (tmp_path / "back" / "Annotations" / "val0.xml").read_text() == text


@pytest.mark.parametrize(
    ("label", "kept", "note"),
    [
        ("1 0.9 0.5 0.5 0.5\n", [41.6, 12, 22.4, 24], "boxes outside their image: 1"),
        ("1 0.9 0.5 0 0.5\n0 .5 .5 .5 .5\n", [16, 12, 32, 24], "boxes without an area: 1"),
        ("9 .5 .5 .1 .1\n0 .5 .5 .5 .5\n", [16, 12, 32, 24], "unknown classes: 1"),
        ("what\n0 .5 .5 .5 .5\n", [16, 12, 32, 24], "labels that cannot be read: 1"),
    ],
)
def test_mending_clips_and_leaves_out(
    tmp_path: Path, sound: Sound, label: str, kept: list[float], note: str
) -> None:
    source = sound("yolo")
    (source / "labels" / "val" / "val0.txt").write_text(label)
    written = convert(source, tmp_path / "out", "coco", RewriteOptions(mend=True))
    assert written.notes == (f"mended, {note}",)
    found = read_labelled(f"coco:{tmp_path / 'out'}")
    own = found.truth.xywh[found.truth.image == 0]
    np.testing.assert_allclose(own, [kept])


def test_mending_leaves_out_a_picture_that_is_not_there(tmp_path: Path, sound: Sound) -> None:
    source = sound("coco")
    (source / "images" / "val" / "val0.jpg").unlink()
    written = convert(source, tmp_path / "out", "yolo", RewriteOptions(mend=True))
    assert written.notes == ("mended, missing images: 1",)
    assert [one.images for one in written.splits] == [4, 1]
    assert len(read_labelled(f"yolo:{tmp_path / 'out'}").truth) == 2


def test_links_share_the_bytes(tmp_path: Path, sound: Sound) -> None:
    source = sound("coco")
    convert(source, tmp_path / "out", "yolo", RewriteOptions(link=True))
    one = (source / "images" / "val" / "val0.jpg").stat()
    other = (tmp_path / "out" / "images" / "val" / "val0.jpg").stat()
    assert one.st_ino == other.st_ino


def test_pictures_of_one_name_in_two_splits_are_told_apart_in_voc(
    tmp_path: Path, sound: Sound
) -> None:
    source = sound("yolo")
    for part in ("images", "labels"):
        suffix = "jpg" if part == "images" else "txt"
        (source / part / "val" / f"val0.{suffix}").rename(
            source / part / "val" / f"train0.{suffix}"
        )
    convert(source, tmp_path / "out", "voc")
    assert (tmp_path / "out" / "ImageSets" / "Main" / "val.txt").read_text().split() == [
        "val_train0",
        "val_val1",
    ]
    assert len(list((tmp_path / "out" / "JPEGImages").iterdir())) == 6


def test_two_pictures_of_one_stem_cannot_both_have_a_label_file(
    tmp_path: Path, sound: Sound, tree: Tree
) -> None:
    source = sound("coco")
    path = source / "annotations" / "instances_val.json"
    document = json.loads(path.read_text())
    document["images"][1]["file_name"] = "val0.png"
    path.write_text(json.dumps(document))
    (source / "images" / "val" / "val1.jpg").rename(source / "images" / "val" / "val0.png")
    before = tree(tmp_path)
    with pytest.raises(InvalidDataset, match=r"val0.jpg and .*val0.png would both be labelled as"):
        convert(source, tmp_path / "out", "yolo")
    assert tree(tmp_path) == before


def test_names_do_not_lead_out_of_the_folder(tmp_path: Path, sound: Sound) -> None:
    source = sound("coco")
    path = source / "annotations" / "instances_val.json"
    document = json.loads(path.read_text())
    document["images"][1]["file_name"] = "../../images/val/val1.jpg"
    path.write_text(json.dumps(document))
    convert(source, tmp_path / "out", "coco")
    assert (tmp_path / "out" / "images" / "val" / "images" / "val" / "val1.jpg").is_file()


def test_a_folder_with_files_is_left_alone(tmp_path: Path, sound: Sound, tree: Tree) -> None:
    source, target = sound("coco"), tmp_path / "out"
    target.mkdir()
    (target / "mine.txt").write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(InvalidInput, match="holds files already"):
        convert(source, target, "yolo")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritable, match="cannot be written"):
        convert(source, tmp_path / "file" / "out", "yolo")
    (tmp_path / "file").unlink()
    assert tree(tmp_path) == before


def test_a_set_without_splits_stays_one(tmp_path: Path, sound: Sound) -> None:
    source = sound("coco")
    only = tmp_path / "one"
    (only / "images").mkdir(parents=True)
    (source / "annotations" / "instances_val.json").rename(only / "instances.json")
    for picture in (source / "images" / "val").iterdir():
        picture.rename(only / "images" / picture.name)
    for kind in ("voc", "yolo", "coco"):
        written = convert(only, tmp_path / f"one-{kind}", kind)
        assert [one.split for one in written.splits] == [""]
        assert any("no val set" in note for note in written.notes) == (kind == "yolo")
        split = "train" if kind == "yolo" else "val"
        found = read_labelled(f"{kind}:{tmp_path / f'one-{kind}'}", split=split)
        assert (len(found.images), len(found.truth)) == (2, 4)
