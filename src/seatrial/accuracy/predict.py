"""Detections of a labelled set, by a detector of this process or a service.

A detector in this process rounds its boxes as the service's JSON does, so that both give the same
figures.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from seatrial.accuracy.matching import Predictions
from seatrial.datasets.labels import LabelledImage, LabelledSet
from seatrial.deployment import Thresholds
from seatrial.detect.answer import ImageSize
from seatrial.detect.decode import as_served
from seatrial.detect.detections import Detections
from seatrial.detect.detector import MAX_PIXELS, Detector
from seatrial.errors import InvalidDataset, InvalidInput
from seatrial.progress import Progress, silent

# Ultralytics' rules for validation, by which published figures of its models were measured.
EVALUATION = Thresholds(confidence=0.001, iou=0.7, max_detections=300, multi_label=True)


@dataclass(frozen=True, slots=True)
class SeenImage:
    """Answer of a subject for one image.

    Attributes:
        size: Upright size of the image.
        detections: The boxes, rounded as a service answers (`Detections.rounded`).
        timing_ms: Stage -> milliseconds, where it was computed.
        warnings: What is odd about the image, which can be used all the same.
    """

    size: ImageSize
    detections: Detections
    timing_ms: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Subject(Protocol):
    """A detector that is measured."""

    labels: tuple[str, ...]
    concurrency: int  # images that it is worth asking for at a time

    def describe(self) -> dict[str, Any]:
        """Artifact, engine, device and precision, for the report."""

    def detect(self, data: bytes, rules: Thresholds) -> SeenImage:
        """Find objects in an encoded image. Thread-safe.

        Raises:
            InvalidInput: The data is no image.
            ServiceFailed: There was no answer.
        """


class InProcess:
    """A detector of this process.

    Args:
        detector: An open detector; the caller closes it.
    """

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.labels = detector.artifact.manifest.labels
        # One image is decoded while the lanes infer.
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

    def detect(self, data: bytes, rules: Thresholds) -> SeenImage:
        """See `Subject.detect`."""
        result = self._detector.detect(data, rules)
        height, width = result.image.shape[:2]
        return SeenImage(
            ImageSize(width, height),
            result.detections.rounded(),
            result.stages_ms,
            result.warnings,
        )


def predict(
    subject: Subject,
    dataset: LabelledSet,
    matched: NDArray[np.int64],
    rules: Thresholds = EVALUATION,
    on_progress: Progress = silent,
    on_warning: Callable[[str], object] = lambda warning: None,
) -> Predictions:
    """Detect in every image of a set. An image that fails ends it: none is left out.

    Args:
        subject: The detector.
        dataset: The images.
        matched: From `match_labels`; detections of class -1 are left out.
        rules: Thresholds.
        on_progress: Called after each image.
        on_warning: Called with what is odd about an image that can be used all the same.

    Raises:
        InvalidDataset: An image cannot be read or decoded, or has another size than its labels
            say.
        ServiceFailed: The service does not answer.
    """
    seen: dict[int, Detections] = {}
    with ThreadPoolExecutor(subject.concurrency, "seatrial-evaluate") as pool:
        waiting = {
            pool.submit(_detect, subject, image, rules): index
            for index, image in enumerate(dataset.images)
        }
        try:
            for future in as_completed(waiting):
                found = future.result()
                seen[waiting[future]] = found.detections
                for warning in found.warnings:
                    on_warning(warning)
                on_progress("detecting", len(seen), len(waiting))
        except BaseException:  # Ctrl-C too: the images that wait are not begun
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return Predictions.of([seen[index] for index in range(len(dataset.images))], matched)


def _detect(subject: Subject, image: LabelledImage, rules: Thresholds) -> SeenImage:
    try:
        data = image.path.read_bytes()
    except OSError as error:
        raise InvalidDataset(f"{image.path} cannot be read: {error.strerror}") from error
    try:
        seen = subject.detect(as_served(data, max_pixels=MAX_PIXELS), rules)
    except InvalidInput as error:
        raise InvalidDataset(
            f"{image.path}: {error.message}",
            hint="replace the image, or take it out of the labels: no image is left out of a "
            "figure",
        ) from error
    size = (seen.size.width, seen.size.height)
    if image.width is not None and image.height is not None:
        wanted = (image.width, image.height)
        if size != wanted:
            turned = "; turned by its EXIF tag?" if size[::-1] == wanted else ""
            raise InvalidDataset(
                f"{image.path} is {size[0]} x {size[1]}, and its labels were drawn on "
                f"{wanted[0]} x {wanted[1]}{turned}"
            )
    return seen
