"""Label Studio's files: tasks with predictions, and an interface that has their controls."""

from __future__ import annotations

import json
import urllib.parse
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from seatrial.datasets.label_studio import INTERFACE, TASKS, write
from seatrial.datasets.labels import Category, Details, LabelledImage, LabelledSet, Truth


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of three images: two boxes, one box, none."""
    extras = (
        {"score": 0.9, "origin": "detected", "track_id": 4},
        {"score": 0.4, "origin": "weak", "track_id": 5},
        {"score": 0.7, "origin": "detected"},
    )
    labelled = LabelledSet(
        "test",
        tuple(LabelledImage(n, f"{n}.jpg", Path(f"{n}.jpg"), 200, 100) for n in (1, 2, 3)),
        (Category(1, "red"), Category(2, 'a <b> & "c"')),
        Truth.of([0, 0, 1], [0, 1, 1], [[20, 10, 40, 30], [0, 0, 200, 100], [50, 50, 10, 5]]),
        details=Details(({}, {}, {}), extras, {}),
    )
    write(tmp_path, labelled, "teacher", "drafts")
    return tmp_path


def test_a_task_for_each_image_with_its_regions_in_percent(folder: Path) -> None:
    tasks = json.loads((folder / "label_studio.json").read_text())
    assert [task["data"]["image"] for task in tasks] == [
        f"/data/local-files/?d=drafts/images/{n}.jpg" for n in (1, 2, 3)
    ]
    predictions = [task["predictions"][0] for task in tasks]
    assert {one["model_version"] for one in predictions} == {"teacher"}
    assert [len(one["result"]) for one in predictions] == [2, 1, 0]
    assert predictions[0]["result"][0] == {
        "id": "draft-1-1",
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": 200,
        "original_height": 100,
        "image_rotation": 0,
        "score": 0.9,
        "meta": {"text": ["detected", "track 4"]},
        "value": {
            "rotation": 0, "x": 10, "y": 10, "width": 20, "height": 30, "rectanglelabels": ["red"],
        },
    }  # fmt: skip
    assert predictions[1]["result"][0]["meta"]["text"] == ["detected"]
    ids = [region["id"] for one in predictions for region in one["result"]]
    assert len(set(ids)) == len(ids)


def test_the_score_of_a_task_is_that_of_its_weakest_box(folder: Path) -> None:
    tasks = json.loads((folder / "label_studio.json").read_text())
    assert [task["predictions"][0]["score"] for task in tasks] == [0.4, 0.7, 0.0]


def test_the_interface_has_the_controls_that_regions_name(folder: Path) -> None:
    view = ET.parse(folder / "label_studio.xml").getroot()
    image, control = view.find("Image"), view.find("RectangleLabels")
    assert image is not None
    assert control is not None
    assert (image.get("name"), image.get("value")) == ("image", "$image")
    assert (control.get("name"), control.get("toName")) == ("label", "image")
    assert [label.get("value") for label in control] == ["red", 'a <b> & "c"']


def test_boxes_without_details_are_sure(tmp_path: Path) -> None:
    labelled = LabelledSet(
        "test",
        (LabelledImage(1, "1.jpg", Path("1.jpg"), 200, 100),),
        (Category(1, "red"),),
        Truth.of([0], [0], [[20, 10, 40, 30]]),
    )
    write(tmp_path, labelled, "teacher", "drafts")
    (task,) = json.loads((tmp_path / "label_studio.json").read_text())
    (region,) = task["predictions"][0]["result"]
    assert (region["score"], region["meta"]) == (1.0, {"text": []})


def test_a_name_with_characters_that_xml_does_not_have(tmp_path: Path) -> None:
    labelled = LabelledSet(
        "test",
        (LabelledImage(1, "1.jpg", Path("1.jpg"), 200, 100),),
        (Category(1, "\x1b[2J\nred"),),
        Truth.of([0], [0], [[20, 10, 40, 30]]),
    )
    write(tmp_path, labelled, "teacher", "drafts")
    (task,) = json.loads((tmp_path / TASKS).read_text())
    label = ET.parse(tmp_path / INTERFACE).getroot().find("RectangleLabels/Label")
    assert label is not None
    (name,) = task["predictions"][0]["result"][0]["value"]["rectanglelabels"]
    assert name == label.get("value")
    assert name.isprintable()


def test_names_in_addresses_are_quoted(tmp_path: Path) -> None:
    name = "c#2%20 (1)&x=é.jpg"
    labelled = LabelledSet(
        "test",
        (LabelledImage(1, name, tmp_path / name, 40, 30),),
        (Category(0, 'a "b" <c> & [d]'),),
        Truth.of([0], [0], [[1, 2, 3, 4]]),
    )
    write(tmp_path, labelled, "model", "my drafts")
    (task,) = json.loads((tmp_path / TASKS).read_text())
    address = urllib.parse.urlsplit(task["data"]["image"])
    assert urllib.parse.parse_qs(address.query) == {"d": [f"my drafts/images/{name}"]}
    assert not address.fragment
    interface = ET.fromstring((tmp_path / INTERFACE).read_text(encoding="utf-8"))
    assert [one.get("value") for one in interface.iter("Label")] == ['a "b" <c> & [d]']
