from __future__ import annotations

import numpy as np
import pytest

from seatrial.detect.detections import Detections

XYXY = np.zeros((2, 4), np.float32)
SCORE = np.zeros(2, np.float32)
CLASS_ID = np.zeros(2, np.int64)


def test_length_is_the_number_of_objects() -> None:
    assert len(Detections(XYXY, SCORE, CLASS_ID)) == 2
    assert len(Detections.empty()) == 0


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        ((XYXY[:1], SCORE, CLASS_ID), "xyxy"),
        ((XYXY[:, :3], SCORE, CLASS_ID), "xyxy"),
        ((XYXY.astype(np.float64), SCORE, CLASS_ID), "xyxy"),
        ((XYXY, SCORE[:, None], CLASS_ID), "score"),
        ((XYXY, SCORE.astype(np.float16), CLASS_ID), "score"),
        ((XYXY, SCORE, CLASS_ID[:1]), "class_id"),
        ((XYXY, SCORE, CLASS_ID.astype(np.int32)), "class_id"),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(
    arrays: tuple[np.ndarray, ...], named: str
) -> None:
    with pytest.raises(ValueError, match=f"^{named} must be"):
        Detections(*arrays)
