"""Tracks of a recorded video: gaps are filled in proportion, short tracks are left out."""

from __future__ import annotations

import numpy as np
import pytest

from seatrial.detect.detections import Detections
from seatrial.video.history import TrackHistory


def seen(*rows: tuple[int, list[float], float]) -> Detections:
    """Detections of class 2: track, box, score."""
    return Detections(
        np.array([box for _, box, _ in rows], np.float32).reshape(-1, 4),
        np.array([score for *_, score in rows], np.float32),
        np.full(len(rows), 2, np.int64),
        np.array([track for track, *_ in rows], np.int64),
    )


@pytest.fixture
def history() -> TrackHistory:
    """A track with gaps of three and four frames, and a detection without a track."""
    history = TrackHistory()
    history.add(0, seen((7, [0, 0, 10, 10], 0.9), (-1, [50, 50, 60, 60], 0.2)))
    history.add(4, seen((7, [8, 4, 26, 22], 0.6)))
    history.add(9, seen((7, [0, 0, 1, 1], 0.5)))
    return history


def test_gaps_are_filled_in_proportion_unless_they_are_too_long(history: TrackHistory) -> None:
    table = history.filled(longest_gap=3)
    assert table.frame.tolist() == [0, 1, 2, 3, 4, 9]
    assert table.interpolated.tolist() == [False, True, True, True, False, False]
    np.testing.assert_allclose(table.detections.xyxy[2], [4, 2, 18, 16])
    np.testing.assert_allclose(table.detections.score, [0.9, 0.6, 0.6, 0.6, 0.6, 0.5])
    assert set(table.detections.class_id.tolist()) == {2}
    assert history.filled(longest_gap=4).frame.tolist() == list(range(10))
    assert history.filled(longest_gap=2).frame.tolist() == [0, 4, 9]
    assert history.filled(longest_gap=0).frame.tolist() == [0, 4, 9]


def test_short_tracks_are_left_out_and_the_others_numbered_from_1(history: TrackHistory) -> None:
    history.add(10, seen((9, [5, 5, 9, 9], 0.8), (8, [1, 1, 2, 2], 0.7)))
    history.add(11, seen((8, [1, 1, 2, 2], 0.7), (9, [5, 5, 9, 9], 0.8)))
    table = history.filled(longest_gap=0, shortest=3)
    assert (table.tracks, table.frame.tolist()) == (1, [0, 4, 9])
    table = history.filled(longest_gap=0, shortest=2)
    assert table.tracks == 3
    assert table.detections.track_id is not None
    assert table.detections.track_id.tolist() == [1, 1, 1, 2, 2, 3, 3]
    assert table.frame.tolist() == [0, 4, 9, 10, 11, 10, 11]
    np.testing.assert_allclose(table.detections.score[3:], [0.7, 0.7, 0.8, 0.8])


def test_a_history_without_tracks() -> None:
    history = TrackHistory()
    assert history.filled(longest_gap=5).tracks == 0
    history.add(0, Detections.empty())
    history.add(1, seen((-1, [0, 0, 1, 1], 0.2)))
    table = history.filled(longest_gap=5)
    assert (table.tracks, len(table.frame), len(table.detections)) == (0, 0, 0)
