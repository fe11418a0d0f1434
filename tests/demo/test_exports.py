"""Files of detections, read back by what reads such files."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from seatrial.datasets import coco, yolo
from seatrial.demo.exports import EXPORTS, as_coco, as_json, as_yolo
from seatrial.demo.media import open_media
from seatrial.demo.workbench import Choice, View, Workbench
from seatrial.detect.answer import boxes


def xywh(view: View) -> list[list[float]]:
    rows = [box.box for shown in view.shown for box in boxes(shown, view.model.labels)]
    return [[left, top, right - left, bottom - top] for left, top, right, bottom in rows]


def test_json_says_what_was_found_by_whom_and_how(view: View) -> None:
    document = json.loads(as_json(view))
    assert EXPORTS["JSON"].name(view) == "some cells.json"
    assert document["file"] == "some cells.png"
    assert document["model"]["digest"] == view.model.facts["digest"]
    assert document["shown"] == {"confidence": 0.5, "iou": 0.7, "classes": []}
    (picture,) = document["pictures"]
    assert picture["image"] == {"width": 128, "height": 128}
    assert [box["label"] for box in picture["detections"]] == ["red", "red"]
    rows = msgspec.json.encode(boxes(view.shown[0], view.model.labels))
    assert picture["detections"] == json.loads(rows)
    assert picture["timing_ms"]["infer"] > 0


def test_coco_is_read_back_as_it_was_shown(view: View, tmp_path: Path) -> None:
    data = as_coco(view)
    assert EXPORTS["COCO"].name(view) == "some cells-coco.json"
    (tmp_path / "instances.json").write_bytes(data)
    labelled = coco.read(tmp_path, None, "val")
    assert [image.name for image in labelled.images] == ["some cells.png"]
    assert [category.name for category in labelled.categories] == ["red", "green", "blue"]
    np.testing.assert_allclose(labelled.truth.xywh, xywh(view))
    scores = [annotation["score"] for annotation in json.loads(data)["annotations"]]
    assert scores == [box.confidence for box in boxes(view.shown[0], view.model.labels)]


def test_a_yolo_archive_is_a_dataset_with_its_pictures(view: View, tmp_path: Path) -> None:
    data = as_yolo(view)
    assert EXPORTS["YOLO"].name(view) == "some cells-yolo.zip"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(tmp_path)
    labelled = yolo.read(tmp_path, None, "train")
    assert labelled.images[0].path.read_bytes() == view.media.frames[0].data
    np.testing.assert_allclose(labelled.truth.xywh, xywh(view), atol=1e-6)
    assert as_yolo(view) == data


def test_boxes_of_a_video_have_their_tracks(clip_view: View, view: View) -> None:
    pictures = json.loads(as_json(clip_view))["pictures"]
    assert [picture["tracks"] for picture in pictures] == [[1], [1], [1]]
    assert [a["track_id"] for a in json.loads(as_coco(clip_view))["annotations"]] == [1, 1, 1]
    assert "tracks" not in json.loads(as_json(view))["pictures"][0]
    assert "track_id" not in json.loads(as_coco(view))["annotations"][0]


def test_frames_of_a_video_are_pictures_of_a_dataset(clip_view: View, tmp_path: Path) -> None:
    document = json.loads(as_coco(clip_view))
    assert [image["file_name"] for image in document["images"]] == [
        f"walk-00000{n}.jpg" for n in range(3)
    ]
    assert [a["image_id"] for a in document["annotations"]] == [1, 2, 3]
    with zipfile.ZipFile(io.BytesIO(as_yolo(clip_view))) as archive:
        archive.extractall(tmp_path)
    assert len(yolo.read(tmp_path, None, "train").images) == 3
    assert json.loads(as_json(clip_view))["rate_hz"] == pytest.approx(10)


@pytest.mark.parametrize("kind", EXPORTS)
def test_nothing_found_is_a_file_too(
    workbench: Workbench, encode: Callable[..., bytes], picture: Callable[..., Any], kind: str
) -> None:
    view = workbench.view(open_media("grey.jpg", encode(picture({}))), Choice())
    data = EXPORTS[kind].make(view)
    if kind == "YOLO":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert archive.read("labels/train/grey.txt") == b""
    elif kind == "COCO":
        assert json.loads(data)["annotations"] == []
    else:
        assert json.loads(data)["pictures"][0]["detections"] == []
