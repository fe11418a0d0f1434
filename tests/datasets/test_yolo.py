"""YOLO folders: what is read, and every way in which they cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from seatrial.datasets.issues import LabelIssue
from seatrial.datasets.labels import Category, Details, LabelledImage, LabelledSet, Truth
from seatrial.datasets.read import read_labelled
from seatrial.datasets.yolo import config_text, label_texts, read, splits, write
from seatrial.errors import InvalidDataset


@pytest.fixture
def yolo(tmp_path: Path) -> Callable[..., Path]:
    """Writes a YOLO folder of one 40 x 20 picture, and one without a label file."""

    def write(label: str = "1 0.5 0.5 0.25 0.5\n", config: str | None = None) -> Path:
        folder = tmp_path / "yolo"
        (folder / "images" / "val").mkdir(parents=True)
        (folder / "labels" / "val").mkdir(parents=True)
        for name in ("one", "two"):
            Image.new("RGB", (40, 20)).save(folder / "images" / "val" / f"{name}.png")
        (folder / "labels" / "val" / "one.txt").write_text(label)
        (folder / "data.yaml").write_text(config or "val: images/val\nnames: [red, green]\n")
        return folder

    return write


def test_yolo_labels_become_pixels(yolo: Callable[..., Path]) -> None:
    found = read_labelled(f"yolo:{yolo()}")
    assert [(i.name, i.width, i.height) for i in found.images] == [
        ("one.png", 40, 20),
        ("two.png", 40, 20),
    ]
    assert found.truth.image.tolist() == [0]
    assert found.truth.category.tolist() == [1]
    assert found.truth.xywh.tolist() == [[15, 5, 10, 10]]
    assert found.truth.area.tolist() == [100]


@pytest.mark.parametrize(
    "config",
    [
        "path: .\nval: images/val\nnames: {0: red, 1: green}\nnc: 2",
        "val: [images/val]\nnames: [red, green]",
        "val: ../images/val\nnames: [red, green]",  # Roboflow's habit
        "val: list.txt\nnames: [red, green]",
    ],
)
def test_yolo_configurations_as_exporters_write_them(
    yolo: Callable[..., Path], config: str
) -> None:
    folder = yolo(config=config)
    (folder / "list.txt").write_text("./images/val/one.png\nimages/val/two.png\n")
    found = read_labelled(f"yolo:{folder}")
    assert len(found.images) == 2
    assert [c.name for c in found.categories] == ["red", "green"]


def test_yolo_outlines_become_boxes_and_duplicates_count_once(yolo: Callable[..., Path]) -> None:
    folder = yolo("0 0.1 0.2 0.5 0.2 0.3 0.8\n1 .5 .5 .2 .2\n1 .5 .5 .2 .2\n")
    found = read_labelled(f"yolo:{folder}")
    assert found.truth.category.tolist() == [0, 1]
    np.testing.assert_allclose(found.truth.xywh[0], [4, 4, 16, 12])
    assert found.notes == ("labels that are there twice count once: 1",)


def test_yolo_labels_are_drawn_on_the_upright_picture(yolo: Callable[..., Path]) -> None:
    folder = yolo()
    exif = Image.Exif()
    exif[0x0112] = 6
    (folder / "images" / "val" / "one.png").unlink()
    Image.new("RGB", (40, 20)).save(folder / "images" / "val" / "one.jpg", exif=exif)
    found = read_labelled(f"yolo:{folder}")
    assert (found.images[0].width, found.images[0].height) == (20, 40)
    assert found.truth.xywh.tolist() == [[7.5, 10, 5, 20]]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("1 0.5 0.5 0.2", "one.txt, line 1: 4 values"),
        ("1 .5 .5 .2 .2\n2 .5 .5 .2 .2", "line 2: class 2 is not one of the 2"),
        ("0.5 .5 .5 .2 .2", "class 0.5 is not"),
        ("1 320 240 20 20", "not fractions"),
        ("1 .5 .5 .2 nan", "not fractions"),
        ("red .5 .5 .2 .2", "line 1: 'red' is not a number"),
        ("", "no image of val .* has a label"),
    ],
)
def test_yolo_label_that_cannot_be_read_is_named_with_its_line(
    yolo: Callable[..., Path], label: str, message: str
) -> None:
    with pytest.raises(InvalidDataset, match=message):
        read_labelled(f"yolo:{yolo(label)}")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("val: images/val\nnames: [red", "is not YAML"),
        ("just text", "has no keys"),
        ("val: images/val", "no usable 'names'"),
        ("val: images/val\nnames: {1: red, 2: green}", "no usable 'names'"),
        ("val: images/val\nnames: [red, green]\nnc: 3", "nc: 3 and names 2"),
        ("train: images/val\nnames: [red, green]", "has no 'val' set"),
        ("val: images/test\nnames: [red, green]", "'images/test' is not at"),
    ],
)
def test_yolo_configuration_that_cannot_be_used_says_why(
    yolo: Callable[..., Path], config: str, message: str
) -> None:
    with pytest.raises(InvalidDataset, match=message):
        read_labelled(f"yolo:{yolo(config=config)}")


def test_yolo_folder_without_a_configuration(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match=r"has no data.yaml, no obj.data and no classes.txt"):
        read_labelled(f"yolo:{tmp_path}")


def test_yolo_labels_without_a_picture_are_an_error(yolo: Callable[..., Path]) -> None:
    folder = yolo()
    (folder / "labels" / "val" / "classes.txt").write_text("red\ngreen\n")
    (folder / "labels" / "val" / "three.txt").write_text("1 .5 .5 .2 .2\n")
    with pytest.raises(InvalidDataset, match=r"three.txt: belongs to no image"):
        read_labelled(f"yolo:{folder}")


def test_yolo_picture_that_is_not_read_here_is_never_left_out_silently(
    yolo: Callable[..., Path],
) -> None:
    folder = yolo()
    (folder / "images" / "val" / "three.nef").write_bytes(b"II*\0")
    with pytest.raises(InvalidDataset, match=r"three.nef: .nef files are not read: convert it"):
        read_labelled(f"yolo:{folder}")


def test_yolo_picture_that_is_broken_is_named(yolo: Callable[..., Path]) -> None:
    folder = yolo()
    (folder / "images" / "val" / "two.png").write_bytes(b"nothing")
    with pytest.raises(InvalidDataset, match=r"two.png: damaged or not an image"):
        read_labelled(f"yolo:{folder}")


def test_the_last_folder_named_images_holds_the_images(tmp_path: Path) -> None:
    """A dataset can lie below a folder ``images``, and an image can be called so."""
    folder = tmp_path / "images" / "set"
    for part in ("images", "labels"):
        (folder / part / "val").mkdir(parents=True)
    Image.new("RGB", (40, 20)).save(folder / "images" / "val" / "images.png")
    (folder / "labels" / "val" / "images.txt").write_text("1 .5 .5 .25 .5\n")
    (folder / "data.yaml").write_text("val: images/val\nnames: [red, green]")
    found = read_labelled(f"yolo:{folder}")
    assert found.images[0].labels == folder / "labels" / "val" / "images.txt"
    assert found.truth.xywh.tolist() == [[15, 5, 10, 10]]


def test_without_a_folder_named_images_labels_lie_beside_the_images(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    Image.new("RGB", (40, 20)).save(tmp_path / "val" / "a.png")
    (tmp_path / "val" / "a.txt").write_text("1 .5 .5 .25 .5\n")
    (tmp_path / "data.yaml").write_text("val: val\nnames: [red, green]")
    assert len(read_labelled(f"yolo:{tmp_path}").truth) == 1


def test_a_label_file_beside_the_images_that_has_none_is_an_issue(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "classes.txt").write_text("red\ngreen\n")
    Image.new("RGB", (40, 20)).save(tmp_path / "images" / "a.png")
    for name in "ab":
        (tmp_path / "images" / f"{name}.txt").write_text("1 .5 .5 .25 .5\n")
    issues: list[LabelIssue] = []
    found = read(tmp_path, None, "", on_issue=issues.append)
    assert len(found.truth) == 1
    assert [(issue.kind, Path(issue.where).name) for issue in issues] == [
        ("orphaned-labels", "b.txt")
    ]


@pytest.mark.parametrize("empty", ["", "''", "[]", "null"])
def test_a_split_without_a_path_is_no_split(yolo: Callable[..., Path], empty: str) -> None:
    folder = yolo(config=f"train: {empty}\nval: images/val\nnames: [red, green]")
    assert splits(folder, None) == ("val",)
    with pytest.raises(InvalidDataset, match="has no 'train' set"):
        read_labelled(f"yolo:{folder}", split="train")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("-0.01", None), ("1.01", None),
        ("-0.02", "box-outside"), ("1.02", "box-outside"),
        ("-1", "box-outside"), ("2", "box-outside"),
        ("-1.01", "labels-unreadable"), ("2.01", "labels-unreadable"),
    ],
)  # fmt: skip
def test_values_may_be_a_hundredth_over_the_border(
    yolo: Callable[..., Path], value: str, kind: str | None
) -> None:
    issues: list[LabelIssue] = []
    found = read(yolo(f"1 {value} .5 .2 .2\n0 .5 .5 .2 .2"), None, "val", on_issue=issues.append)
    assert [issue.kind for issue in issues] == ([kind] if kind else [])
    assert len(found.truth) == (1 if kind else 2)


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ("1 .5 .5 -.2 .2", "box-empty"), ("1 .5 .5 .2 -.2", "box-empty"),
        ("1 1.2 .5 0 .2", "box-outside"),
        ("-1 .5 .5 .2 .2", "unknown-class"), ("2 .5 .5 .2 .2", "unknown-class"),
        ("1 .5 .5 .2", "labels-unreadable"), ("1 .5 .5 .2 .2 .2", "labels-unreadable"),
        ("1 .1 .1 .2 .2 .3 .3 .4", "labels-unreadable"),
        ("1", "labels-unreadable"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_used_have_a_kind(
    yolo: Callable[..., Path], row: str, kind: str
) -> None:
    issues: list[LabelIssue] = []
    read(yolo(f"{row}\n0 .5 .5 .2 .2"), None, "val", on_issue=issues.append)
    assert [(issue.kind, issue.where.rsplit(" ", 1)[1]) for issue in issues] == [(kind, "1")]


def test_a_crowd_has_no_row() -> None:
    labelled = LabelledSet(
        "test",
        (LabelledImage(1, "a.jpg", Path("a.jpg"), 40, 20), LabelledImage(2, "b", Path("b"), 8, 8)),
        (Category(0, "red"), Category(1, "green")),
        Truth.of([0, 0], [0, 1], [[0, 0, 4, 4], [10, 5, 20, 10]], crowd=[True, False]),
    )
    assert label_texts(labelled) == ["1 0.5 0.5 0.5 0.5\n", ""]


def test_an_image_without_a_size_cannot_be_written() -> None:
    labelled = LabelledSet(
        "test",
        (LabelledImage(1, "a.jpg", Path("a.jpg"), 40, None),),
        (Category(0, "red"),),
        Truth.of([0], [0], [[0, 0, 4, 4]]),
    )
    with pytest.raises(ValueError, match="has no size"):
        label_texts(labelled)


def test_names_of_classes_are_quoted() -> None:
    names = ['say "hi"', "a: b", "é\n"]
    text = config_text([Category(n, name) for n, name in enumerate(names)], ["train", "val"])
    found = yaml.safe_load(text)
    assert found == {
        "train": "images/train",
        "val": "images/val",
        "nc": 3,
        "names": dict(enumerate(names)),
    }


def test_paths_are_relative_to_the_folder_that_the_configuration_names(
    yolo: Callable[..., Path],
) -> None:
    folder = yolo(config="path: set\nval: images/val\nnames: [red, green]")
    (folder / "set").mkdir()
    for part in ("images", "labels"):
        (folder / part).rename(folder / "set" / part)
    assert len(read_labelled(f"yolo:{folder}").images) == 2


@pytest.mark.parametrize(
    ("entry", "places"),
    [
        # From the folder of `path`, from that of data.yaml, and there without its "../".
        ("images/val", ("set/images/val", "images/val")),
        ("../images/val", ("images/val", "../images/val")),
        ("../val", ("val", "../val")),
        ("../other/val", ("other/val", "../other/val", "set/other/val")),
    ],
)
def test_of_several_folders_that_an_entry_may_mean_the_first_counts(
    yolo: Callable[..., Path], entry: str, places: tuple[str, ...]
) -> None:
    folder = yolo(config=f"path: set\nval: {entry}\nnames: [red, green]")
    (folder / "images").rename(folder / "no-images")
    (folder / "set").mkdir()
    for number, place in enumerate(places):
        where = folder / place
        where.mkdir(parents=True)
        Image.new("RGB", (40, 20)).save(where / f"{number}.png")
    issues: list[LabelIssue] = []
    found = read(folder, None, "val", on_issue=issues.append)
    assert [image.name for image in found.images] == ["0.png"]


def test_a_list_may_leave_images_of_a_folder_out(yolo: Callable[..., Path]) -> None:
    folder = yolo("1 .5 .5 .25 .5", config="val: list.txt\nnames: [red, green]")
    (folder / "labels" / "val" / "two.txt").write_text("1 .5 .5 .25 .5\n")
    (folder / "list.txt").write_text("./images/val/one.png\n\n")
    found = read_labelled(f"yolo:{folder}")
    assert [image.name for image in found.images] == ["one.png"]


def test_what_is_written_and_what_is_lost(tmp_path: Path) -> None:
    labelled = LabelledSet(
        "test",
        (LabelledImage(1, "a/b.jpg", Path("b.jpg"), 40, 20),),
        (Category(0, "red"), Category(1, "green")),
        Truth.of([0] * 3, [0, 1, 1], [[0, 0, 4, 4]] * 3, crowd=[True, True, False]),
        details=Details(({},), ({"segmentation": []}, {}, {"segmentation": []}), {}),
    )
    notes = write(tmp_path, {"": labelled})
    assert notes == ["data.yaml has no val set; seatrial data split makes one"]
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()} == {
        "data.yaml",
        "labels/train/a/b.txt",
    }
    assert splits(tmp_path, None) == ("train",)
    bare = replace(labelled, truth=labelled.truth.take(np.array([2])), details=None)
    assert write(tmp_path, {"train": bare, "val": bare}) == []
    assert splits(tmp_path, None) == ("train", "val")
    assert (tmp_path / "labels" / "val" / "a" / "b.txt").read_text() == "1 0.05 0.1 0.1 0.2\n"


def test_the_folder_that_the_configuration_names_goes_before_its_own(
    yolo: Callable[..., Path],
) -> None:
    folder = yolo(config="path: set\nval: images/val\nnames: [red, green]")
    (folder / "set" / "images" / "val").mkdir(parents=True)
    (folder / "set" / "labels" / "val").mkdir(parents=True)
    Image.new("RGB", (40, 20)).save(folder / "set" / "images" / "val" / "inner.png")
    (folder / "set" / "labels" / "val" / "inner.txt").write_text("1 .5 .5 .2 .2\n")
    found = read_labelled(f"yolo:{folder}")
    assert [image.name for image in found.images] == ["inner.png"]


def test_outlines_are_given_only_where_details_are_asked_for(yolo: Callable[..., Path]) -> None:
    folder = yolo("0 0.1 0.2 0.5 0.2 0.3 0.8\n1 .5 .5 .2 .2\n")
    assert read(folder, None, "val").details is None
    details = read(folder, None, "val", details=True).details
    assert details is not None
    assert details.images == ({}, {})
    outline, box = details.objects
    assert outline["segmentation"] == [pytest.approx([4, 4, 20, 4, 12, 16])]
    assert box == {}


@pytest.mark.parametrize(
    ("label", "kinds"),
    [
        ("0 .1 .2 .5 .2 .3 .8\n1 .5 .5 .2 .2\n", ["mixed-rows"]),
        ("0 .1 .2 .5 .2 .3 .8\n1 .1 .2 .5 .2 .3 .8\n", []),
        ("0 .5 .5 .2 .2\n1 .5 .5 .2 .2\n", []),
    ],
)
def test_boxes_and_outlines_in_one_file_are_an_issue(
    yolo: Callable[..., Path], label: str, kinds: list[str]
) -> None:
    issues: list[LabelIssue] = []
    read(yolo(label), None, "val", on_issue=issues.append)
    assert [issue.kind for issue in issues] == kinds


def test_lines_are_counted_from_one_and_empty_ones_too(yolo: Callable[..., Path]) -> None:
    found = read_labelled(f"yolo:{yolo('0 .5 .5 .2 .2' + chr(10) * 3 + '1 .5 .5 .2 .2')}")
    assert found.truth.mark.tolist() == [1, 4]


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [("jfif", "JPEG"), ("jpe", "JPEG"), ("mpo", "MPO"), ("bmp", "BMP"), ("gif", "GIF"),
     ("tif", "TIFF"), ("pgm", "PPM")],
)  # fmt: skip
def test_images_of_other_suffixes_count_with_their_labels(
    yolo: Callable[..., Path], suffix: str, kind: str
) -> None:
    folder = yolo()
    Image.new("L" if suffix == "pgm" else "RGB", (50, 20)).save(
        folder / "images" / "val" / f"three.{suffix}", kind
    )
    (folder / "labels" / "val" / "three.txt").write_text("1 .5 .5 .2 .5\n")
    found = read_labelled(f"yolo:{folder}")
    index = [image.name for image in found.images].index(f"three.{suffix}")
    assert found.truth.xywh[found.truth.image == index].tolist() == [[20, 5, 10, 10]]


def test_folders_behind_links_count_and_a_circle_of_links_ends(yolo: Callable[..., Path]) -> None:
    folder = yolo()
    for part in ("images", "labels"):
        (folder / "far" / part / "deep").mkdir(parents=True)
        (folder / part / "val" / "camera").symlink_to(folder / "far" / part)
    Image.new("RGB", (40, 20)).save(folder / "far" / "images" / "deep" / "a.png")
    (folder / "far" / "labels" / "deep" / "a.txt").write_text("0 .5 .5 .5 .5\n")
    (folder / "far" / "images" / "deep" / "up").symlink_to(folder / "images" / "val")
    issues: list[LabelIssue] = []
    found = read(folder, None, "val", on_issue=issues.append)
    assert [image.name for image in found.images] == ["camera/deep/a.png", "one.png", "two.png"]
    assert (found.truth.image == 0).sum() == 1
    up = folder / "images" / "val" / "camera" / "deep" / "up"
    assert [(i.kind, i.where) for i in issues] == [("link-cycle", str(up))]


def test_label_files_behind_links_need_an_image(yolo: Callable[..., Path]) -> None:
    folder = yolo()
    (folder / "far").mkdir()
    (folder / "far" / "a.txt").write_text("0 .5 .5 .5 .5\n")
    (folder / "labels" / "val" / "camera").symlink_to(folder / "far")
    with pytest.raises(InvalidDataset, match=r"camera/a\.txt: belongs to no image"):
        read_labelled(f"yolo:{folder}")
