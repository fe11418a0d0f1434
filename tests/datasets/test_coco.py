"""COCO's JSON: what is read, and every way in which it cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coco_labels import changed, coco
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
    write_coco: Callable[..., Path], labels: Any, message: str
) -> None:
    folder = write_coco(labels)
    with pytest.raises(InvalidDataset, match=message):
        read_labelled(f"coco:{folder}", folder / "instances.json")


def test_missing_annotation_file_is_named(write_coco: Callable[..., Path]) -> None:
    folder = write_coco()
    with pytest.raises(InvalidDataset, match=r"elsewhere\.json cannot be read: No such file"):
        read_labelled(f"coco:{folder}", folder / "elsewhere.json")
