"""Folders and names of images that tools give a meaning: no label is lost on the way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seatrial.datasets.check import check
from seatrial.datasets.convert import RewriteOptions, SplitOptions, convert, split
from seatrial.datasets.splits import read_dataset
from seatrial.errors import InvalidDataset

LAYOUTS = [
    ["images/a.png", "b.png"],  # Label Studio
    ["images/images/a.png", "images/b.png"],
    ["labels/a.png", "images/a.png", "images/x/a.png"],
    ["JPEGImages/a.png", "Annotations/a.png", "data/a.png", "annotations/c.png"],
    ["Images/a.png", "IMAGES/a.png", "A.png", "a.PNG"],
    ["images.png", "x/images.png", "images/images.jpg"],
    ["train/a.png", "a.png", "val/b.png", "b.png", "train/train/b.png"],
    ["classes.png", "labels/classes.png", "details.png", ".a.png"],
    ["no suffix", "b.xyz", "c.dng", "d.jpg/e.png"],
    ["._a.png", "__MACOSX/b.png", "c.png"],
]


def coco_folder(folder: Path, names: Sequence[str]) -> Path:
    """A folder of COCO labels: an image of its own for each name, with an object of its own."""
    home = folder / ("" if any(name.startswith("images") for name in names) else "images")
    for number, name in enumerate(names):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (20 * number, 0, 0)).save(home / name, "PNG")
    rows = list(enumerate(names, 1))
    (folder / "instances.json").write_text(json.dumps({
        "images": [{"id": n, "file_name": name, "width": 40, "height": 30} for n, name in rows],
        "annotations": [{"image_id": n, "category_id": 1, "bbox": [n, 2, 10, 8]} for n, _ in rows],
        "categories": [{"id": 1, "name": "cat"}],
    }))  # fmt: skip
    return folder


def contents(folder: Path) -> set[tuple[bytes, float]]:
    """Bytes of the image and left border of every object."""
    return {
        (found.images[image].path.read_bytes(), round(float(box[0]), 5))
        for found in read_dataset(folder).sets.values()
        for image, box in zip(found.truth.image, found.truth.xywh, strict=True)
    }


def errors(folder: Path) -> list[str]:
    return [issue.message for issue in check(folder).issues if issue.severity == "error"]


def by_the_rule_of_ultralytics(folder: Path) -> list[float]:
    """Left borders of the rows that `img2label_paths` of Ultralytics finds, sorted."""
    found: list[float] = []
    for image in (p for p in (folder / "images").rglob("*") if p.is_file() and p.suffix != ".txt"):
        text = "/labels/".join(str(image).rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt"
        for row in Path(text).read_text().splitlines():
            _, x, _, width, _ = map(float, row.split())
            found.append(round((x - width / 2) * 40, 5))
    return sorted(found)


@pytest.mark.parametrize("names", LAYOUTS, ids=[layout[0] for layout in LAYOUTS])
@pytest.mark.parametrize("kind", ["coco", "yolo", "voc"])
def test_labels_are_found_whatever_folders_are_called(
    tmp_path: Path, names: Sequence[str], kind: str
) -> None:
    source = coco_folder(tmp_path / "images" / "source", names)
    wanted = contents(source)
    assert len(wanted) == len(names)
    link = RewriteOptions(link=True)
    convert(source, tmp_path / "converted", kind, link)  # type: ignore[arg-type]
    options = SplitOptions(fractions=(0.5, 0.5, 0), group="none", alike=False)
    split(source, tmp_path / "split", options, link, to=kind)  # type: ignore[arg-type]
    convert(tmp_path / "split", tmp_path / "back", "coco", link)
    for written in ("converted", "split", "back"):
        assert contents(tmp_path / written) == wanted
    assert errors(tmp_path / "split") == []
    if kind == "yolo":
        lefts = sorted(left for _, left in wanted)
        assert by_the_rule_of_ultralytics(tmp_path / "converted") == lefts
        assert by_the_rule_of_ultralytics(tmp_path / "split") == lefts


def test_images_that_the_rule_gives_one_label_file_are_refused(tmp_path: Path) -> None:
    source = coco_folder(tmp_path / "source", ["images/labels/a.png", "labels/images/a.png"])
    with pytest.raises(InvalidDataset, match="both be labelled as images/train/labels/labels/a"):
        convert(source, tmp_path / "yolo", "yolo")
    convert(source, tmp_path / "voc", "voc")
    assert contents(tmp_path / "voc") == contents(source)


def test_a_path_that_is_too_long_is_the_error_of_its_image(tmp_path: Path) -> None:
    source = coco_folder(tmp_path / "source", ["a.png"])
    text = (source / "instances.json").read_text()
    (source / "instances.json").write_text(text.replace("a.png", "a/" * 20_000 + "a.png"))
    with pytest.raises(InvalidDataset, match=r"has a name of 40,005 characters") as told:
        convert(source, tmp_path / "yolo", "yolo")
    assert len(told.value.message) < 300


def test_other_names_are_told(tmp_path: Path) -> None:
    source = coco_folder(tmp_path / "source", ["a", "b.png", "c.raw"])
    note, *_ = convert(source, tmp_path / "yolo", "yolo").notes
    assert note == (
        "2 images got other names, under which YOLO's readers find images: 'a' is 'a.png', "
        "'c.raw' is 'c.raw.png'"
    )


def test_labels_beside_images_in_a_folder_named_images(tmp_path: Path) -> None:
    """LabelImg's and Darknet's are read; Ultralytics does not look there, which is told."""
    home = tmp_path / "images" / "set"
    for name in ("train/a", "val/b"):
        (home / name).parent.mkdir(parents=True)
        pixels = np.full((30, 40, 3), len(str(name)) * 9, np.uint8)
        Image.fromarray(pixels).save(home / f"{name}.png")
        (home / f"{name}.txt").write_text("0 .5 .5 .2 .2\n")
    (home / "classes.txt").write_text("cat\n")
    assert [len(found.truth) for found in read_dataset(home).sets.values()] == [1, 1]
    (home / "classes.txt").rename(home / "train" / "classes.txt")
    assert len(read_dataset(home / "train").sets[""].truth) == 1
    (home / "data.yaml").write_text("train: train\nval: val\nnames: [cat]\n")
    with pytest.raises(InvalidDataset, match="no image of train in") as told:
        read_dataset(home)
    labels = tmp_path / "labels" / "set" / "train" / "a.txt"
    assert f"move {home / 'train' / 'a.txt'} to {labels}" in told.value.hint


def test_names_that_no_file_can_have_are_written_as_they_were_found(tmp_path: Path) -> None:
    source = coco_folder(tmp_path / "source", ["a.png", "b.png"])
    labels = json.loads((source / "instances.json").read_text())
    for row, name in zip(labels["images"], ("a.png\0", "x" * 300 + "/b.png"), strict=True):
        row["file_name"] = name
    (source / "instances.json").write_text(json.dumps(labels))
    wanted = contents(source)
    for kind in ("coco", "yolo", "voc"):
        notes = convert(source, tmp_path / kind, kind).notes  # type: ignore[arg-type]
        assert contents(tmp_path / kind) == wanted
        assert "2 images got other names" in notes[0]
        assert r"'a.png\x00' is 'a.png'" in notes[0]
