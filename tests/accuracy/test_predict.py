"""Detecting in every image of a set: one that cannot count ends it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seatrial.accuracy.evaluate import evaluate
from seatrial.accuracy.predict import InProcess, predict
from seatrial.accuracy.service import RemoteDetector
from seatrial.datasets.labels import match_labels
from seatrial.datasets.read import read_labelled
from seatrial.detect.decode import EXTRANEOUS
from seatrial.detect.detector import Detector
from seatrial.errors import InvalidDataset


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("1.png", lambda data: data[:60], r"1\.png: the PNG is damaged"),
        ("1.png", lambda data: b"", r"1\.png: the image is empty"),
        ("2.png", lambda data: b"GIF89a no", r"2\.png: the image header is damaged|2\.png: .*GIF"),
    ],
)
@pytest.mark.parametrize("served", [False, True])
def test_broken_picture_ends_the_measurement_with_its_name(
    request: pytest.FixtureRequest,
    scenes: Path,
    name: str,
    change: Callable[[bytes], bytes],
    message: str,
    *,
    served: bool,
) -> None:
    dataset = read_labelled(f"coco:{scenes}")  # before: headers are read there already
    (scenes / name).write_bytes(change((scenes / name).read_bytes()))
    with contextlib.ExitStack() as stack:
        if served:
            url = request.getfixturevalue("service").url
            subject: Any = stack.enter_context(contextlib.closing(RemoteDetector(url)))
        else:
            subject = InProcess(request.getfixturevalue("detector"))
        with pytest.raises(InvalidDataset, match=message) as caught:
            evaluate(subject, dataset)
    assert "no image is left out" in caught.value.hint


def test_detections_of_all_images_come_in_the_order_of_the_set(
    detector: Detector, scenes: Path
) -> None:
    dataset = read_labelled(f"coco:{scenes}")
    subject, told = InProcess(detector), []
    found = predict(
        subject, dataset, match_labels(subject.labels, dataset),
        on_progress=lambda *said, **_: told.append(said),
    )  # fmt: skip
    seen, labelled = (
        sorted(np.column_stack([one.image, one.category, one.xywh]).tolist())
        for one in (found, dataset.truth)
    )
    assert seen == labelled
    assert told == [("detecting", done, 4) for done in (1, 2, 3, 4)]


def test_a_picture_on_its_side_has_the_size_of_its_labels_the_other_way_round(
    detector: Detector, scenes: Path, picture: Callable[..., Any]
) -> None:
    file = scenes / "instances.json"
    labels = json.loads(file.read_text())
    labels["images"][1].update(width=64, height=96)
    file.write_text(json.dumps(labels))
    for size, turned in (((96, 64), True), ((64, 64), False), ((96, 96), False)):
        picture({(4, 2): "red"}).resize(size).save(scenes / "1.png")
        with pytest.raises(InvalidDataset, match=r"1\.png is .*, labelled as 64 x 96") as caught:
            evaluate(InProcess(detector), read_labelled(f"coco:{scenes}"))
        assert caught.value.message.endswith("turned by its EXIF orientation") == turned


def test_picture_of_another_size_than_its_labels_is_an_error(
    detector: Detector, scenes: Path, picture: Callable[..., Any]
) -> None:
    dataset = read_labelled(f"coco:{scenes}")  # the image changes afterwards
    picture({(4, 2): "red"}).resize((64, 96)).save(scenes / "1.png")
    with pytest.raises(InvalidDataset, match=r"1.png is 64 x 96, and its labels .* 128 x 128$"):
        evaluate(InProcess(detector), dataset)


def test_images_of_other_formats_and_odd_ones_count(detector: Detector, scenes: Path) -> None:
    dataset = read_labelled(f"coco:{scenes}")
    plain = evaluate(InProcess(detector), dataset).report
    assert plain.notes == ()
    with Image.open(scenes / "0.png") as picture:
        picture.load()
    picture.save(scenes / "0.png", "BMP")
    with Image.open(scenes / "1.png") as picture:
        picture.save(scenes / "1.jpg", quality=99)
    data = (scenes / "1.jpg").read_bytes()
    (scenes / "1.png").write_bytes(data[:-2] + bytes(20) + data[-2:])
    found = evaluate(InProcess(detector), read_labelled(f"coco:{scenes}")).report
    assert found.notes == (f"1 image: each {EXTRANEOUS}",)
    assert found.scores.figures.ap50 == plain.scores.figures.ap50


def test_interruption_leaves_the_waiting_images_alone(detector: Detector, scenes: Path) -> None:
    file = scenes / "instances.json"
    labels = json.loads(file.read_text())
    labels["images"] += [{"id": 100 + n, "file_name": f"{n}-.png"} for n in range(500)]
    for row in labels["images"][-500:]:
        (scenes / row["file_name"]).symlink_to(scenes / "0.png")
    file.write_text(json.dumps(labels))
    begun = []
    subject = InProcess(detector)
    detect = subject.detect
    subject.detect = lambda *given: begun.append(1) or detect(*given)  # type: ignore[method-assign,func-returns-value]

    def interrupt(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(subject, read_labelled(f"coco:{scenes}"), on_progress=interrupt)
    assert len(begun) < 250
