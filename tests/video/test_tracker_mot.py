"""The tracker by the metrics of the MOT benchmarks, on generated scenes.

MOTA: Bernardin, Stiefelhagen, "Evaluating Multiple Object Tracking Performance: The CLEAR MOT
Metrics", 2008. IDF1: Ristani et al., "Performance Measures and a Data Set for Multi-Target,
Multi-Camera Tracking", 2016. Both are computed by the package motmetrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from packages import Later, skip_without
from seatrial.detect.detections import Detections, iou
from seatrial.video.tracker import ByteTracker

motmetrics = Later("motmetrics")

SIDE = 40.0
LEAST_IOU = 0.5


@pytest.fixture(autouse=True)
def packages() -> None:
    skip_without("scipy", "motmetrics", extra="test")


@dataclass(frozen=True)
class Frame:
    """What is there, and what a detector reports.

    Attributes:
        objects: (M,) int64, number of each object.
        boxes: (M, 4) float32, where they are.
        detections: What is reported, without tracks.
    """

    objects: NDArray[np.int64]
    boxes: NDArray[np.float32]
    detections: Detections


def scores(frames: Sequence[Frame], found: Sequence[Detections]) -> dict[str, float]:
    """MOTA, IDF1, and the counts that MOTA is made of."""
    events = motmetrics.MOTAccumulator()
    for number, (frame, tracked) in enumerate(zip(frames, found, strict=True)):
        assert tracked.track_id is not None
        tracked = tracked[tracked.track_id > 0]
        overlap = iou(frame.boxes, tracked.xyxy)
        distance = np.where(overlap >= LEAST_IOU, 1 - overlap, np.nan)
        events.update(frame.objects, tracked.track_id, distance, frameid=number)
    names = ["mota", "idf1", "num_switches", "num_misses", "num_false_positives"]
    table = motmetrics.metrics.create().compute(events, metrics=names)
    return {name: float(table[name].iloc[0]) for name in names}


def run(frames: Sequence[Frame], **options: Any) -> dict[str, float]:
    tracker = ByteTracker(**{"confidence": 0.5, "patience": 12, **options})
    return scores(frames, [tracker.update(frame.detections) for frame in frames])


def frame_of(
    places: dict[int, tuple[float, float]],
    *,
    hidden: Sequence[int] = (),
    weak: Sequence[int] = (),
    noise: np.random.Generator | None = None,
    false: int = 0,
) -> Frame:
    """A frame of squares; hidden ones are there and are not detected."""
    numbers = np.array(sorted(places), np.int64)
    low = np.array([places[n] for n in numbers.tolist()], np.float64).reshape(-1, 2)
    boxes = np.concatenate([low, low + SIDE], axis=1).astype(np.float32)
    shown = ~np.isin(numbers, hidden)
    xyxy = boxes[shown]
    score = np.where(np.isin(numbers[shown], weak), 0.2, 0.9)
    if noise is not None:
        xyxy = xyxy + noise.normal(0, 1.0, xyxy.shape)
        low = noise.uniform(0, 600, (false, 2))
        xyxy = np.concatenate([xyxy, np.concatenate([low, low + SIDE], axis=1)])
        score = np.concatenate([score, noise.choice([0.2, 0.6], false)])
    order = np.argsort(-score, kind="stable")
    detections = Detections(
        xyxy[order].astype(np.float32),
        score[order].astype(np.float32),
        np.zeros(len(order), np.int64),
    )
    return Frame(numbers, boxes, detections)


def test_the_metrics_of_a_case_worked_by_hand() -> None:
    """Two objects, four frames: one miss, one false box, and the tracks change places once."""
    places = {1: (0.0, 0.0), 2: (200.0, 0.0)}
    frames = [frame_of(places) for _ in range(4)]
    nowhere = [500.0, 500.0, 540.0, 540.0]

    def answer(*tracks: int, boxes: Any = frames[0].boxes) -> Detections:
        count = len(tracks)
        return Detections(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.ones(count, np.float32),
            np.zeros(count, np.int64),
            np.array(tracks, np.int64),
        )

    found = [
        answer(1, 2),
        answer(1, boxes=frames[0].boxes[:1]),  # a miss
        answer(1, 2, 3, boxes=[*frames[0].boxes, nowhere]),  # a false box
        answer(2, 1),  # two switches
    ]
    got = scores(frames, found)
    counts = ("num_misses", "num_false_positives", "num_switches")
    assert [got[name] for name in counts] == [1, 1, 2]
    assert got["mota"] == pytest.approx(1 - (1 + 1 + 2) / 8)
    # Identities: object 1 is track 1 in three frames, object 2 is track 2 in two. IDTP = 5, of 8
    # boxes and 8 answers.
    assert got["idf1"] == pytest.approx(2 * 5 / (8 + 8))


def test_crossing_paths() -> None:
    """Two pairs that cross at right angles and head-on; nothing is hidden."""
    frames = [
        frame_of({
            1: (10 + 8 * n, 100), 2: (330 - 8 * n, 108),
            3: (400 + 6 * n, 300), 4: (520, 180 + 6 * n),
        })
        for n in range(40)
    ]  # fmt: skip
    got = run(frames)
    assert (got["mota"], got["idf1"], got["num_switches"]) == (1, 1, 0)


def test_an_object_that_passes_behind_another() -> None:
    """The one behind is reported weakly, then not at all for ten frames."""

    def place(n: int) -> Frame:
        behind = (10 + 8.0 * n, 100.0)
        distance = abs(behind[0] - 160)
        return frame_of(
            {1: behind, 2: (160, 90)},
            hidden=[1] if distance < 40 else [],
            weak=[1] if 40 <= distance < 56 else [],
        )

    frames = [place(n) for n in range(40)]
    hidden = sum(len(f.objects) - len(f.detections) for f in frames)
    assert hidden == 10
    got = run(frames)
    assert got["num_switches"] == 0
    # Its track is not of the last frame any more: two weak boxes do not continue it.
    missed = hidden + 2
    assert got["idf1"] == pytest.approx(2 * (80 - missed) / (80 + 80 - missed))
    assert got["mota"] == pytest.approx(1 - missed / 80)
    # A tracker that does not wait starts a new track behind the other object.
    assert run(frames, patience=2)["num_switches"] == 1


def busy_scene(seed: int, length: int = 120) -> list[Frame]:
    """Eight objects bounce about; a tenth of the boxes are missing, another tenth are weak."""
    noise = np.random.default_rng(seed)
    place = noise.uniform(50, 550, (8, 2))
    speed = noise.uniform(-6, 6, (8, 2))
    frames = []
    for _ in range(length):
        place = place + speed
        speed = np.where((place < 0) | (place > 600), -speed, speed)
        drawn = noise.uniform(0, 1, 8)
        frames.append(
            frame_of(
                {n: (place[n, 0], place[n, 1]) for n in range(8)},
                hidden=np.flatnonzero(drawn < 0.1).tolist(),
                weak=np.flatnonzero(drawn > 0.9).tolist(),
                noise=noise,
                false=int(noise.integers(0, 3)),
            )
        )
    return frames


def test_a_busy_scene_with_missing_weak_and_false_detections() -> None:
    got = [run(busy_scene(seed)) for seed in range(5)]
    # A detector without a tracker misses a tenth of the boxes: MOTA cannot be above 0.9.
    assert np.mean([one["mota"] for one in got]) > 0.80
    assert np.mean([one["idf1"] for one in got]) > 0.85


def test_weak_detections_are_what_the_second_round_is_for() -> None:
    """Without them, as SORT does it, more boxes are missed and more tracks break."""

    def strong(frame: Frame) -> Frame:
        kept = frame.detections[frame.detections.score >= 0.5]
        return Frame(frame.objects, frame.boxes, kept)

    frames = busy_scene(0)
    both, only_strong = run(frames), run([strong(frame) for frame in frames])
    assert both["mota"] > only_strong["mota"] + 0.05
    assert both["idf1"] > only_strong["idf1"]
