"""Names of any characters through COCO, YOLO and Pascal VOC."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from any_text import text
from seatrial.datasets import voc
from seatrial.datasets.check import check
from seatrial.datasets.convert import convert
from seatrial.datasets.splits import read_dataset
from seatrial.errors import InvalidDataset

WORDS = (
    "no", "yes", "null", "~", "true", "1", "007", "1.5", "0x1F", "2021-06-01", "1:30", ".inf",
    "type: A", "#1 bolt", "box # 2", "'", '"', 'it\'s "x"', "background", "car [back]", "[/]",
    " cat", "cat ", "\tcat", "- a", "? b", "a: ", "{a: b}", "&a", "*a", "!a", "%a", "@a", "`a",
    "a:1,2,3::", "a:::", "<a>", "&amp;", "]]>", "\N{CAT}", "caf\xe9", "cafe\u0301", "\ufeffcat",
    "a\u2028b", "a\x85b", "\xa0cat", "a\\b", "a\\nb", "\ud7ff\ue000", "__init__", "names:",
)  # fmt: skip
CLASSES = st.lists(st.sampled_from(WORDS) | text(min_size=1, max_size=8), min_size=1, max_size=4,
                   unique=True)  # fmt: skip
SIZE = (40, 30)
BOX = [3.25, 4.5, 20.125, 10.0]


def write_coco(folder: Path, classes: Sequence[str], files: Sequence[str]) -> Path:
    """An image for each file, each with an object of each class."""
    (folder / "images").mkdir(parents=True)
    for number, file in enumerate(files):
        Image.new("RGB", SIZE, (40 * number, 0, 0)).save(folder / "images" / file, "PNG")
    (folder / "instances.json").write_text(json.dumps({
        "images": [{"id": n, "file_name": file, "width": SIZE[0], "height": SIZE[1]}
                   for n, file in enumerate(files, 1)],
        "annotations": [{"image_id": n, "category_id": c, "bbox": BOX}
                        for n in range(1, len(files) + 1) for c in range(1, len(classes) + 1)],
        "categories": [{"id": c, "name": name} for c, name in enumerate(classes, 1)],
    }, ensure_ascii=False), encoding="utf-8")  # fmt: skip
    return folder


def contents(folder: Path) -> set[tuple[bytes, str, tuple[float, ...]]]:
    """Bytes of the image, class and box of every object."""
    return {
        (
            found.images[image].path.read_bytes(),
            found.categories[category].name,
            tuple(np.round(box, 6)),
        )
        for found in read_dataset(folder).sets.values()
        for image, category, box in zip(
            found.truth.image, found.truth.category, found.truth.xywh, strict=True
        )
    }


def errors(folder: Path) -> list[str]:
    return [issue.message for issue in check(folder).issues if issue.severity == "error"]


@settings(max_examples=25, deadline=None)
@given(CLASSES)
@example(list(WORDS))
@example([" ", "\x07"])
def test_names_of_classes_come_back(classes: list[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        wanted = contents(write_coco(home / "coco", classes, ["a.png"]))
        convert(home / "coco", home / "yolo", "yolo")
        assert contents(home / "yolo") == wanted
        if any(not name.strip() or voc._NO_NAME.search(name) for name in classes):
            with pytest.raises(InvalidDataset, match="the class name"):
                convert(home / "yolo", home / "voc", "voc")
            return
        convert(home / "yolo", home / "voc", "voc")
        assert contents(home / "voc") == wanted
        assert errors(home / "voc") == []
        convert(home / "voc", home / "back", "coco")
        assert contents(home / "back") == wanted


FILES = text(min_size=1, max_size=12).filter(
    lambda name: not {"/", "\0", "\\"} & set(name) and not name.startswith(".") and name.strip()
)


@settings(max_examples=25, deadline=None)
@given(st.lists(FILES, min_size=2, max_size=3, unique_by=str.casefold))
@example(["WhatsApp Image 2021-06-01 at 10.00.00", "b (1)", "c#2%20"])
@example([" a", "a ", "a 1"])
@example(["a: b", "a.b", "-1"])
def test_names_of_files_come_back(stems: list[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        source = write_coco(home / "coco", ["cat"], [f"{stem}.png" for stem in stems])
        (source / "annotations").mkdir()
        (source / "instances.json").rename(source / "annotations" / "instances_train.json")
        wanted = contents(source)
        convert(source, home / "yolo", "yolo")
        assert contents(home / "yolo") == wanted
        assert errors(home / "yolo") == []
        if any(voc._NO_NAME.search(stem) for stem in stems):
            with pytest.raises(InvalidDataset, match="the file name"):
                convert(home / "yolo", home / "voc", "voc")
            return
        convert(home / "yolo", home / "voc", "voc")
        assert errors(home / "voc") == []
        assert contents(home / "voc") == wanted
        convert(home / "voc", home / "back", "coco")
        assert contents(home / "back") == wanted
