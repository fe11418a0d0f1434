"""Tracks from frame to frame, and a state that does not grow."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import numpy as np
import pytest

from seatrial.detect.detections import Detections
from seatrial.video.tracker import ByteTracker

pytest.importorskip("scipy", reason="SciPy is not installed: seatrial[video]")
Row = tuple[float, float, float, int]  # left, top, score, class


def boxes(rows: Sequence[Row], side: float = 40) -> Detections:
    return Detections(
        np.array([[x, y, x + side, y + side] for x, y, *_ in rows], np.float32).reshape(-1, 4),
        np.array([score for *_, score, _ in rows], np.float32),
        np.array([class_id for *_, class_id in rows], np.int64),
    )


def track(frames: Sequence[Sequence[Row]], patience: int = 5) -> list[list[int]]:
    """The track of each detection, frame by frame."""
    tracker = ByteTracker(confidence=0.5, patience=patience)
    found = [tracker.update(boxes(rows)).track_id for rows in frames]
    return [ids.tolist() for ids in found if ids is not None]


def test_detections_come_back_as_they_were_with_their_tracks() -> None:
    given = boxes([(10, 50, 0.9, 1), (200, 60, 0.2, 0)])
    found = ByteTracker(confidence=0.5, patience=5).update(given)
    for name in ("xyxy", "score", "class_id"):
        np.testing.assert_array_equal(getattr(found, name), getattr(given, name))
    assert found.track_id is not None
    assert found.track_id.tolist() == [1, -1]
    assert given.track_id is None


def test_two_objects_that_cross_keep_their_tracks() -> None:
    frames = [[(10 + 12 * n, 50, 0.9, 0), (250 - 12 * n, 60, 0.9, 0)] for n in range(21)]
    assert track(frames) == [[1, 2]] * 21


def test_the_order_of_the_detections_does_not_matter() -> None:
    frames = [
        [(10 + 5 * n, 50, 0.9, 0), (200, 60, 0.9, 0)][:: 1 if n % 2 else -1] for n in range(8)
    ]
    assert track(frames) == [[1, 2], [2, 1]] * 4


def test_a_weak_detection_continues_a_track_and_starts_none() -> None:
    frames = [[(10 + 5 * n, 50, 0.9 if n < 3 else 0.2, 0), (200, 50, 0.2, 0)] for n in range(6)]
    assert track(frames) == [[1, -1]] * 6


def test_the_least_confidence_starts_a_track() -> None:
    assert track([[(10, 50, 0.5, 0)]]) == [[1]]


def test_a_weak_detection_does_not_continue_a_track_that_was_lost_before() -> None:
    """The second round of ByteTrack is for tracks of the last frame."""
    other: Row = (300, 50, 0.9, 0)
    frames: list[list[Row]] = [
        [(10, 50, 0.9, 0), other], [(10, 50, 0.9, 0), other], [other], [(10, 50, 0.2, 0), other],
    ]  # fmt: skip
    assert track(frames) == [[1, 2], [1, 2], [2], [-1, 2]]


def test_weak_detections_are_left_over_for_tracks_without_a_strong_one() -> None:
    frames: list[list[Row]] = [[(10, 50, 0.9, 0)], [(10, 50, 0.9, 0)]]
    # The weak box is exactly where the track is expected; the strong one is 20 pixels off.
    assert track([*frames, [(10, 50, 0.2, 0), (30, 50, 0.9, 0)]])[-1] == [-1, 1]


def test_an_object_that_is_found_again_in_time_keeps_its_track() -> None:
    moving: list[list[Row]] = [[(10 + 12 * n, 50, 0.9, 0)] for n in range(16)]
    hidden = [rows if not 6 <= n < 10 else [] for n, rows in enumerate(moving)]
    # It moved by 48 pixels, more than its side: only the predicted box overlaps with it.
    assert track(hidden, patience=4)[10] == [1]
    assert track(hidden, patience=3)[10] == [2]


def test_objects_of_two_classes_have_two_tracks() -> None:
    first, second = ([(10.0, 50.0, 0.9, class_id)] for class_id in (0, 1))
    assert track([first, second]) == [[1], [2]]
    both: list[Row] = [*first, *second]
    assert track([both, both[::-1]]) == [[1, 2], [2, 1]]


def test_a_track_of_one_detection_ends_at_once() -> None:
    box: list[Row] = [(10, 50, 0.9, 0)]
    assert track([box, [], box, box]) == [[1], [], [2], [2]]
    assert track([box, box, [], box]) == [[1], [1], [], [1]]


def test_new_tracks_and_confirmed_ones_need_different_overlaps() -> None:
    near, far = 15.0, 25.0  # of a side of 40: an IoU of 0.45 and of 0.23
    assert track([[(10, 50, 0.9, 0)], [(10 + near, 50, 0.9, 0)]]) == [[1], [1]]
    assert track([[(10, 50, 0.9, 0)], [(10 + far, 50, 0.9, 0)]]) == [[1], [2]]
    still: list[list[Row]] = [[(10, 50, 0.9, 0)]] * 5
    assert track([*still, [(10 + far, 50, 0.9, 0)]])[-1] == [1]
    # Weak detections need half of the box.
    assert track([*still, [(10 + near, 50, 0.2, 0)]])[-1] == [-1]
    assert track([*still, [(20, 50, 0.2, 0)]])[-1] == [1]


def test_overlaps_below_the_least_do_not_displace_a_match() -> None:
    """An IoU of 0.60 against two of 0.45, of which 0.5 is needed."""
    tracker = ByteTracker(confidence=0.5, patience=5)
    for _ in range(2):
        tracker.update(boxes([(1000, 50, 0.9, 0), (1063, 50, 0.9, 0)], side=100))
    found = tracker.update(boxes([(1025, 50, 0.2, 0), (962, 50, 0.2, 0)], side=100))
    assert found.track_id is not None
    assert found.track_id.tolist() == [1, -1]


def test_frames_without_detections() -> None:
    assert track([[], [], []]) == [[], [], []]


def state_bytes(tracker: ByteTracker) -> int:
    live = tracker._live
    return sum(getattr(live, name).nbytes for name in live.__slots__)


@pytest.mark.slow
def test_the_state_does_not_grow_over_20_000_frames() -> None:
    """Every fifty frames, an object walks through the picture for five."""
    tracker = ByteTracker(confidence=0.5, patience=5)
    walk = [boxes([(12 * n, 50, 0.9, 0), (12 * n, 200, 0.2, 1)]) for n in range(5)]
    frames = [*walk, *[Detections.empty()] * 45]
    sizes, objects = set(), []
    for number in range(20_000):
        found = tracker.update(frames[number % 50])
        if number % 2_000 == 1003:  # in the middle of a walk
            gc.collect()
            sizes.add(state_bytes(tracker))
            objects.append(len(gc.get_objects()))
            assert found.track_id is not None
            assert found.track_id.tolist() == [number // 50 + 1, -1]  # a new track for each walk
    assert len(sizes) == 1
    assert max(objects[1:]) - min(objects[1:]) < 100


def test_the_state_is_bounded_by_the_objects_in_sight() -> None:
    """Objects that appear all over the picture and are never found again."""
    tracker = ByteTracker(confidence=0.5, patience=3)
    rng = np.random.default_rng(0)
    for _ in range(300):
        places = rng.uniform(0, 5000, (20, 2))
        tracker.update(boxes([(x, y, 0.9, 0) for x, y in places]))
        assert len(tracker._live) <= 20 * (3 + 2)
