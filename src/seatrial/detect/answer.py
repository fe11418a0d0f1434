"""The answer to a request: boxes as rows, the form that they have on the wire only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from seatrial.detect.detections import BOX_DECIMALS, SCORE_DECIMALS, Detections, label_of
from seatrial.detect.detector import Detected


class Box(msgspec.Struct, frozen=True):
    """One detection: left, top, right, bottom in source pixels; confidence 0-1."""

    box: tuple[float, float, float, float]
    confidence: float
    class_id: int
    label: str


class ImageSize(msgspec.Struct, frozen=True):
    """Size of the upright source image, pixels."""

    width: int
    height: int


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The JSON of ``POST /detect``.

    Attributes:
        timing_ms: Stage -> milliseconds on the server; ``queue`` is the wait for a lane,
            ``total`` runs from the arrival of the request's headers to the encoding of the answer.
        lane_threads: Number of threads that computed the inference.
        warnings: What is odd about the image, which can be used all the same; not there where
            nothing is.
    """

    image: ImageSize
    detections: list[Box]
    timing_ms: dict[str, float]
    lane_threads: int
    warnings: tuple[str, ...] = ()


def boxes(detections: Detections, labels: Sequence[str]) -> list[Box]:
    """Detections as rows, rounded as `Detections.rounded` rounds them."""
    return [
        Box((x1, y1, x2, y2), score, class_id, label_of(class_id, labels))
        for (x1, y1, x2, y2), score, class_id in zip(
            detections.xyxy.astype(np.float64).round(BOX_DECIMALS).tolist(),
            detections.score.astype(np.float64).round(SCORE_DECIMALS).tolist(),
            detections.class_id.tolist(),
            strict=True,
        )
    ]


def answer(result: Detected, labels: Sequence[str], timing_ms: Mapping[str, float]) -> Answer:
    """The answer to one request."""
    height, width = result.image.shape[:2]
    return Answer(
        ImageSize(width, height),
        boxes(result.detections, labels),
        {stage: round(value, 3) for stage, value in timing_ms.items()},
        result.lane_threads,
        result.warnings,
    )
