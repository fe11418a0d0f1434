"""Broken datasets: each finding names the file, and the line or the annotation in it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from seatrial.datasets.check import DatasetCheck, check
from seatrial.datasets.convert import convert
from seatrial.datasets.issues import ISSUE_KINDS
from seatrial.errors import InvalidDataset

Sound = Callable[[str], Path]
Tree = Callable[[Path], dict[str, str]]
FORMATS = ["coco", "yolo", "voc"]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_sound_dataset_has_no_findings(sound: Sound, kind: str) -> None:
    found = check(sound(kind))
    assert found.issues == ()
    assert found.decoded == 6
    assert [(s.format, s.split, s.images, s.classes) for s in found.splits] == [
        (kind, "train", 4, {"red": 4, "green": 4}),
        (kind, "val", 2, {"red": 2, "green": 2}),
    ]


# ------------------------------------------------------------- ways to break one, by its format


def edit(file: str, old: str, new: str, count: int = 1) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, count))

    return change


def coco(section: str, number: int, **values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "annotations" / "instances_val.json"
        document = json.loads(path.read_text())
        document[section][number] |= values
        path.write_text(json.dumps(document))

    return change


def write(file: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_bytes(data) and None


def remove(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).unlink()


def cut(file: str) -> Callable[[Path], None]:
    return lambda folder: write(file, (folder / file).read_bytes()[:-200])(folder)


def saved_as(kind: str, file: str) -> Callable[[Path], None]:
    """The image in another format, under the same name."""

    def change(folder: Path) -> None:
        with Image.open(folder / file) as picture:
            picture.load()
        picture.save(folder / file, kind)

    return change


def padded(file: str) -> Callable[[Path], None]:
    """Zeros before the end marker, as webcams write them."""
    return lambda home: write(file, (home / file).read_bytes()[:-2] + bytes(20) + b"\xff\xd9")(home)


def without_last_scan(file: str) -> Callable[[Path], None]:
    """A progressive JPEG that ends before its last scan."""

    def change(home: Path) -> None:
        with Image.open(home / file) as picture:
            picture.save(home / file, "JPEG", progressive=True)
        data = (home / file).read_bytes()
        (home / file).write_bytes(data[: data.rindex(b"\xff\xda")] + b"\xff\xd9")

    return change


def copy(source: str, target: str) -> Callable[[Path], None]:
    return lambda folder: shutil.copyfile(folder / source, folder / target) and None


def smaller(source: str, target: str) -> Callable[[Path], None]:
    """The same picture in three quarters of the size and a poorer quality."""

    def change(folder: Path) -> None:
        with Image.open(folder / source) as picture:
            width, height = picture.size
            picture.resize((width * 3 // 4, height * 3 // 4)).save(folder / target, quality=60)

    return change


def rename(source: str, target: str) -> Callable[[Path], None]:
    return lambda folder: (folder / source).rename(folder / target) and None


def link(target: str, name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).symlink_to(target)


def folder(name: str) -> Callable[[Path], None]:
    return lambda home: (home / name).mkdir()


def both(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for each in changes:
            each(folder)

    return change


ANNOTATION = r"instances_val\.json, annotation 3"
LABEL = "labels/val/val0.txt"
XML = "Annotations/val0.xml"
# format, what is done to it, kind of issue, where, message
BROKEN = {
    "JSON that ends early": (
        "coco", write("annotations/instances_val.json", b'{"images": [],\n "annotations": [{'),
        "labels-unreadable", "coco", r"instances_val\.json, line 2: not a COCO annotation file",
    ),
    "box of three numbers": (
        "coco", coco("annotations", 2, bbox=[1, 2, 3]),
        "labels-unreadable", ANNOTATION, r"bbox: .*length 4",
    ),
    "annotation without a box": (
        "coco", coco("annotations", 2, bbox=None), "labels-unreadable", ANNOTATION, "null",
    ),
    "category that is not listed": (
        "coco", coco("annotations", 2, category_id=7), "unknown-class", ANNOTATION, "category 7",
    ),
    "boxes as fractions of the image": (
        "coco", both(*(coco("annotations", n, bbox=[0.2, 0.3, 0.25, 0.5]) for n in (0, 2))),
        "box-fractions", r"instances_val\.json, annotation [13]", "0.25 x 0.5 in .* than a pixel",
    ),
    "two rows for one image": (
        "coco", coco("images", 1, file_name="val0.jpg"),
        "image-twice", r"instances_val\.json, image [12]", "which is labelled by .*image",
    ),
    "two classes of one name": (
        "coco", coco("categories", 1, name="red"), "class-twice", "instances_val", "named 'red'",
    ),
    "annotation of no image": (
        "coco", coco("annotations", 2, image_id=99), "orphaned-labels", ANNOTATION, "image 99",
    ),
    "annotation id used twice": (
        "coco", coco("annotations", 0, id=3), "id-twice", ANNOTATION, "two annotations have this",
    ),
    "image id used twice": (
        "coco",
        both(*(coco("annotations", n, image_id=2) for n in (0, 1)), coco("images", 0, id=2)),
        "id-twice", r"instances_val\.json, image 2", "used twice",
    ),
    "corners in place of width and height": (
        "coco", coco("annotations", 2, bbox=[30, 20, 60, 45]),
        "box-outside", ANNOTATION, r"red, 30, 20 to 90, 65: 26 px over .* val1\.jpg \(64 x 48\)",
    ),
    "box without a width": (
        "coco", coco("annotations", 2, bbox=[30, 20, 0, 5]),
        "box-empty", ANNOTATION, "red, .* 0 x 5 pixels",
    ),
    "box of negative height": (
        "coco", coco("annotations", 2, bbox=[30, 20, 5, -5]),
        "box-empty", ANNOTATION, "negative side",
    ),
    "image that is not there": (
        "coco", remove("images/val/val0.jpg"),
        "missing-image", r"instances_val\.json, image 1", r"val0\.jpg is not there",
    ),
    "labels of another size": (
        "coco",
        both(coco("images", 1, width=48, height=64), coco("annotations", 3, bbox=[1, 1, 5, 5])),
        "size-differs", r"instances_val\.json, image 2",
        r"val1\.jpg is 64 x 48, labelled as 48 x 64: turned by its EXIF orientation",
    ),
    "classes in another order": (
        "coco", both(coco("categories", 0, name="green"), coco("categories", 1, name="red")),
        "classes-differ", "instances_val", "class 1 is 'green' here, 'red' in",
    ),
    "words in place of numbers": (
        "yolo", edit(LABEL, "1 0.", "green 0."),
        "labels-unreadable", r"val0\.txt, line 2", "is not a number",
    ),
    "row of four numbers": (
        "yolo", write(LABEL, b"0 .5 .5 .2\n1 .5 .5 .2 .2\n"),
        "labels-unreadable", r"val0\.txt, line 1", "4 values",
    ),
    "classes counted from 1": (
        "yolo", edit(LABEL, "1 0.", "2 0."),
        "unknown-class", r"val0\.txt, line 2", "class 2 is not one of the 2",
    ),
    "pixels in place of fractions": (
        "yolo", write(LABEL, b"0 .5 .5 .2 .2\n\n0 32 20 10 10\n"),
        "labels-unreadable", r"val0\.txt, line 3", "not fractions of the image",
    ),
    "box over the border": (
        "yolo", write(LABEL, b"1 0.9 0.5 0.5 0.5\n"),
        "box-outside", r"val0\.txt, line 1", r"9\.6 px over the border",
    ),
    "box of no height": (
        "yolo", write(LABEL, b"1 0.9 0.5 0.1 0\n"),
        "box-empty", r"val0\.txt, line 1", r"6\.4 x 0 pixels",
    ),
    "two images and one label file": (
        "yolo", copy("images/train/train0.jpg", "images/train/train1.png"),
        "labels-shared", r"labels/train/train1\.txt", r"train1\.jpg and of .*train1\.png",
    ),
    "label file beside a file that is no image": (
        "yolo", rename("images/val/val1.jpg", "images/val/val1.jpeg2"),
        "orphaned-labels", r"labels/val/val1\.txt", r"val1\.jpeg2 is not read as an image",
    ),
    "label file beside a link to nothing": (
        "yolo", both(remove("images/val/val1.jpg"), link("/nowhere.jpg", "images/val/val1.jpg")),
        "missing-image", r"labels/val/val1\.txt", r"val1\.jpg is a link to a file that is not",
    ),
    "folder of labels without a folder of images": (
        "yolo",
        both(folder("labels/val/far"), rename("labels/val/val1.txt", "labels/val/far/a.txt")),
        "orphaned-labels", r"labels/val/far/a\.txt", "belongs to no image",
    ),
    "label file of no image": (
        "yolo", write("labels/val/left.txt", b"0 .5 .5 .2 .2\n"),
        "orphaned-labels", r"labels/val/left\.txt", "no image",
    ),
    "number of classes that is not so": (
        "yolo", edit("data.yaml", "nc: 2", "nc: 3"),
        "labels-unreadable", "yolo", r"data\.yaml says nc: 3 and names 2",
    ),
    "image cut off": (
        "yolo", cut("images/val/val1.jpg"),
        "broken-image", r"images/val/val1\.jpg", "damaged or cut off",
    ),
    "text with the name of an image": (
        "yolo", write("images/val/val1.jpg", b"not a picture"),
        "broken-image", r"images/val/val1\.jpg", "not in a known image format|or not an image$",
    ),
    "image in a format that is not read": (
        "yolo", write("images/val/more.dng", b"II*\0"),
        "foreign-image", r"images/val/more\.dng", r"\.dng files are not read: convert it",
    ),
    "the same image in two splits": (
        "yolo", copy("images/train/train2.jpg", "images/val/val1.jpg"),
        "leak", r"images/val/val1\.jpg", r"in val, is in train too: .*train2\.jpg",
    ),
    "XML that ends early": (
        "voc", edit(XML, "</annotation>", ""),
        "labels-unreadable", r"val0\.xml, line 1\d", "is not XML: no element found",
    ),
    "XML with entities": (
        "voc", edit(XML, "<annotation>", '<!DOCTYPE a [<!ENTITY e "x">]>\n<annotation>'),
        "labels-unreadable", r"val0\.xml, line 1", "declares entities",
    ),
    "corners the wrong way round": (
        "voc", edit(XML, "<xmin>5</xmin>", "<xmin>50</xmin>"),
        "box-empty", r"val0\.xml, line 5", "has its corners swapped",
    ),
    "object without a box": (
        "voc", edit(XML, "<ymax>16</ymax>", ""),
        "labels-unreadable", r"val0\.xml, line 5", "no <bndbox> of four numbers",
    ),
    "class that is not in the list": (
        "voc", edit(XML, "<name>green</name>", "<name>gren</name>"),
        "unknown-class", r"val0\.xml, line 9", "class 'gren' is not in the list",
    ),
    "box of a larger image": (
        "voc", edit(XML, "<xmax>24</xmax>", "<xmax>240</xmax>"),
        "box-outside", r"val0\.xml, line 5", "176 px over the border",
    ),
    "listed image without a label file": (
        "voc", remove(XML), "missing-annotation", r"Main/val\.txt, line 1", r"val0\.xml is not",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_an_error_is_told_with_its_place_and_nothing_is_written(
    sound: Sound, tree: Tree, tmp_path: Path, what: str
) -> None:
    kind, change, name, where, message = BROKEN[what]
    folder = sound(kind)
    change(folder)
    before = tree(tmp_path)
    found = check(folder)
    errors = [issue for issue in found.issues if issue.severity == "error"]
    assert {issue.kind for issue in errors} == {name}, errors
    assert re.search(where, errors[0].where), errors
    assert re.search(message, errors[0].message), errors
    assert found.count("error") == len(errors) <= 2
    assert tree(tmp_path) == before
    if name == "leak":  # which splitting again mends
        (note,) = convert(folder, tmp_path / "converted", kind).notes
        assert note.startswith("the same image in two splits, which makes figures too good: ")
        assert re.search(message, note)
    else:
        with pytest.raises(InvalidDataset, match=message) as caught:
            convert(folder, tmp_path / "converted", kind)
        assert re.search(where, caught.value.message)
        assert tree(tmp_path) == before


WARNINGS = {
    "nearly the same image in two splits": (
        "yolo", smaller("images/train/train2.jpg", "images/val/val1.jpg"),
        "near-leak", r"images/val/val1\.jpg", r"in val, is nearly .* of train: .*train2\.jpg",
    ),
    "the same image twice": (
        "yolo", copy("images/val/val0.jpg", "images/val/val1.jpg"),
        "duplicate-image", r"val1\.jpg", r"the same as .*val0\.jpg",
    ),
    "the same box twice": (
        "coco", coco("annotations", 2, image_id=1), "duplicate-box", ANNOTATION, "is there twice",
    ),
    "the same row twice": (
        "yolo", write(LABEL, b"0 .5 .5 .2 .2\n1 .5 .5 .2 .2\n0 .5 .5 .2 .2\n"),
        "duplicate-box", r"val0\.txt, line 3", "there twice",
    ),
    "rows of two sorts": (
        "yolo", write(LABEL, b"0 .5 .5 .2 .2\n1 .1 .1 .2 .2 .1 .2\n"),
        "mixed-rows", r"val0\.txt", "rows of outlines",
    ),
    "image without a label file": (
        "yolo", remove(LABEL), "missing-labels", r"val0\.txt", "val0.jpg has no label file",
    ),
    "image that no label names": (
        "coco", copy("images/val/val0.jpg", "images/val/more.jpg"),
        "missing-labels", r"more\.jpg", "no label names",
    ),
    "class without an object": (
        "yolo",
        both(edit("data.yaml", "nc: 2", "nc: 3"), edit("data.yaml", "\n  1", '\n  2: blue\n  1')),
        "empty-class", "yolo", "class 'blue' has no object",
    ),
    "class that a split lacks": (
        "yolo",
        both(write(LABEL, b"0 .5 .5 .2 .2\n"), write("labels/val/val1.txt", b"0 .5 .5 .2 .2")),
        "empty-class", "yolo.* val", "class 'green' has no object here; 4 in the other splits",
    ),
    "class of a project's name": (
        "coco", both(coco("categories", 1, name="red"), *(coco("annotations", n, category_id=1)
                                                        for n in range(4))),
        "class-unused", "instances_val", "class 2 has no object, and class 1 has its name: 'red'",
    ),
    "label file that names another image": (
        "voc", edit("Annotations/val1.xml", "val1.jpg", "val0.jpg"),
        "name-differs", r"val1\.xml", r"names val0\.jpg; val1\.jpg was taken",
    ),
    "label file in no list": (
        "voc", edit("ImageSets/Main/val.txt", "val1\n", ""),
        "unlisted-labels", r"val1\.xml", "belongs to no split",
    ),
    "PNG with the name of a JPEG": (
        "yolo", saved_as("PNG", "images/val/val1.jpg"),
        "misnamed-image", r"val1\.jpg", "holds PNG",
    ),
    "JPEG with bytes before its end": (
        "yolo", padded("images/val/val1.jpg"),
        "extraneous-bytes", r"val1\.jpg", "belong to no pixel; the image is whole",
    ),
    "progressive JPEG without a scan": (
        "yolo", without_last_scan("images/val/val1.jpg"),
        "missing-scans", r"val1\.jpg", "lacks scans of a progressive JPEG",
    ),
    "link to a folder above": (
        "yolo", link("../val", "images/val/again"),
        "link-cycle", "images/val/again", "leads to .*images/val",
    ),
    "classes that differ in case": (
        "coco", coco("categories", 1, id=3, name="Red"), "alike-classes", "coco", "'red', 'Red'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WARNINGS)
def test_what_may_be_meant_so_is_a_warning(sound: Sound, what: str) -> None:
    kind, change, name, where, message = WARNINGS[what]
    folder = sound(kind)
    change(folder)
    own = [issue for issue in check(folder).issues if issue.kind == name]
    assert own
    assert own[0].severity == "warning"
    assert re.search(where, own[0].where), own
    assert re.search(message, own[0].message), own


def test_every_finding_is_told_not_only_the_first(sound: Sound) -> None:
    folder = sound("yolo")
    write("labels/val/val0.txt", b"0 .5 .5 .2\n7 .5 .5 .2 .2\n0 .9 .5 .5 .5\n1 .5 .5 0 .1\n")(
        folder
    )
    cut("images/train/train0.jpg")(folder)
    kinds = [issue.kind for issue in check(folder).issues]
    assert kinds[:5] == [
        *("labels-unreadable", "unknown-class", "broken-image", "box-empty", "box-outside")
    ]


def test_a_split_that_cannot_be_read_does_not_hide_the_others(sound: Sound) -> None:
    folder = sound("coco")
    write("annotations/instances_train.json", b"no JSON")(folder)
    coco("annotations", 2, category_id=7)(folder)
    found = check(folder)
    assert [i.kind for i in found.issues] == ["labels-unreadable", "unknown-class"]
    assert [one.split for one in found.splits] == ["val"]


def test_a_file_of_labels_that_is_named_tells_the_format(sound: Sound) -> None:
    folder = sound("coco")
    (folder / "annotations").rename(folder / "other")
    found = check(folder, annotations=folder / "other" / "instances_val.json")
    assert [(s.format, s.split, s.images) for s in found.splits] == [("coco", "", 2)]
    assert [i.kind for i in found.issues] == []


def test_labels_in_two_formats_are_both_checked(sound: Sound) -> None:
    folder = sound("coco")
    shutil.copytree(sound("yolo") / "labels", folder / "labels")
    shutil.copyfile(folder.parent / "yolo" / "data.yaml", folder / "data.yaml")
    write(LABEL, b"0 .5 .5 .2\n")(folder)
    coco("annotations", 2, category_id=7)(folder)
    found = check(folder)
    assert {s.format for s in found.splits} == {"coco", "yolo"}
    assert found.decoded == 6
    errors = [issue.kind for issue in found.issues if issue.severity == "error"]
    assert errors == ["labels-unreadable", "unknown-class"]
    only: DatasetCheck = check(folder, "coco")
    assert [i.kind for i in only.issues if i.severity == "error"] == ["unknown-class"]


def test_frames_of_a_fixed_camera_are_no_near_duplicates_of_other_scenes(
    photos: dict[str, Path],
) -> None:
    """Real pictures: frames of one clip are alike, different photos are not."""
    from seatrial.datasets.near_duplicates import fingerprints, nearest

    seen = list(fingerprints([photos[name] for name in sorted(photos)]).values())
    pairs = [(seen[i].path.stem, seen[j].path.stem) for i, j in nearest(seen, seen, before=True)
             if j is not None]  # fmt: skip
    assert all(one.split("-")[0] == other.split("-")[0] for one, other in pairs), pairs


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "holds no dataset of a known format"),
        (lambda folder: (folder / "notes.json").write_text("{}"), "holds no dataset"),
        (lambda folder: folder.rmdir(), "does not exist"),
    ],
)
def test_a_folder_that_is_no_dataset(
    tmp_path: Path, make: Callable[[Path], Any], message: str
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    make(folder)
    with pytest.raises(InvalidDataset, match=message):
        check(folder)


def test_every_kind_of_finding_says_what_to_do() -> None:
    assert all(kind.title and kind.remedy for kind in ISSUE_KINDS.values())
    told = {case[2] for case in (*BROKEN.values(), *WARNINGS.values())}
    assert told | {"no-labels"} == set(ISSUE_KINDS)
