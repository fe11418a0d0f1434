"""Pascal VOC as its kit, CVAT, LabelImg and Roboflow write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seatrial.datasets import voc
from seatrial.datasets.issues import LabelIssue
from seatrial.datasets.labels import Category, Details, LabelledImage, LabelledSet, Truth
from seatrial.datasets.read import read_labelled
from seatrial.errors import InvalidDataset
from voc_folders import write_annotated


def test_pixels_count_from_one_and_the_last_is_inside(tmp_path: Path) -> None:
    write_annotated(tmp_path, "a")
    found = read_labelled(f"voc:{tmp_path}")
    assert found.truth.xywh.tolist() == [[0, 0, 40, 30.5]]
    assert found.truth.mark.tolist() == [5]
    assert [c.name for c in found.categories] == ["dog"]  # its parts are no objects
    assert found.notes == ()


def test_a_set_with_a_box_at_zero_counts_from_zero(tmp_path: Path) -> None:
    write_annotated(tmp_path, "a")
    write_annotated(tmp_path, "b", xmin=0)
    found = read_labelled(f"voc:{tmp_path}")
    assert found.truth.xywh.tolist() == [[1, 1, 39, 29.5], [0, 1, 40, 29.5]]
    assert found.notes == ("a box begins at 0: pixels were counted from 0",)


@pytest.mark.parametrize(
    ("box", "file", "left", "note"),
    [
        ({"xmin": 0.38}, "", 0.38, "a box begins at 0.38: pixels were counted from 0"),
        ({"xmin": -0.5}, "", -0.5, "a box begins at -0.5: pixels were counted from 0"),
        ({"xmin": ".5"}, "", 0.5, "a box begins at .5: pixels were counted from 0"),
        ({"xmin": 1.5, "xmax": 39.25}, "labelmap.txt", 1.5, "CVAT wrote fractions of pixels"),
        ({"xmin": 1.5, "xmax": 39.25}, "", 0.5, "fractions of pixels: they were counted from 1"),
        ({"xmin": 1.5}, "labelmap.txt", 0.5, ""),
        # Written here: boxes keep their fractions, and may reach over the border.
        ({"xmin": 0.5, "xmax": 39.25}, "classes.txt", -0.5, ""),
    ],
)
def test_what_fractions_of_pixels_say(
    tmp_path: Path, box: dict[str, Any], file: str, left: float, note: str
) -> None:
    write_annotated(tmp_path, "a", **box)
    if file:
        (tmp_path / file).write_text("dog:::\n" if file == "labelmap.txt" else "dog\n")
    found = read_labelled(f"voc:{tmp_path}")
    assert found.truth.xywh[0, 0] == left
    assert len(found.notes) == bool(note)
    assert all(note in one for one in found.notes)


def test_difficult_objects_count_neither_way(tmp_path: Path) -> None:
    write_annotated(tmp_path, "a", difficult=1)
    assert read_labelled(f"voc:{tmp_path}").truth.crowd.tolist() == [True]


def test_a_size_of_zero_and_a_name_of_another_machine(tmp_path: Path) -> None:
    write_annotated(tmp_path, "a", width=0, height=0, filename="C:/photos/a.bmp")
    image = read_labelled(f"voc:{tmp_path}").images[0]
    assert (image.width, image.height, image.path) == (40, 31, tmp_path / "JPEGImages" / "a.png")


def test_of_files_that_name_the_same_image_each_keeps_its_own(tmp_path: Path) -> None:
    for name in "abc":
        write_annotated(tmp_path, name, filename="a.png")
    issues: list[LabelIssue] = []
    found = voc.read(tmp_path, None, "val", on_issue=issues.append)
    assert [image.name for image in found.images] == ["a.png", "b.png", "c.png"]
    assert [issue.kind for issue in issues] == ["name-differs"] * 2


def test_two_files_for_one_image_are_an_error(tmp_path: Path) -> None:
    for name in "ab":
        write_annotated(tmp_path, name, filename="a.png")
    (tmp_path / "JPEGImages" / "b.png").unlink()
    with pytest.raises(InvalidDataset, match=r"a\.png, which is labelled by .*b\.xml too"):
        read_labelled(f"voc:{tmp_path}")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "labelmap.txt",
            "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:1,2,3::\ndog:::",
        ),
        ("classes.txt", "cat\ndog\n"),
    ],
)
def test_a_list_of_classes_gives_their_numbers(tmp_path: Path, name: str, text: str) -> None:
    write_annotated(tmp_path, "a")
    (tmp_path / name).write_text(text)
    found = read_labelled(f"voc:{tmp_path}")
    assert [(c.id, c.name) for c in found.categories] == [(0, "cat"), (1, "dog")]
    assert found.truth.category.tolist() == [1]


def test_classes_are_numbered_by_name_over_all_splits(tmp_path: Path) -> None:
    for split, name in (("train", "zebra"), ("valid", "ant &amp; bee")):
        write_annotated(tmp_path / split, name[0], pictures="")
        path = tmp_path / split / f"{name[0]}.xml"
        path.write_text(path.read_text().replace(">dog<", f">{name}<"))
    for split, category in (("train", 1), ("val", 0)):
        found = read_labelled(f"voc:{tmp_path}", split=split)
        assert [(c.id, c.name) for c in found.categories] == [(0, "ant & bee"), (1, "zebra")]
        assert found.truth.category.tolist() == [category]


def test_an_image_that_is_not_there_is_looked_for_under_its_own_name(tmp_path: Path) -> None:
    write_annotated(tmp_path, "a", filename="other.jpg")
    (tmp_path / "JPEGImages" / "a.png").unlink()
    image = voc.read(tmp_path, None, "val").images[0]
    assert image.path == tmp_path / "JPEGImages" / "other.jpg"
    assert (image.width, image.height) == (40, 31)


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ("<xmax>40<", "<xmax>1<", None),  # one pixel wide
        ("<ymax>30.5<", "<ymax>1<", None),
        ("<xmax>40<", "<xmax>0.5<", "box-empty"),
        ("<ymax>30.5<", "<ymax>0.5<", "box-empty"),
        ("<xmax>40<", "<xmax>nan<", "labels-unreadable"),
        ("<xmax>40<", "<xmax>wide<", "labels-unreadable"),
        (">dog<", "><", "labels-unreadable"),
        ("</annotation>", "", "labels-unreadable"),
    ],
)
def test_objects_that_cannot_be_used_have_a_kind(
    tmp_path: Path, old: str, new: str, kind: str | None
) -> None:
    write_annotated(tmp_path, "a")
    write_annotated(tmp_path, "b")
    path = tmp_path / "Annotations" / "b.xml"
    path.write_text(path.read_text().replace(old, new))
    issues: list[LabelIssue] = []
    found = voc.read(tmp_path, None, "val", on_issue=issues.append)
    assert [issue.kind for issue in issues] == ([kind] if kind else [])
    assert len(found.truth) == (1 if kind else 2)


def test_a_class_that_is_not_listed_is_an_issue(tmp_path: Path) -> None:
    write_annotated(tmp_path, "a")
    (tmp_path / "classes.txt").write_text("cat\n")
    issues: list[LabelIssue] = []
    voc.read(tmp_path, None, "val", on_issue=issues.append)
    assert [issue.kind for issue in issues] == ["unknown-class", "no-labels"]


def test_attributes_are_read_where_details_are_asked_for(tmp_path: Path) -> None:
    write_annotated(tmp_path, "a")
    assert voc.read(tmp_path, None, "val").details is None
    found = voc.read(tmp_path, None, "val", details=True).details
    assert found == Details(({},), ({"pose": "Left", "truncated": 1},), {})


LABELLED = LabelledSet(
    "test",
    (LabelledImage(1, "b.jpg", Path("b.jpg"), 40, 31), LabelledImage(2, "c.jpg", Path("c"), 8, 9)),
    (Category(0, "cat & dog"), Category(1, "ant")),
    Truth.of([0, 0], [1, 0], [[0, 0, 40, 31], [2.5, 3, 4, 5]], crowd=[False, True]),
    details=Details(
        ({"segmented": 1}, {}), ({"pose": "Left", "truncated": 1, "segmentation": []}, {}), {}
    ),
)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    assert voc.write(tmp_path, {"train": LABELLED, "val": LABELLED}) == []
    assert (tmp_path / "ImageSets" / "Main" / "val.txt").read_text() == "b\nc\n"
    text = (tmp_path / "Annotations" / "b.xml").read_text()
    assert "<segmented>1</segmented>" in text
    assert "<xmin>1</xmin><ymin>1</ymin><xmax>40</xmax><ymax>31</ymax>" in text
    assert "<segmented>0</segmented>" in (tmp_path / "Annotations" / "c.xml").read_text()
    found = voc.read(tmp_path, None, "val", details=True)
    assert found.categories == LABELLED.categories
    for name in ("image", "category", "xywh", "crowd"):
        np.testing.assert_array_equal(
            getattr(found.truth, name), getattr(LABELLED.truth, name), err_msg=name
        )
    assert [(i.name, i.width, i.height) for i in found.images] == [
        ("b.jpg", 40, 31),
        ("c.jpg", 8, 9),
    ]
    assert found.details == Details(
        ({"segmented": 1}, {}), ({"pose": "Left", "truncated": 1}, {}), {}
    )


def test_without_splits_no_list_is_written(tmp_path: Path) -> None:
    bare = LabelledSet("test", LABELLED.images, LABELLED.categories, LABELLED.truth)
    assert voc.write(tmp_path, {"": bare}) == []
    assert {p.name for p in tmp_path.iterdir()} == {"Annotations", "classes.txt"}
    assert (tmp_path / "classes.txt").read_text() == "cat & dog\nant\n"
    assert "<segmented>0</segmented>" in (tmp_path / "Annotations" / "b.xml").read_text()


def test_a_list_of_classes_that_never_ends_is_refused(tmp_path: Path) -> None:
    write_annotated(tmp_path, "a")
    (tmp_path / "mine.txt").symlink_to("/dev/zero")
    with pytest.raises(InvalidDataset, match=r"mine\.txt is not a regular file"):
        read_labelled(f"voc:{tmp_path}", tmp_path / "mine.txt")
