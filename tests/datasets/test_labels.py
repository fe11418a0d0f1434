"""Reading labels: what they say, and every way in which they cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seatrial.datasets.labels import known_categories, match_labels, read_labelled
from seatrial.errors import InvalidDataset, InvalidInput

CATEGORIES = [{"id": 1, "name": "red"}, {"id": 5, "name": "green"}, {"id": 9, "name": "blue"}]


def coco(**changes: Any) -> dict[str, Any]:
    """Two pictures, not in the order of their ids; the first without an object."""
    return {
        "images": [
            {"id": 7, "file_name": "b.png", "width": 40, "height": 30},
            {"id": 3, "file_name": "a.png", "width": 40, "height": 30},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 9, "bbox": [1, 2, 10, 20], "area": 150.5,
             "segmentation": [[1, 2, 11, 2, 11, 22]]},
            {"id": 2, "image_id": 7, "category_id": 1, "bbox": [0, 0, 5, 5], "iscrowd": 1},
        ],
        "categories": CATEGORIES[::-1],
        **changes,
    }  # fmt: skip


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a COCO folder with its pictures; gives the folder."""

    def write(labels: Any = None, *, pictures: str = "images", names: str = "ab") -> Path:
        folder = tmp_path / "set"
        (folder / pictures).mkdir(parents=True)
        text = labels if isinstance(labels, str) else json.dumps(labels or coco())
        (folder / "instances.json").write_text(text)
        for name in names:
            Image.new("RGB", (40, 30)).save(folder / pictures / f"{name}.png")
        return folder

    return write


@pytest.mark.parametrize("pictures", ["images", "."])
def test_coco_json_becomes_arrays_in_the_order_of_ids(
    write: Callable[..., Path], pictures: str
) -> None:
    folder = write(pictures=pictures)
    found = read_labelled(f"coco:{folder}", folder / "instances.json")
    assert [(image.id, image.path) for image in found.images] == [
        (3, folder / pictures / "a.png"),
        (7, folder / pictures / "b.png"),
    ]
    assert [(c.id, c.name) for c in found.categories] == [(1, "red"), (5, "green"), (9, "blue")]
    assert found.truth.image.tolist() == [1, 1]
    assert found.truth.category.tolist() == [2, 0]
    assert found.truth.xywh.tolist() == [[1, 2, 10, 20], [0, 0, 5, 5]]
    assert found.truth.area.tolist() == [150.5, 25]  # without an area, the box's
    assert found.truth.crowd.tolist() == [False, True]


def test_the_usual_annotation_file_is_found(write: Callable[..., Path]) -> None:
    folder = write()
    assert len(read_labelled(f"coco:{folder}").truth) == 2
    (folder / "instances.json").unlink()
    with pytest.raises(InvalidDataset, match=r"none of instances.json, .* is in"):
        read_labelled(f"coco:{folder}")


def test_digest_tells_labels_apart(write: Callable[..., Path]) -> None:
    folder = write()
    first = read_labelled(f"coco:{folder}").digest()
    assert read_labelled(f"coco:{folder}").digest() == first
    moved = coco()
    moved["annotations"][0]["bbox"][0] = 1.5
    (folder / "instances.json").write_text(json.dumps(moved))
    assert read_labelled(f"coco:{folder}").digest() != first


def changed(what: str, number: int, **values: Any) -> dict[str, Any]:
    labels = coco()
    labels[what][number] |= values
    return labels


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("no JSON {", r"instances.json, line 1: not a COCO annotation file.*malformed"),
        ('{"images": [],\n\n"annotations": ]', r"instances.json, line 3: not a COCO.*malformed"),
        ("", "not a COCO annotation file"),
        ("[]", "not a COCO annotation file"),
        ({"images": [], "annotations": []}, "missing required field `categories`"),
        (
            changed("annotations", 0, bbox=[1, 2, 3]),
            r"instances.json, annotation 1: .*length.*bbox",
        ),
        (
            changed("annotations", 0, bbox=[1, 2, -3, 4]),
            r"instances.json, annotation 1: box .*-3.* of b.png has a negative side",
        ),
        (
            changed("annotations", 1, image_id=8),
            "annotation 2: refers to image 8, which the file does not list",
        ),
        (
            changed("annotations", 1, category_id=2),
            "annotation 2: has category 2, which the file does not list .*b.png",
        ),
        (changed("annotations", 1, id=1), "annotation 1: two annotations have this id"),
        (changed("images", 1, id=7), "image 7: the id 7 is used twice"),
        (coco(annotations=[]), "no annotations"),
    ],
)
def test_json_that_is_not_sound_coco_is_refused(
    write: Callable[..., Path], labels: Any, message: str
) -> None:
    folder = write(labels)
    with pytest.raises(InvalidDataset, match=message):
        read_labelled(f"coco:{folder}", folder / "instances.json")


def test_missing_annotation_file_is_named(write: Callable[..., Path]) -> None:
    folder = write()
    with pytest.raises(InvalidDataset, match=r"elsewhere\.json cannot be read: No such file"):
        read_labelled(f"coco:{folder}", folder / "elsewhere.json")


