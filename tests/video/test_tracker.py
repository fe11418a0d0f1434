"""Tracks: who is who from frame to frame, and what lies in the gaps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from seatrial.detect.detections import Detections
from seatrial.video.tracker import Sighting, Track, Tracker

pytest.importorskip("scipy", reason="SciPy is not installed: seatrial[video]")
Row = tuple[float, float, float, int]  # left, top, score, class


def seen(rows: Sequence[Row], side: float = 40) -> Detections:
    return Detections(
        np.array([[x, y, x + side, y + side] for x, y, *_ in rows], np.float32).reshape(-1, 4),
        np.array([score for *_, score, _ in rows], np.float32),
        np.array([class_id for *_, class_id in rows], np.int64),
    )


def follow(frames: Sequence[Sequence[Row]], patience: int = 5) -> tuple[Tracker, list[list[int]]]:
    tracker = Tracker(confidence=0.5, patience=patience)
    return tracker, [tracker.update(n, seen(rows)).tolist() for n, rows in enumerate(frames)]


def test_two_that_cross_keep_their_numbers() -> None:
    frames = [[(10 + 12 * n, 50, 0.9, 0), (250 - 12 * n, 60, 0.9, 0)] for n in range(21)]
    _, owners = follow(frames)
    assert owners == [[1, 2]] * 21


def test_the_order_of_the_detections_does_not_matter() -> None:
    frames = [
        [(10 + 5 * n, 50, 0.9, 0), (200, 60, 0.9, 0)][:: 1 if n % 2 else -1] for n in range(8)
    ]
    _, owners = follow(frames)
    assert owners == [[1, 2], [2, 1]] * 4


def test_a_weak_detection_goes_on_with_a_track_and_begins_none() -> None:
    frames = [[(10 + 5 * n, 50, 0.9 if n < 3 else 0.2, 0), (200, 50, 0.2, 0)] for n in range(6)]
    tracker, owners = follow(frames)
    assert owners == [[1, -1]] * 6
    assert len(tracker.tracks) == 1
    assert [one.score for one in tracker.tracks[0].sightings] == pytest.approx(
        [0.9] * 3 + [0.2] * 3
    )


def test_one_that_comes_back_in_time_is_the_same_where_it_was_expected() -> None:
    moving: list[list[Row]] = [[(10 + 12 * n, 50, 0.9, 0)] for n in range(16)]
    hidden = [rows if not 6 <= n < 10 else [] for n, rows in enumerate(moving)]
    tracker, owners = follow(hidden)
    assert owners[5] == owners[10] == [1]
    # 48 pixels on, a side and more: without its motion it would not have been found.
    assert len(tracker.tracks) == 1
    _, owners = follow(hidden, patience=3)
    assert owners[10] == [2]


def test_classes_are_kept_apart() -> None:
    frames = [[(10, 50, 0.9, n % 2)] for n in range(4)]
    tracker, owners = follow([*frames[:2], *frames[:2]])
    assert {track.class_id for track in tracker.tracks} == {0, 1}
    assert owners[0] != owners[1]


def test_a_flicker_is_forgotten_at_once() -> None:
    frames: list[list[Row]] = [[(10, 50, 0.9, 0)], [], [(10, 50, 0.9, 0)], [(10, 50, 0.9, 0)]]
    tracker, owners = follow(frames)
    assert owners == [[1], [], [2], [2]]
    assert [len(track.sightings) for track in tracker.tracks] == [1, 2]


def test_no_detections_at_all() -> None:
    tracker, owners = follow([[], [], []])
    assert owners == [[], [], []]
    assert tracker.tracks == []


def test_gaps_are_filled_in_proportion_unless_they_are_too_long() -> None:
    track = Track(1, 0, [
        Sighting(0, (0, 0, 10, 10), 0.9),
        Sighting(4, (8, 4, 26, 22), 0.6),
        Sighting(9, (0, 0, 1, 1), 0.5),
    ])  # fmt: skip
    filled = track.filled(longest_gap=3)
    assert [one.frame for one in filled] == [0, 1, 2, 3, 4, 9]
    assert [one.seen for one in filled] == [True, False, False, False, True, True]
    assert filled[2] == Sighting(2, (4, 2, 18, 16), 0.6, seen=False)
    assert [one.frame for one in track.filled(longest_gap=4)] == list(range(10))
    assert [one.frame for one in track.filled(longest_gap=0)] == [0, 4, 9]
