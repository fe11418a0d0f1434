"""COCO's JSON: what is read, and every way in which it cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coco_labels import CATEGORIES, changed, coco
from seatrial.datasets.coco import encode, holds, read, splits, write
from seatrial.datasets.issues import LabelIssue
from seatrial.datasets.read import read_labelled
from seatrial.errors import InvalidDataset


@pytest.mark.parametrize("pictures", ["images", "."])
def test_coco_json_becomes_arrays_in_the_order_of_ids(
    write_coco: Callable[..., Path], pictures: str
) -> None:
    folder = write_coco(pictures=pictures)
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


def test_the_usual_annotation_file_is_found(write_coco: Callable[..., Path]) -> None:
    folder = write_coco()
    assert len(read_labelled(f"coco:{folder}").truth) == 2
    (folder / "instances.json").unlink()
    with pytest.raises(InvalidDataset, match=r"none of instances.json, .* is in"):
        read_labelled(f"coco:{folder}")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("no JSON {", r"instances.json, line 1: not a COCO annotation file.*malformed"),
        ('{"images": [],\n\n"annotations": ]', r"instances.json, line 3: not a COCO.*malformed"),
        ("", "not a COCO annotation file"),
        ("[]", "not a COCO annotation file"),
        ({"images": [], "annotations": []}, "categories is missing"),
        (
            changed("annotations", 0, bbox=[1, 2, 3]),
            r"instances.json, annotation 1: bbox: .*length",
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
    write_coco: Callable[..., Path], labels: Any, message: str
) -> None:
    folder = write_coco(labels)
    with pytest.raises(InvalidDataset, match=message):
        read_labelled(f"coco:{folder}", folder / "instances.json")


def test_missing_annotation_file_is_named(write_coco: Callable[..., Path]) -> None:
    folder = write_coco()
    with pytest.raises(InvalidDataset, match=r"elsewhere\.json cannot be read: No such file"):
        read_labelled(f"coco:{folder}", folder / "elsewhere.json")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("annotations/instances_train.json", "train"),
        ("annotations/instances_val2017.json", "val"),
        ("valid/_annotations.coco.json", "val"),
        ("test/_annotations.coco.json", "test"),
    ],
)
def test_the_files_of_a_split_are_found(
    write_coco: Callable[..., Path], name: str, split: str
) -> None:
    folder = write_coco()
    assert splits(folder, None) == ()
    (folder / name).parent.mkdir()
    (folder / "instances.json").rename(folder / name)
    assert splits(folder, None) == (split,)
    assert splits(folder, folder / name) == ()  # a file that is named has one set
    assert holds(folder)
    assert len(read(folder, None, split).truth) == 2


def test_of_several_usual_names_the_first_counts(write_coco: Callable[..., Path]) -> None:
    folder = write_coco()
    (folder / "labels.json").write_text("not this one")
    assert len(read_labelled(f"coco:{folder}").truth) == 2


def test_any_file_with_the_sections_of_coco_is_found_unless_there_are_several(
    write_coco: Callable[..., Path],
) -> None:
    folder = write_coco()
    (folder / "annotations").mkdir()
    (folder / "instances.json").rename(folder / "annotations" / "mine.json")
    (folder / "images_only.json").write_text('{"images": [], "categories": []}')
    assert holds(folder)
    assert len(read_labelled(f"coco:{folder}").truth) == 2
    (folder / "other.json").write_text((folder / "annotations" / "mine.json").read_text())
    with pytest.raises(InvalidDataset, match=r"annotation files: annotations/mine\.json.*other"):
        read(folder, None, "val")
    for path in (folder / "annotations" / "mine.json", folder / "other.json"):
        path.unlink()
    assert not holds(folder)


def test_boxes_without_a_side_are_read_and_those_without_numbers_are_not(
    write_coco: Callable[..., Path],
) -> None:
    issues: list[LabelIssue] = []
    text = json.dumps(changed("annotations", 0, bbox=[1, 2, 0, 0]))
    found = read(write_coco(text.replace("[0, 0, 5, 5]", "[0, 0, 1e999, 5]")), None, "val",
                 on_issue=issues.append)  # fmt: skip
    assert found.truth.xywh.tolist() == [[1, 2, 0, 0]]
    assert [issue.kind for issue in issues] == ["labels-unreadable"]


def test_annotations_without_an_id_go_by_their_place(write_coco: Callable[..., Path]) -> None:
    labels = coco()
    for row in labels["annotations"]:
        del row["id"]
    issues: list[LabelIssue] = []
    found = read(write_coco(labels), None, "val", on_issue=issues.append)
    assert found.truth.mark.tolist() == [1, 2]
    assert issues == []
    del labels["annotations"][1]["bbox"]
    labels["annotations"].append({"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]})
    path = found.images[0].labels
    assert path is not None
    path.write_text(json.dumps(labels))
    read(path.parent, None, "val", on_issue=issues.append)
    assert [issue.where.partition(", ")[2] for issue in issues] == [
        "annotation number 2 in the list",
        "annotation 3",
    ]


def test_all_keys_of_a_file_are_kept_and_written_again(
    write_coco: Callable[..., Path], tmp_path: Path
) -> None:
    labels = coco(licenses=[{"id": 1}], info={"year": 2020})
    labels["images"][0]["date_captured"] = "today"
    labels["categories"] = [{**row, "supercategory": "colour"} for row in CATEGORIES]
    folder = write_coco(labels)
    plain, found = read(folder, None, "val"), read(folder, None, "val", details=True)
    assert plain.details is None
    out = tmp_path / "out"
    out.mkdir()
    assert write(out, {"": found, "val": found}) == []
    text = (out / "instances.json").read_bytes()
    assert text == (out / "annotations" / "instances_val.json").read_bytes() == encode(found)
    assert text.endswith(b"}\n")
    again = json.loads(text)
    assert again["images"] == [labels["images"][1], labels["images"][0]]  # by their ids
    assert again["categories"] == labels["categories"]
    assert again["annotations"] == [
        {**labels["annotations"][0], "iscrowd": 0},
        {**labels["annotations"][1], "area": 25.0},
    ]
    assert (again["licenses"], again["info"]) == ([{"id": 1}], {"year": 2020})
    assert json.loads(encode(found, {"year": 2021}))["info"] == {"year": 2021}
    bare = json.loads(encode(plain))
    assert [row["id"] for row in bare["annotations"]] == [1, 2]
    assert set(bare) == {"images", "annotations", "categories"}
    assert bare["categories"] == CATEGORIES