def test_missing_picture_is_an_error_unless_it_is_left_out_by_name(
    write: Callable[..., Path],
) -> None:
    folder = write(changed("annotations", 1, image_id=3), names="b")
    with pytest.raises(InvalidDataset, match=r"1 of 2 pictures .* are not in .*: a.png") as caught:
        read_labelled(f"coco:{folder}")
    assert "--skip-missing" in caught.value.hint
    found = read_labelled(f"coco:{folder}", skip_missing=True)
    assert found.skipped == ("a.png",)
    assert [image.id for image in found.images] == [7]
    assert found.truth.image.tolist() == [0]  # the other object went with its picture
    assert found.truth.category.tolist() == [2]


def test_a_folder_with_none_of_the_pictures_is_an_error_even_so(
    write: Callable[..., Path],
) -> None:
    folder = write(names="")
    with pytest.raises(InvalidDataset, match="none of the 2 pictures"):
        read_labelled(f"coco:{folder}", skip_missing=True)


@pytest.mark.parametrize("spec", ["kitti:.", "coco", "coco:", "."])
def test_unknown_format_is_refused(spec: str) -> None:
    with pytest.raises(InvalidInput, match="does not name a labelled set") as caught:
        read_labelled(spec)
    assert "yolo:FOLDER" in caught.value.hint


def test_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match="nowhere does not exist"):
        read_labelled(f"coco:{tmp_path}/nowhere")


# ---------------------------------------------------------------------------- names of classes


def test_classes_match_by_name_not_by_number(write: Callable[..., Path]) -> None:
    found = read_labelled(f"coco:{write()}")
    labels = ["Blue", "N/A", " red", "green", ""]
    assert match_labels(labels, found).tolist() == [2, -1, 0, 1, -1]


def test_label_that_the_dataset_does_not_know_is_an_error_with_a_guess(
    write: Callable[..., Path],
) -> None:
    found = read_labelled(f"coco:{write()}")
    with pytest.raises(InvalidDataset, match="not have classes of the model: 'gren'") as caught:
        match_labels(["red", "gren", "blue"], found)
    assert "'gren' and 'green'" in caught.value.hint
    assert match_labels(["red", "gren", "blue"], found, unmatched="ignore").tolist() == [0, -1, 2]


def test_objects_that_the_model_does_not_know_are_an_error(write: Callable[..., Path]) -> None:
    found = read_labelled(f"coco:{write()}")
    with pytest.raises(InvalidDataset, match="that the model does not have: 'blue'"):
        match_labels(["red", "green"], found)
    matched = match_labels(["red", "green"], found, unmatched="ignore")
    assert known_categories(matched, found).truth.category.tolist() == [0]
    # Green has no objects: to know nothing of it costs nothing.
    assert match_labels(["red", "blue"], found).tolist() == [0, 2]


def test_no_common_class_is_an_error_even_where_mismatches_are_ignored(
    write: Callable[..., Path],
) -> None:
    found = read_labelled(f"coco:{write()}")
    with pytest.raises(InvalidDataset, match="no label of the model is a category") as none:
        match_labels(["cat", "dog"], found, unmatched="ignore")
    assert "--unmatched" not in none.value.hint  # it would not help
    with pytest.raises(InvalidDataset, match="two labels of the model are named 'RED'"):
        match_labels(["red", "RED", "blue"], found)


# ------------------------------------------------------------------------------- YOLO folders


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
    assert found.notes == ("1 labels that were there twice count once",)


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
        ("red .5 .5 .2 .2", "line 1: could not convert"),
        ("", "no picture of val .* has a label"),
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
    with pytest.raises(InvalidDataset, match=r"data.yaml cannot be read: No such file"):
        read_labelled(f"yolo:{tmp_path}")


def test_yolo_labels_without_a_picture_are_an_error(yolo: Callable[..., Path]) -> None:
    folder = yolo()
    (folder / "labels" / "val" / "classes.txt").write_text("red\ngreen\n")
    (folder / "labels" / "val" / "three.txt").write_text("1 .5 .5 .2 .2\n")
    with pytest.raises(InvalidDataset, match=r"three.txt: belongs to no picture"):
        read_labelled(f"yolo:{folder}")


def test_yolo_picture_that_is_not_read_here_is_never_left_out_silently(
    yolo: Callable[..., Path],
) -> None:
    folder = yolo()
    Image.new("RGB", (40, 20)).save(folder / "images" / "val" / "three.bmp")
    with pytest.raises(
        InvalidDataset, match=r"three.bmp: a picture of .* in an unsupported format"
    ):
        read_labelled(f"yolo:{folder}")


def test_yolo_picture_that_is_broken_is_named(yolo: Callable[..., Path]) -> None:
    folder = yolo()
    (folder / "images" / "val" / "two.png").write_bytes(b"nothing")
    with pytest.raises(InvalidDataset, match=r"two.png: damaged or not a picture"):
        read_labelled(f"yolo:{folder}")
