"""The JSON answer to a request."""

from __future__ import annotations

import json

import msgspec
import numpy as np

from seatrial.detect.answer import answer, boxes
from seatrial.detect.detections import Detections
from seatrial.detect.detector import Detected

LABELS = ("person", "Fußgänger")


def found(*rows: tuple[tuple[float, ...], float, int]) -> Detections:
    return Detections(
        np.array([box for box, _, _ in rows], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in rows], np.float32),
        np.array([class_id for _, _, class_id in rows], np.int64),
    )


def test_the_json_has_the_documented_shape() -> None:
    detections = found(((1.239, 2, 30.5, 40), 0.9123456, 0), ((0, 0, 5, 5), 0.5, 1))
    result = Detected(np.zeros((60, 80, 3), np.uint8), detections, {"infer": 1.0}, 2)
    got = json.loads(msgspec.json.encode(answer(result, LABELS, {"infer": 1.23456, "total": 2.0})))
    assert got == {
        "image": {"width": 80, "height": 60},
        "detections": [
            {
                "box": [1.24, 2.0, 30.5, 40.0],
                "confidence": 0.91235,
                "class_id": 0,
                "label": "person",
            },
            {"box": [0.0, 0.0, 5.0, 5.0], "confidence": 0.5, "class_id": 1, "label": "Fußgänger"},
        ],
        "timing_ms": {"infer": 1.235, "total": 2.0},
        "lane_threads": 2,
    }


def test_a_class_without_a_name_is_answered_by_its_number() -> None:
    (row,) = boxes(found(((0, 0, 5, 5), 0.5, 7)), LABELS)
    assert (row.class_id, row.label) == (7, "7")


def test_rows_are_rounded_as_detections_are() -> None:
    """What crossed the wire equals what a detector in this process answers, rounded."""
    seen = found(((1 / 3, 2 / 3, 100 / 7, 1e4 / 3), 2 / 3, 0), ((0.005, 0.015, 7, 8), 1e-6, 1))
    rows = boxes(seen, LABELS)
    assert rows[0].box == (0.33, 0.67, 14.29, 3333.33)
    again = found(*((row.box, row.confidence, row.class_id) for row in rows))
    np.testing.assert_array_equal(again.xyxy, seen.rounded().xyxy)
    np.testing.assert_array_equal(again.score, seen.rounded().score)
