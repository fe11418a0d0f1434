from __future__ import annotations

import msgspec
import pytest

from seatrial.load.http_client import read_answer


def test_detections_are_counted_and_stage_times_read():
    payload = msgspec.json.encode(
        {"detections": [{"box": [1]}, {"box": [2]}], "timing_ms": {"infer": 3, "total": 4.5}}
    )
    assert read_answer(payload) == (2, {"infer": 3.0, "total": 4.5})


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"predictions": []}', (None, None)),
        (b'{"detections": []}', (0, None)),
        (b'{"detections": [], "timing_ms": {}}', (0, None)),
        (b'{"detections": 7}', (None, None)),
        (b"[1, 2]", (None, None)),
        (b"<html>", (None, None)),
        (b"\xff\xfe", (None, None)),
        (b"", (None, None)),
    ],
)
def test_other_shapes_of_answers_are_no_error(payload, expected):
    assert read_answer(payload) == expected


def test_only_times_are_taken_for_stages():
    payload = msgspec.json.encode(
        {"timing_ms": {"infer": 3, "note": "warm", "cached": True, "skew": -1.0, "none": None}}
    )
    assert read_answer(payload) == (None, {"infer": 3.0})
