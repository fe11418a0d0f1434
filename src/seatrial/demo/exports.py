"""What a page shows, as files for programs: JSON, COCO, and a YOLO folder in a ZIP."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from seatrial.datasets import coco, yolo
from seatrial.datasets.labels import Category, LabelledImage, LabelledSet, Truth
from seatrial.demo.workbench import View

YOLO_SPLIT = "train"
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the first that ZIP knows: equal detections make equal files


def as_json(view: View) -> bytes:
    """Boxes as the service's JSON has them, a row of pictures, with what they were made with."""
    document = {
        "file": view.media.name,
        "sha256": view.media.digest,
        "rate_hz": view.media.rate_hz,
        "model": view.model.facts,
        "shown": view.choice,
        "pictures": [
            {"name": frame.name, **msgspec.to_builtins(seen)}
            for frame, seen in zip(view.media.frames, view.seen, strict=True)
        ],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def as_coco(view: View) -> bytes:
    """A COCO annotation file; each annotation has its ``score``, as COCO's results have it."""
    facts = {key: view.model.facts[key] for key in ("name", "digest")}
    labels = coco.encode(_labelled(view), {"description": "detections, not checked", **facts})
    document = msgspec.json.decode(labels)
    boxes = [box for seen in view.seen for box in seen.detections]
    for annotation, box in zip(document["annotations"], boxes, strict=True):
        annotation["score"] = box.confidence
    return msgspec.json.encode(document) + b"\n"


def as_yolo(view: View) -> bytes:
    """A YOLO folder with the pictures in it, to correct and to train with."""
    labelled = _labelled(view)
    files: dict[str, bytes] = {
        "data.yaml": yolo.config_text(labelled.categories, [YOLO_SPLIT]).encode()
    }
    for frame, text in zip(view.media.frames, yolo.label_texts(labelled), strict=True):
        files[f"images/{YOLO_SPLIT}/{frame.name}"] = frame.data
        files[f"labels/{YOLO_SPLIT}/{Path(frame.name).stem}.txt"] = text.encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # pictures are dense already
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, ZIP_TIME), data)
    return buffer.getvalue()


class Export(NamedTuple):
    """A kind of file: how its name ends, and what writes it."""

    suffix: str
    make: Callable[[View], bytes]

    def name(self, view: View) -> str:
        """What the file is called."""
        return f"{view.media.stem}{self.suffix}"


EXPORTS = {
    "JSON": Export(".json", as_json),
    "COCO": Export("-coco.json", as_coco),
    "YOLO": Export("-yolo.zip", as_yolo),
}


def _labelled(view: View) -> LabelledSet:
    """Detections as if they were labels."""
    rows = [(index, box) for index, seen in enumerate(view.seen) for box in seen.detections]
    xyxy = np.array([box.box for _, box in rows], np.float64).reshape(-1, 4)
    return LabelledSet(
        source=view.media.name,
        images=tuple(
            LabelledImage(number, frame.name, Path(frame.name), seen.image.width, seen.image.height)
            for number, (frame, seen) in enumerate(
                zip(view.media.frames, view.seen, strict=True), 1
            )
        ),
        categories=tuple(Category(number, name) for number, name in enumerate(view.model.labels)),
        truth=Truth.of(
            image=[index for index, _ in rows],
            category=[box.class_id for _, box in rows],
            xywh=np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1),
        ),
    )
