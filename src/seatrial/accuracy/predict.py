"""Detections of a labelled set, by whatever detects.

A detector in this process gives its boxes as the service's JSON has them, rounding included, so
that a figure is the same both ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.accuracy.matching import Predictions
from seatrial.datasets.labels import LabelledImage, LabelledSet
from seatrial.deployment import Thresholds
from seatrial.detect.answer import Box, ImageSize, boxes
from seatrial.detect.detector import Detector
from seatrial.errors import InvalidDataset, InvalidInput, ServiceFailed
from seatrial.progress import Progress, silent

# Ultralytics' rules for validation, by which published figures of its models were measured.
EVALUATION = Thresholds(confidence=0.001, iou=0.7, max_detections=300, multi_label=True)

"""Called with the images done and the images in all, from the thread that asked."""


class Seen(msgspec.Struct, frozen=True):
    """What was answered for one picture.

    Attributes:
        image: Its upright size.
        detections: The boxes.
        timing_ms: Stage -> milliseconds, where it was computed.
    """

    image: ImageSize
    detections: list[Box]
    timing_ms: dict[str, float] = {}


class Subject(Protocol):
    """What is measured."""

    labels: tuple[str, ...]
    concurrency: int  # pictures worth having under way at a time

    def describe(self) -> dict[str, Any]:
        """Artifact, engine, device and precision, for the report."""

    def detect(self, data: bytes, rules: Thresholds) -> Seen:
        """Find objects in an encoded picture. Thread-safe.

        Raises:
            InvalidInput: The picture is not one.
            ServiceFailed: There was no answer.
        """


class InProcess:
    """A detector of this process.

    Args:
        detector: Stays open; the caller closes it.
    """

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.labels = detector.artifact.manifest.labels
        # One picture is decoded while the lanes infer.
        self.concurrency = len(detector.engine.narrow) + 1

    def describe(self) -> dict[str, Any]:
        """See `Subject.describe`."""
        engine = self._detector.engine
        return {
            "name": self._detector.artifact.manifest.name,
            "digest": self._detector.artifact.digest,
            "engine": engine.name,
            "device": engine.device,
            "precision": engine.precision,
        }

    def detect(self, data: bytes, rules: Thresholds) -> Seen:
        """See `Subject.detect`."""
        result = self._detector.detect(data, rules)
        height, width = result.image.shape[:2]
        size = ImageSize(width, height)
        return Seen(size, boxes(result.detections, self.labels), result.stages_ms)


def predict(
    subject: Subject,
    dataset: LabelledSet,
    matched: NDArray[np.int64],
    rules: Thresholds = EVALUATION,
    on_progress: Progress = silent,
) -> Predictions:
    """Detect in every picture of a set. None is left out: a picture that fails ends it.

    Args:
        subject: What detects.
        dataset: The pictures.
        matched: From `match_labels`; detections of class -1 are dropped.
        rules: Thresholds.
        on_progress: Told after each picture.

    Raises:
        InvalidDataset: A picture cannot be read or decoded, or has not the size that its labels
            were drawn on.
        ServiceFailed: The service does not answer.
    """
    seen: list[Seen | None] = [None] * len(dataset.images)
    with ThreadPoolExecutor(subject.concurrency, "seatrial-evaluate") as pool:
        waiting = {
            pool.submit(_detect, subject, image, rules): index
            for index, image in enumerate(dataset.images)
        }
        try:
            for done, future in enumerate(as_completed(waiting), 1):
                seen[waiting[future]] = future.result()
                on_progress("detecting", done, len(seen))
        except BaseException:  # Ctrl-C too: the pictures that wait are not begun
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return table([one.detections for one in seen if one is not None], matched)


def table(found: Sequence[Sequence[Box]], matched: NDArray[np.int64]) -> Predictions:
    """Boxes of all pictures as arrays.

    Args:
        found: For each picture, in the set's order, its boxes.
        matched: From `match_labels`.

    Raises:
        ServiceFailed: A class number is not one of the labels.
    """
    rows = [box for one in found for box in one]
    xyxy = np.array([row.box for row in rows], np.float64).reshape(-1, 4)
    class_id = np.array([row.class_id for row in rows], np.int64)
    if len(rows) and not 0 <= class_id.min() <= class_id.max() < len(matched):
        raise ServiceFailed(f"a detection of class {class_id.max()}, of {len(matched)} labels")
    category = matched[class_id]
    everything = Predictions(
        image=np.repeat(np.arange(len(found)), [len(one) for one in found]).astype(np.int64),
        category=category,
        xywh=np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1),
        score=np.array([row.confidence for row in rows], np.float64),
    )
    return everything.take(np.flatnonzero(category >= 0))


def _detect(subject: Subject, image: LabelledImage, rules: Thresholds) -> Seen:
    try:
        data = image.path.read_bytes()
    except OSError as error:
        raise InvalidDataset(f"{image.path} cannot be read: {error.strerror}") from error
    try:
        seen = subject.detect(data, rules)
    except InvalidInput as error:
        raise InvalidDataset(
            f"{image.path}: {error.message}",
            hint="replace the picture, or take it out of the labels: a figure never drops one",
        ) from error
    size = (seen.image.width, seen.image.height)
    if image.width is not None and image.height is not None:
        wanted = (image.width, image.height)
        if size != wanted:
            turned = "; turned by its EXIF tag?" if size[::-1] == wanted else ""
            raise InvalidDataset(
                f"{image.path} is {size[0]} x {size[1]}, and its labels were drawn on "
                f"{wanted[0]} x {wanted[1]}{turned}"
            )
    return seen
