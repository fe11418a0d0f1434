"""What is reported: classes, thresholds, and tracks that go on through weaker boxes."""

from __future__ import annotations

import numpy as np
import pytest

from seatrial.deployment import Thresholds
from seatrial.detect.detections import Detections
from seatrial.video.tracker import WEAKEST, ByteTracker
from seatrial.video.wanted import Wanted


def one(score: float, class_id: int = 0) -> Detections:
    return Detections(
        np.array([[10, 10, 50, 50]], np.float32),
        np.array([score], np.float32),
        np.array([class_id]),
    )


def test_without_tracks_the_thresholds_are_those_given() -> None:
    wanted = Wanted(Thresholds(confidence=0.4))
    assert wanted.asked() == Thresholds(confidence=0.4)
    assert wanted.kept(one(0.9)).track_id is None
    assert len(Wanted(Thresholds(), classes=(1,)).kept(one(0.9, class_id=0))) == 0


def test_a_track_goes_on_through_a_weak_box_that_is_not_reported() -> None:
    pytest.importorskip("scipy", reason="SciPy is not installed: seatrial[video]")
    wanted = Wanted(Thresholds(confidence=0.4), track=True)
    assert wanted.asked(tracked=True).confidence == WEAKEST
    assert Wanted(Thresholds(confidence=0.01)).asked(tracked=True).confidence == 0.01
    tracker = ByteTracker.watching(confidence=0.4, rate_hz=1)
    shown = [wanted.kept(one(score), tracker) for score in (0.9, 0.9, 0.2, 0.2, 0.9)]
    assert [len(found) for found in shown] == [1, 1, 0, 0, 1]
    assert {
        int(found.track_id[0]) for found in shown if found.track_id is not None and len(found)
    } == {1}
