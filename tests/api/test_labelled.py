"""Detections with names: selection, and the forms of other libraries."""

from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from seatrial.api.labelled import LabelledDetections
from seatrial.detect.detections import Detections
from seatrial.errors import InvalidInput, MissingExtra


@pytest.fixture
def found() -> LabelledDetections:
    return LabelledDetections(
        Detections(
            np.array([[10, 20, 40.123, 80], [0, 0, 5, 5], [1, 2, 3, 4]], np.float32),
            np.array([0.9, 0.5, 0.25], np.float32),
            np.array([1, 0, 7], np.int64),
        ),
        ("cat", "dog"),
        (100, 60),
    )


def test_arrays_and_labels(found: LabelledDetections) -> None:
    assert found.xyxy.shape == (3, 4)
    assert found.confidence.tolist() == pytest.approx([0.9, 0.5, 0.25])
    assert found.class_id.tolist() == [1, 0, 7]
    assert found.labels[:2] == ["dog", "cat"]
    assert "7" in found.labels[2]  # a class without a name keeps its number
    assert len(found) == 3
    assert repr(found[:2]) == "<2 detections: 1 dog, 1 cat>"
    assert repr(found[:0]) == "<0 detections>"


@pytest.mark.parametrize(
    ("index", "classes"),
    [
        (np.array([True, False, True]), [1, 7]),
        (np.array([2, 0]), [7, 1]),
        (slice(1, None), [0, 7]),
        (1, [0]),
        (-1, [7]),
    ],
)
def test_a_choice_keeps_names_and_size(
    found: LabelledDetections, index: Any, classes: list[int]
) -> None:
    chosen = found[index]
    assert chosen.class_id.tolist() == classes
    assert (chosen.names, chosen.size_hw) == (found.names, found.size_hw)


def test_to_coco(found: LabelledDetections) -> None:
    rows = found[:2].to_coco(image_id=7)
    assert rows[0] == {
        "image_id": 7, "category_id": 1, "bbox": [10.0, 20.0, 30.12, 60.0], "score": 0.9,
    }  # fmt: skip
    assert [row["category_id"] for row in found[:2].to_coco(category_ids=[17, 18])] == [18, 17]
    assert found[:0].to_coco() == []
    with pytest.raises(InvalidInput, match="1 numbers for 2 classes"):
        found.to_coco(category_ids=[17])


def test_a_comparison_of_the_labels_is_no_mask(found: LabelledDetections) -> None:
    with pytest.raises(TypeError, match="labels is a list"):
        found[found.labels == "cat"]  # type: ignore[comparison-overlap]
    assert found[np.array(found.labels) == "cat"].class_id.tolist() == [0]


def test_coco_rows_of_numpy_numbers_go_into_json(found: LabelledDetections) -> None:
    rows = found[:2].to_coco(np.int64(3), category_ids=np.array([17, 18]))  # type: ignore[arg-type]
    assert json.loads(json.dumps(rows)) == rows
    assert rows[0]["image_id"] == 3


def test_coco_reads_the_rows(found: LabelledDetections, capsys: pytest.CaptureFixture[str]) -> None:
    api = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    truth = api.COCO()
    truth.dataset = {
        "images": [{"id": 7, "width": 60, "height": 100}],
        "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
        "annotations": [],
    }
    truth.createIndex()
    read = truth.loadRes(found[:2].to_coco(image_id=7))
    assert [row["bbox"] for row in read.loadAnns([1])] == [[10.0, 20.0, 30.12, 60.0]]


def test_to_supervision_names_the_package_that_is_missing(
    found: LabelledDetections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="supervision is not installed"):
        found.to_supervision()


def test_to_supervision_gives_the_arrays(
    found: LabelledDetections, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "supervision" not in sys.modules:
        stand_in = ModuleType("supervision")
        stand_in.Detections = lambda **arrays: arrays  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "supervision", stand_in)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    given: Any = found.to_supervision()
    assert given["xyxy"] is found.xyxy
    assert given["confidence"] is found.confidence
    assert given["class_id"] is found.class_id
    assert given["tracker_id"] is None
    assert given["data"]["class_name"].tolist() == found.labels


def test_draw_leaves_the_image_as_it_is(found: LabelledDetections) -> None:
    image = np.full((100, 60, 3), 114, np.uint8)
    drawn = found.draw(image)
    assert (image == 114).all()
    assert drawn.shape == image.shape
    assert (drawn[80, 10:40] != 114).any()  # the lower edge of the first box
    assert not np.array_equal(drawn, found.draw(image, scores=False))
    with pytest.raises(InvalidInput, match="the image is 100 x 60, the detections are of one of"):
        found.draw(np.zeros((60, 100, 3), np.uint8))


def test_one_detection_is_one() -> None:
    one = Detections(np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, np.int64))
    assert repr(LabelledDetections(one, ("red",), (10, 10))) == "<1 detection: 1 red>"
