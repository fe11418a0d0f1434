"""Folders that hold no known format say what they seem to hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from seatrial.datasets.splits import kinds_of
from seatrial.errors import InvalidDataset


def fill(home: Path, name: str, text: str = "") -> None:
    (home / name).parent.mkdir(parents=True, exist_ok=True)
    if name.endswith((".jpg", ".png")):
        Image.new("RGB", (8, 6)).save(home / name)
    else:
        (home / name).write_text(text)


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("annotations.xml", "<?xml version='1.0'?>\n<annotations><version>1.1", "CVAT for images"),
        ("a.json", '{"version": "5", "shapes": [], "imagePath": "a.jpg"}', "LabelMe"),
        ("via_project.json", '{"_via_img_metadata": {}}', "VIA"),
        ("x.json", '[{"id": 1, "annotations": [{"result": []}]}]', "tasks of Label Studio"),
        ("y.json", '[{"image": "a.jpg", "annotations": [{"label": "x", "coordinates": {}}]}]',
         "Create ML"),
        ("train/_annotations.csv", "filename,width,height,class,xmin,ymin,xmax,ymax\n", "CSV"),
        ("a.tfrecord", "", "TFRecords"),
        ("samples.json", '{"samples": [{"filepath": "a.jpg"}]}', "FiftyOne"),
        ("out.json", '[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]',
         "detections in COCO's format"),
        ("data.ndjson", '{"type": "dataset", "task": "detect"}', "Ultralytics' NDJSON"),
        ("metadata.jsonl", '{"file_name": "a.jpg", "objects": {"bbox": []}}', "JSON lines"),
    ],
)  # fmt: skip
def test_labels_of_other_tools_are_named(tmp_path: Path, name: str, text: str, what: str) -> None:
    fill(tmp_path, "a.jpg")
    fill(tmp_path, name, text)
    with pytest.raises(InvalidDataset, match=f"{Path(name).name} has .*{what}") as told:
        kinds_of(tmp_path)
    assert "export as" in told.value.hint or "--annotations" in told.value.hint


@pytest.mark.parametrize(
    ("names", "what", "hint"),
    [
        (["train/cat/a.jpg", "train/dog/b.jpg", "val/cat/c.jpg"], "for each class", "draw boxes"),
        (["cat/a.jpg", "dog/b.jpg"], "perhaps one for each class", "seatrial data label"),
        (["a.jpg"], "images without labels", "seatrial data label"),
        (["readme.md"], "no XML files of Pascal VOC$", "--annotations"),
    ],
)
def test_folders_without_boxes_are_named(
    tmp_path: Path, names: list[str], what: str, hint: str
) -> None:
    for name in names:
        fill(tmp_path, name)
    with pytest.raises(InvalidDataset, match=what) as told:
        kinds_of(tmp_path)
    assert hint in told.value.hint


def test_a_folder_too_high_names_the_one_below(tmp_path: Path) -> None:
    fill(tmp_path, "set/data.yaml", "names: [cat]\n")
    with pytest.raises(InvalidDataset) as told:
        kinds_of(tmp_path)
    assert str(tmp_path / "set") in told.value.hint


@pytest.mark.parametrize(
    "row", ['{"image": "a.jpg", "annotations": []}, ', '{"image_id": 1, "category_id": 1}, ']
)
def test_a_long_file_without_the_last_sign_is_searched_once(tmp_path: Path, row: str) -> None:
    """Each pair of two signs was tried: minutes for the 64 KB that are looked at."""
    fill(tmp_path, "x.json", "[" + row * 2000 + "{}]")
    with pytest.raises(InvalidDataset, match=r"no XML files of Pascal VOC$"):
        kinds_of(tmp_path)


@pytest.mark.parametrize(
    ("name", "data", "fault"),
    [
        ("a.xml", b"<annotation>", r"a\.xml, line 1: is not XML: no element found"),
        ("labels/a.xml", b"", r"a\.xml, line 1: is empty"),
        ("train.json", b'{"images": [', r"train\.json is not JSON"),
        ("train.json", b'{"images": ["caf\xe9"]}', r"train\.json, line 1: byte 0xe9 is not UTF-8"),
        ("my.yaml", b"names: [c\0t]", r"my\.yaml, line 1: a NUL character"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, data: bytes, fault: str
) -> None:
    fill(tmp_path, name)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidDataset, match=fault) as told:
        kinds_of(tmp_path)
    assert told.value.hint
