"""Rows of YOLO's label files: boxes, outlines, key points, and what is none of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seatrial.datasets import yolo
from seatrial.datasets.issues import LabelIssue
from seatrial.datasets.labels import LabelledSet
from seatrial.datasets.read import read_labelled
from seatrial.datasets.yolo_rows import ambiguous, read_rows
from seatrial.errors import InvalidDataset

BOX = "0.5 0.5 0.6 0.6"
XY = f"1 {BOX} 0.45 0.42 0.46 0.43 0.47 0.44 0.48 0.45"
XYV = f"1 {BOX} 0.45 0.42 1 0.46 0.43 2 0.47 0.44 1 0 0 0"
OBB = "0 0.1 0.2 0.4 0.2 0.4 0.8 0.1 0.8"
OUTLINE = "0 0.1 0.2 0.4 0.3 0.2 0.8"


def folder(home: Path, text: str | bytes, config: str = "") -> Path:
    for name in ("images", "labels"):
        (home / name).mkdir(exist_ok=True)
    Image.new("RGB", (100, 50)).save(home / "images" / "a.png")
    data = text if isinstance(text, bytes) else text.encode()
    (home / "labels" / "a.txt").write_bytes(data)
    (home / "data.yaml").write_text(f"val: images\nnames: [cat, dog]\n{config}")
    return home


def read(home: Path) -> LabelledSet:
    return yolo.read(home, None, "val", details=True)


@pytest.mark.parametrize(
    ("row", "shape", "visible"),
    [(XY, "[4, 2]", 4), (XYV, "[4, 3]", 3), (f"1 {BOX} 0.45 0.42 1", "[1, 3]", 1)],
)
def test_key_points_are_no_outline(tmp_path: Path, row: str, shape: str, visible: int) -> None:
    found = read(folder(tmp_path, f"{row}\n1 {BOX}\n", f"kpt_shape: {shape}\n"))
    assert np.allclose(found.truth.xywh, [[20, 10, 60, 30]])  # once: the same box
    assert found.details is not None
    (extra,) = found.details.objects
    assert extra["num_keypoints"] == visible
    assert extra["keypoints"][:2] == [45, 21]


def test_a_key_point_on_the_border_has_a_label_and_one_at_the_corner_none(tmp_path: Path) -> None:
    row = f"1 {BOX} 0 0.5 0.25 0 0 0"
    found = read(folder(tmp_path, row, "kpt_shape: [3, 2]\n"))
    assert found.details is not None
    assert found.details.objects == (
        {"keypoints": [0, 25, 2, 25, 0, 2, 0, 0, 0], "num_keypoints": 2},
    )


def test_a_key_point_that_is_not_visible_has_no_place(tmp_path: Path) -> None:
    found = read(folder(tmp_path, f"1 {BOX} 0.5 0.5 0 0.4 0.5 1", "kpt_shape: [2, 3]\n"))
    assert found.details is not None
    assert found.details.objects == ({"keypoints": [0, 0, 0, 40, 25, 1], "num_keypoints": 1},)


def test_rows_that_can_be_both_are_asked_for(tmp_path: Path) -> None:
    home = folder(tmp_path, XY)
    with pytest.raises(InvalidDataset, match="as outlines, and as boxes with key points") as told:
        read(home)
    assert "kpt_shape: [4, 2]" in told.value.hint
    assert "task: segment" in told.value.hint
    (home / "data.yaml").write_text("val: images\nnames: [cat, dog]\ntask: segment\n")
    assert len(read(home).truth) == 1


@pytest.mark.parametrize("row", [OBB, OUTLINE, f"{OUTLINE}\n{OBB}", f"{XY}\n{OUTLINE}"])
def test_outlines_and_oriented_boxes_are_the_boxes_around_them(tmp_path: Path, row: str) -> None:
    found = read_labelled(f"yolo:{folder(tmp_path, row)}")
    assert np.allclose(found.truth.xywh[-1], [10, 10, 30, 30])


@pytest.mark.parametrize(
    ("row", "config", "message", "remedy"),
    [
        (f"0 {BOX} 0.9", "", "6 values", "confidence of a prediction"),
        (f"0 {BOX} 0.5 0.5 2", "", "8 values", "kpt_shape: [1, 3]"),
        (XYV, "", "17 values read as a box with key points", "kpt_shape: [4, 3]"),
        (XY, "kpt_shape: [3, 3]", r"13 values; kpt_shape: \[3, 3\] makes 14", "kpt_shape"),
        (f"1 {BOX} nan 0.4", "kpt_shape: [1, 2]", "key point has no place", "correct the line"),
        ("0 320 240 64 48", "", "not fractions", "divide x and width"),
        ("10 10 50 10 50 40 10 40 plane 0", "", "'plane' is not a number", "names of classes"),
        ("cat 0.5 0.5 0.1 0.1", "", "'cat' is not a number", "names of classes"),
        ("0,0.5,0.5,0.1,0.1", "", "is not a number", "rows are numbers"),
        (b"0 0.5 0.5 0.1 0.1 # \xe9", "", "byte 0xe9 is not UTF-8", "iconv"),
        (b"\x89PNG\r\n\x1a\n\0\0", "", "is not a text file", "UTF-8"),
    ],
)  # fmt: skip
def test_every_cause_has_its_remedy(
    tmp_path: Path, row: str | bytes, config: str, message: str, remedy: str
) -> None:
    with pytest.raises(InvalidDataset, match=message) as told:
        read(folder(tmp_path, row, config))
    assert remedy in told.value.hint
    assert "export" not in told.value.hint


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_rows_of_any_editor_are_read(tmp_path: Path, encoding: str, end: str) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(f"0\t0.5 0.5  0.2 0.3  {end}1 0.25 0.4 0.1 0.2{end}{end}".encode(encoding))
    issues: list[LabelIssue] = []
    rows = list(read_rows(file, 2, None, issues.append))
    assert [(row.line, row.values[0]) for row in rows] == [(1, 0), (2, 1)]
    assert issues == []


def test_outlines_of_different_lengths_are_outlines() -> None:
    assert ambiguous([[0, 0.5, 0.5, 0.6, 0.6, 0.5, 0.4], [0, 0.1, 0.1, 0.2, 0.2]]) == "[1, 2]"
    assert not ambiguous([[0, 0.5, 0.5, 0.6, 0.6, 0.5, 0.4], [0, *[0.5] * 8]])
    assert not ambiguous([[0, 0.1, 0.1, 0.2, 0.2]])
    assert not ambiguous([])


@pytest.mark.parametrize("what", ["is a folder", "is a link to a file that is not there"])
def test_what_lies_in_place_of_a_label_file_is_named(tmp_path: Path, what: str) -> None:
    """An image without a label file is background; this one had labels."""
    file = tmp_path / "a.txt"
    if what == "is a folder":
        file.mkdir()
    else:
        file.symlink_to(tmp_path / "gone.txt")
    issues: list[LabelIssue] = []
    assert list(read_rows(file, 1, None, issues.append)) == []
    assert [(issue.kind, issue.message) for issue in issues] == [("labels-unreadable", what)]
