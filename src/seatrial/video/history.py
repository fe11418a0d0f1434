"""The tracks of a recorded video from end to end, with the gaps between detections filled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seatrial.detect.detections import Detections


@dataclass(frozen=True, slots=True)
class TrackedBoxes:
    """Boxes of all frames in one table, in the order of the tracks and then of the frames.

    Attributes:
        frame: (N,) int64, number of each box's frame.
        detections: The boxes; ``track_id`` counts from 1. The confidence of an interpolated box is
            the lower one of the two detections around it.
        interpolated: (N,) bool, whether the box was computed from the detections around it.
        tracks: Number of tracks.
    """

    frame: NDArray[np.int64]
    detections: Detections
    interpolated: NDArray[np.bool_]
    tracks: int


class TrackHistory:
    """Collects what a tracker returns. It grows with the video: not for a live stream."""

    def __init__(self) -> None:
        self._frames: list[int] = []
        self._detections: list[Detections] = []

    def add(self, frame: int, detections: Detections) -> None:
        """Append the detections of a frame.

        Args:
            frame: Number of the frame, larger than the one before.
            detections: As `seatrial.video.tracker.ByteTracker.update` returns them.
        """
        self._frames.append(frame)
        self._detections.append(detections)

    def filled(self, *, longest_gap: int, shortest: int = 1) -> TrackedBoxes:
        """All tracks, with a box in each frame between two detections that are near enough.

        Args:
            longest_gap: Most frames without a detection that are filled.
            shortest: Least number of detections of a track; tracks with fewer are left out.
        """
        frame = np.repeat(np.array(self._frames, np.int64), [len(d) for d in self._detections])
        boxes = _joined(self._detections)
        order = np.argsort(_track_id(boxes), kind="stable")  # frames of a track stay in order
        starts = np.flatnonzero(np.diff(_track_id(boxes)[order])) + 1
        parts: list[TrackedBoxes] = []
        for own in np.split(order, starts):
            if len(own) >= shortest and _track_id(boxes)[own[:1]] > 0:
                parts.append(_filled(frame[own], boxes[own], len(parts) + 1, longest_gap))
        return TrackedBoxes(
            frame=np.concatenate([np.zeros(0, np.int64), *(part.frame for part in parts)]),
            detections=_joined([part.detections for part in parts]),
            interpolated=np.concatenate([np.zeros(0, bool), *(p.interpolated for p in parts)]),
            tracks=len(parts),
        )


def _filled(
    frame: NDArray[np.int64], track: Detections, number: int, longest_gap: int
) -> TrackedBoxes:
    """One track with its gaps filled in proportion to the time.

    Args:
        frame: (N,) frames of the detections, rising.
        track: The detections.
        number: Number that the track gets.
        longest_gap: See `TrackHistory.filled`.
    """
    wanted = np.arange(frame[0], frame[-1] + 1)
    before = np.searchsorted(frame, wanted, side="right") - 1
    after = np.searchsorted(frame, wanted, side="left")
    near = frame[after] - frame[before] <= longest_gap + 1
    wanted, before, after = wanted[near], before[near], after[near]
    distance = frame[after] - frame[before]  # 0 at a detection
    share = ((wanted - frame[before]) / np.maximum(distance, 1))[:, None]
    xyxy = (1 - share) * track.xyxy[before] + share * track.xyxy[after]
    return TrackedBoxes(
        frame=wanted,
        detections=Detections(
            xyxy=xyxy.astype(np.float32),
            score=np.minimum(track.score[before], track.score[after]),
            class_id=np.full(len(wanted), track.class_id[0]),
            track_id=np.full(len(wanted), number, np.int64),
        ),
        interpolated=distance > 0,
        tracks=1,
    )


def _joined(parts: Sequence[Detections]) -> Detections:
    """All detections in one; those without tracks get the track -1."""
    parts = [Detections.empty(), *parts]
    return Detections(
        np.concatenate([one.xyxy for one in parts]),
        np.concatenate([one.score for one in parts]),
        np.concatenate([one.class_id for one in parts]),
        np.concatenate([_track_id(one) for one in parts]),
    )


def _track_id(detections: Detections) -> NDArray[np.int64]:
    if detections.track_id is None:
        return np.full(len(detections), -1, np.int64)
    return detections.track_id
