"""COCO's JSON as tools write it: ids of any type, numbers that are none, files for each split."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from coco_labels import changed, two_images
from seatrial.datasets import coco_rows
from seatrial.datasets.coco import encode, holds
from seatrial.datasets.coco import read as read_coco
from seatrial.datasets.issues import LabelIssue
from seatrial.datasets.labels import LabelledSet
from seatrial.errors import InvalidDataset


def read(folder: Path, text: str | bytes) -> LabelledSet:
    """A COCO folder of two images, with this file."""
    folder.mkdir(exist_ok=True)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 30)).save(folder / name)
    (folder / "labels.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_coco(folder, None, "val", details=True)


def with_ids(change: Callable[[int, str], Any]) -> str:
    """The document with other ids."""
    found = two_images()
    for section in ("images", "annotations", "categories"):
        for row in found[section]:
            for key in ("id", "image_id", "category_id"):
                if key in row:
                    row[key] = change(row[key], f"{section[0]}{key}")
    return json.dumps(found)


@pytest.mark.parametrize(
    "change",
    [
        lambda number, _: f"c33c3539-8bd1-48e0-8065-83170{number}",
        lambda number, _: float(number),
        lambda number, _: str(number),
        lambda number, _: f"00{number}",
        lambda number, _: number + 2**70,
        lambda number, _: -number,
        lambda number, key: str(number) if key == "aimage_id" else number,
        lambda number, key: f"n{number}" if key == "aid" else number,
    ],
    ids=["uuid", "float", "text", "zeros", "70 bits", "negative", "mixed", "uuid of objects only"],
)
def test_ids_of_any_type_are_read_and_written_again(tmp_path: Path, change: Any) -> None:
    found = read(tmp_path / "in", with_ids(change))
    boxes = {
        (found.images[i].name, found.categories[c].name, *box)
        for i, c, box in zip(
            found.truth.image, found.truth.category, found.truth.xywh.tolist(), strict=True
        )
    }
    assert boxes == {("a.png", "cat", 1, 2, 10, 8), ("b.png", "dog", 3, 4, 5, 6)}
    again = read(tmp_path / "out", encode(found))
    assert again.digest() == found.digest()
    assert np.array_equal(again.truth.xywh, found.truth.xywh)


@pytest.mark.parametrize(
    ("row", "crowd", "area"),
    [
        ('"iscrowd": null', False, 80),
        ('"iscrowd": "0"', False, 80),
        ('"iscrowd": "1"', True, 80),
        ('"iscrowd": true', True, 80),
        ('"iscrowd": 1.0', True, 80),
        ('"area": null', False, 80),
        ('"area": "33.5"', False, 33.5),
        ('"area": NaN', False, 80),
        ('"area": 12, "score": -Infinity, "note": "NaN, \\"Infinity\\""', False, 12),
        ('"segmentation": [[NaN, 1, 2, 3, 4, 5]]', False, 80),
    ],
)
def test_values_as_lenient_tools_write_them(
    tmp_path: Path, row: str, crowd: bool, area: float
) -> None:
    text = json.dumps(two_images()).replace(
        '"bbox": [1, 2, 10, 8]', f'"bbox": [1, 2, 10, 8], {row}'
    )
    found = read(tmp_path, text)
    assert (bool(found.truth.crowd[0]), found.truth.area[0]) == (crowd, area)
    assert (len(found.notes) > 0) == ("NaN" in row.partition("note")[0] or "Infinity" in row)
    if "note" in row:
        assert found.details is not None
        assert found.details.objects[0]["note"] == 'NaN, "Infinity"'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iscrowd": "maybe"}, "iscrowd must be 0 or 1, not 'maybe'"),
        ({"iscrowd": 2}, "iscrowd must be 0 or 1"),
        ({"image_id": None}, "None is not an id"),
        ({"image_id": [1]}, r"\[1\] is not an id"),
        ({"id": True}, "True is not an id"),
        ({"category_id": 1.5}, "1.5 is not an id"),
        ({"bbox": [1, 2, None, 4]}, r"bbox\[2\] must be a number, not null"),
        ({"bbox": {"x": 1}}, "bbox must be a list, not a table"),
        ({"bbox": [1, 2, "wide", 4]}, r"bbox\[2\] must be a number, not text"),
        ({"bbox": [1, 2, 3]}, "length 4"),
    ],
)
def test_rows_that_have_no_meaning_are_named_without_words_of_python(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    found = two_images()
    found["annotations"][0] |= change
    with pytest.raises(InvalidDataset, match=message) as told:
        read(tmp_path, json.dumps(found))
    assert "correct the annotation" in told.value.hint


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_files_with_a_byte_order_mark_are_found_and_read(tmp_path: Path, encoding: str) -> None:
    found = two_images()
    found["categories"][0]["name"] = "\N{CAT}"
    assert read(tmp_path, json.dumps(found, ensure_ascii=False).encode(encoding)).categories[
        0
    ].name == ("\N{CAT}")
    (tmp_path / "labels.json").rename(tmp_path / "export 1.json")
    assert holds(tmp_path)


def test_a_file_in_a_legacy_code_page_is_refused_with_the_encoding(tmp_path: Path) -> None:
    text = json.dumps(two_images()).replace("cat", "caf\xe9").encode("cp1252")
    with pytest.raises(InvalidDataset, match=r"line 1: byte 0xe9 is not UTF-8"):
        read(tmp_path, text)


@pytest.mark.parametrize("cut", [0.3, 0.9])
def test_a_file_that_is_cut_off_is_to_be_copied_again(tmp_path: Path, cut: float) -> None:
    text = json.dumps(two_images())
    with pytest.raises(InvalidDataset, match="not a COCO annotation file") as told:
        read(tmp_path, text[: int(len(text) * cut)])
    assert "copy it again" in told.value.hint


def test_sizes_as_floats_are_whole_numbers_or_refused(tmp_path: Path) -> None:
    found = two_images()
    found["images"][0] |= {"width": 40.0, "height": "30"}
    assert read(tmp_path, json.dumps(found)).images[0].width == 40
    found["images"][0] |= {"width": 40.5}
    with pytest.raises(InvalidDataset, match=r"width must be a whole number, not 40\.5"):
        read(tmp_path, json.dumps(found))


@pytest.mark.parametrize("row", [1, None, {"id": {}}, {"id": [1]}, {"id": 9, "name": None}, []])
@pytest.mark.parametrize("section", ["images", "categories", "annotations"])
def test_rows_that_are_no_rows_are_left_out_where_others_are_kept(
    tmp_path: Path, row: Any, section: str
) -> None:
    found = two_images()
    found[section].append(row)
    (tmp_path / "labels.json").write_text(json.dumps(found))
    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 30)).save(tmp_path / name)
    issues: list[LabelIssue] = []
    read_set = read_coco(tmp_path, None, "val", on_issue=issues.append, details=True)
    assert [issue.kind for issue in issues] == ["labels-unreadable"]
    again = json.loads(encode(read_set))
    assert [len(again[name]) for name in ("images", "annotations", "categories")] == [2, 2, 2]


def test_areas_of_nothing_are_named(tmp_path: Path) -> None:
    found = two_images()
    found["annotations"][0]["area"] = 0
    assert read(tmp_path, json.dumps(found)).notes == (
        "objects of area 0, which count as small whatever their box is: 1",
    )


@pytest.mark.parametrize("side", [1e30, 2**31, 10**400, 1e308])
def test_a_size_beyond_any_image_is_refused(tmp_path: Path, side: float) -> None:
    labels = changed("images", 0, width=side, height=side)
    with pytest.raises(InvalidDataset, match=r"image 7: .*(width must|width is)"):
        read(tmp_path, json.dumps(labels))


@pytest.mark.parametrize(
    "box", [[1, 2, 1e200, 1e200], [1e308, 1e308, 1e308, 1e308], [-1e300, 0, 1, 1]]
)
def test_a_box_beyond_any_image_is_refused(tmp_path: Path, box: list[float]) -> None:
    with pytest.raises(InvalidDataset, match="larger than any image"):
        read(tmp_path, json.dumps(changed("annotations", 0, bbox=box)))


def test_a_text_without_an_end_is_read_over_once() -> None:
    """Each quotation mark in it was taken for a beginning: minutes for 400 KB."""
    assert len(coco_rows._NOT_A_NUMBER.findall(b'{"a": NaN, "' + b'\\"' * 1000)) == 3


def test_a_number_of_many_digits_does_not_end_a_conversion(tmp_path: Path) -> None:
    """Python reads no number of over 4,300 digits."""
    text = json.dumps(two_images(info={"year": 1})).replace('"year": 1', f'"year": {"1" * 5000}')
    found = read(tmp_path, text)
    assert found.details is not None
    assert found.details.file["info"] == {"year": "1" * 5000}


def test_boxes_that_cvat_turned_are_told(tmp_path: Path) -> None:
    found = two_images()
    first, second = found["annotations"]
    found["annotations"] = [
        first | {"attributes": {"rotation": 30.0}}, second | {"attributes": {"rotation": 0.0}},
        first | {"id": 3, "attributes": {"rotation": "north"}}, second | {"id": 4, "attributes": 1},
    ]  # fmt: skip
    (note,) = read(tmp_path, json.dumps(found)).notes
    assert note == "boxes that CVAT turned about their centre, read as they were before: 1"


@pytest.mark.parametrize("name", ["endless.json", "pipe.json", "folder.json"])
def test_an_annotation_file_that_is_none_is_refused_unread(tmp_path: Path, name: str) -> None:
    (tmp_path / "endless.json").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(InvalidDataset, match=f"{name} cannot be read: it is not a regular file"):
        read_coco(tmp_path, tmp_path / name, "val")
