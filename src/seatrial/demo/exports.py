"""The detections of a page as files: JSON, COCO, and a YOLO folder in a ZIP."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seatrial.config import encode_json
from seatrial.datasets import coco, yolo
from seatrial.datasets.labels import Category, Details, LabelledImage, LabelledSet, Truth
from seatrial.demo.workbench import View
from seatrial.detect.answer import boxes
from seatrial.detect.detections import BOX_DECIMALS, SCORE_DECIMALS, Detections

YOLO_SPLIT = "train"
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest in a ZIP: equal detections make equal files


def as_json(view: View) -> bytes:
    """The boxes as in the service's JSON, an entry for each frame, with model and settings."""
    document = {
        "file": view.media.name,
        "sha256": view.media.digest,
        "rate_hz": view.media.rate_hz,
        "model": view.model.facts,
        "shown": view.choice,
        "pictures": [
            {
                "name": frame.name,
                "image": answer.size,
                "detections": boxes(detections, view.model.labels),
                "timing_ms": answer.timing_ms,
                **_tracks(detections),
            }
            for frame, answer, detections in zip(
                view.media.frames, view.answers, view.shown, strict=True
            )
        ],
    }
    return encode_json(document)


def _tracks(detections: Detections) -> dict[str, list[int]]:
    """Key of a frame's tracks, in the order of its detections; nothing for an image."""
    return {} if detections.track_id is None else {"tracks": detections.track_id.tolist()}


def as_coco(view: View) -> bytes:
    """A COCO annotation file; each annotation has a ``score``, in a video a ``track_id`` too."""
    facts = {key: view.model.facts[key] for key in ("name", "digest")}
    return coco.encode(_labelled(view), {"description": "detections, not checked", **facts})


def as_yolo(view: View) -> bytes:
    """A ZIP of a YOLO folder with the frames in it, to correct and to train with."""
    labelled = _labelled(view)
    files: dict[str, bytes] = {
        "data.yaml": yolo.config_text(labelled.categories, [YOLO_SPLIT]).encode()
    }
    for frame, text in zip(view.media.frames, yolo.label_texts(labelled), strict=True):
        files[f"images/{YOLO_SPLIT}/{frame.name}"] = frame.data
        files[f"labels/{YOLO_SPLIT}/{Path(frame.name).stem}.txt"] = text.encode()
    buffer = io.BytesIO()
    # Stored, not deflated: images are compressed already.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, ZIP_TIME), data)
    return buffer.getvalue()


class ExportedFile(NamedTuple):
    """A kind of file: the end of its name, and the function that makes it."""

    suffix: str
    make: Callable[[View], bytes]

    def name(self, view: View) -> str:
        """Name of the file."""
        return f"{view.media.stem}{self.suffix}"


EXPORTS = {
    "JSON": ExportedFile(".json", as_json),
    "COCO": ExportedFile("-coco.json", as_coco),
    "YOLO": ExportedFile("-yolo.zip", as_yolo),
}


def _labelled(view: View) -> LabelledSet:
    """The detections that are shown as a labelled set."""
    counts = [len(detections) for detections in view.shown]
    xyxy = np.concatenate([one.xyxy for one in view.shown]).astype(np.float64).round(BOX_DECIMALS)
    score = np.concatenate([one.score for one in view.shown]).astype(np.float64)
    tracks: list[int | None] = [
        track
        for one in view.shown
        for track in (one.track_id.tolist() if one.track_id is not None else [None] * len(one))
    ]
    return LabelledSet(
        source=view.media.name,
        images=tuple(
            LabelledImage(number, frame.name, Path(frame.name), one.size.width, one.size.height)
            for number, (frame, one) in enumerate(
                zip(view.media.frames, view.answers, strict=True), 1
            )
        ),
        categories=tuple(Category(number, name) for number, name in enumerate(view.model.labels)),
        truth=Truth.of(
            image=np.repeat(np.arange(len(counts)), counts),
            category=np.concatenate([one.class_id for one in view.shown]),
            xywh=np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1),
        ),
        details=Details(
            images=tuple({} for _ in counts),
            objects=tuple(
                {"score": value} | ({} if track is None else {"track_id": track})
                for value, track in zip(score.round(SCORE_DECIMALS).tolist(), tracks, strict=True)
            ),
            file={},
        ),
    )
