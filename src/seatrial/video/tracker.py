"""Objects followed from frame to frame, by where they are.

ByteTrack: Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box",
2022. Boxes of high confidence are matched first, those of low confidence then fill what is left of
the tracks; a Kalman filter says where each is expected (Wojke, Bewley, Paulus, "Simple Online and
Realtime Tracking with a Deep Association Metric", 2017, has the state and its noise). Classes are
kept apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from seatrial.detect.detections import Detections, iou
from seatrial.system.extras import require

# Least IoU of a match, of the three rounds in ByteTrack's order.
HIGH_IOU, LOW_IOU, NEW_IOU = 0.2, 0.5, 0.3
# Standard deviations, as a fraction of the box's height.
_POSITION, _VELOCITY = 1 / 20, 1 / 160
_STEP = np.eye(8) + np.eye(8, k=4)  # position += velocity


@dataclass(frozen=True, slots=True)
class Sighting:
    """A track in one frame.

    Attributes:
        frame: Number in the row of frames.
        xyxy: Left, top, right, bottom, source pixels.
        score: 0-1; of an interpolated one the lower of its neighbours'.
        seen: False if it lies between two detections.
    """

    frame: int
    xyxy: tuple[float, float, float, float]
    score: float
    seen: bool = True


class _Motion:
    """A constant-velocity Kalman filter over centre x, centre y, width / height, height."""

    def __init__(self, xyxy: NDArray[np.float64]) -> None:
        measured = _centred(xyxy)
        height = measured[3]
        self.mean = np.concatenate([measured, np.zeros(4)])
        position, velocity = 2 * _POSITION * height, 10 * _VELOCITY * height
        deviation = [position, position, 1e-2, position, velocity, velocity, 1e-5, velocity]
        self._covariance = np.diag(np.square(deviation))

    def predict(self) -> None:
        height = self.mean[3]
        position, velocity = _POSITION * height, _VELOCITY * height
        deviation = [position, position, 1e-2, position, velocity, velocity, 1e-5, velocity]
        self.mean = _STEP @ self.mean
        self._covariance = _STEP @ self._covariance @ _STEP.T + np.diag(np.square(deviation))

    def correct(self, xyxy: NDArray[np.float64]) -> None:
        position = _POSITION * self.mean[3]
        noise = np.diag(np.square([position, position, 1e-1, position]))
        inner = self._covariance[:4, :4] + noise
        gain = np.linalg.solve(inner, self._covariance[:4]).T
        self.mean = self.mean + gain @ (_centred(xyxy) - self.mean[:4])
        self._covariance = self._covariance - gain @ inner @ gain.T

    def box(self) -> NDArray[np.float64]:
        """(4,) left, top, right, bottom."""
        x, y, aspect, height = self.mean[:4]
        half_width, half_height = aspect * height / 2, height / 2
        return np.array([x - half_width, y - half_height, x + half_width, y + half_height])


def _centred(xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    left, top, right, bottom = xyxy
    height = max(bottom - top, 1e-3)
    return np.array([(left + right) / 2, (top + bottom) / 2, (right - left) / height, height])


@dataclass(slots=True)
class Track:
    """One object through the frames.

    Attributes:
        number: From 1.
        class_id: Its class.
        sightings: In the order of the frames.
    """

    number: int
    class_id: int
    sightings: list[Sighting] = field(default_factory=list)

    def filled(self, longest_gap: int) -> list[Sighting]:
        """The sightings, and one for each frame between two that are not too far apart.

        Args:
            longest_gap: Most frames without a detection that are bridged.
        """
        found = self.sightings[:1]
        for before, after in zip(self.sightings, self.sightings[1:], strict=False):
            gap = after.frame - before.frame
            for frame in range(before.frame + 1, after.frame if gap <= longest_gap + 1 else 0):
                share = (frame - before.frame) / gap
                left, top, right, bottom = (
                    (1 - share) * a + share * b
                    for a, b in zip(before.xyxy, after.xyxy, strict=True)
                )
                score = min(before.score, after.score)
                found.append(Sighting(frame, (left, top, right, bottom), score, seen=False))
            found.append(after)
        return found


class Tracker:
    """Follows objects through frames that are given in order.

    Args:
        confidence: Detections from here on begin a track; weaker ones only go on with one.
        patience: Frames that a track waits for its object to come back.

    Raises:
        MissingExtra: SciPy is not installed.
    """

    def __init__(self, *, confidence: float, patience: int) -> None:
        self.tracks: list[Track] = []
        self._assign = require(
            "scipy.optimize", extra="video", purpose="following objects"
        ).linear_sum_assignment
        self._confidence = confidence
        self._patience = patience
        self._live: list[tuple[Track, _Motion]] = []

    def update(self, frame: int, detections: Detections) -> NDArray[np.int64]:
        """Take the detections of the next frame.

        Args:
            frame: Its number; larger than that before.
            detections: In source pixels.

        Returns:
            (N,) int64 number of each detection's track; -1 for those that belong to none.
        """
        self._live = [
            one for one in self._live if frame - one[0].sightings[-1].frame <= self._patience + 1
        ]
        for _, motion in self._live:
            motion.predict()
        owner = np.full(len(detections), -1, np.int64)
        strong = np.flatnonzero(detections.score >= self._confidence)
        weak = np.flatnonzero(detections.score < self._confidence)
        known = [one for one in self._live if len(one[0].sightings) > 1]
        fresh = [one for one in self._live if len(one[0].sightings) == 1]
        latest = max((t.sightings[-1].frame for t, _ in self._live), default=-1)
        left = self._round(frame, known, detections, strong, owner, HIGH_IOU)
        near = [one for one in left if one[0].sightings[-1].frame == latest]
        self._round(frame, near, detections, weak, owner, LOW_IOU)
        lost = self._round(frame, fresh, detections, strong[owner[strong] < 0], owner, NEW_IOU)
        # Seen once and not again at once: a flicker.
        self._live = [one for one in self._live if all(one[0] is not other for other, _ in lost)]
        for index in strong[owner[strong] < 0].tolist():
            track = Track(len(self.tracks) + 1, int(detections.class_id[index]))
            self.tracks.append(track)
            self._live.append((track, _Motion(detections.xyxy[index].astype(np.float64))))
            self._note(track, frame, detections, index, owner)
        return owner

    def _round(
        self,
        frame: int,
        live: Sequence[tuple[Track, _Motion]],
        detections: Detections,
        chosen: NDArray[np.intp],
        owner: NDArray[np.int64],
        least: float,
    ) -> list[tuple[Track, _Motion]]:
        """Match tracks with some detections; gives the tracks that found none."""
        if not live or not len(chosen):
            return list(live)
        expected = np.stack([motion.box() for _, motion in live])
        overlap = iou(expected, detections.xyxy[chosen])
        classes = np.array([track.class_id for track, _ in live])
        overlap[classes[:, None] != detections.class_id[chosen]] = 0
        matched: set[int] = set()
        for row, column in zip(*self._assign(overlap, maximize=True), strict=True):
            if overlap[row, column] < least:
                continue
            track, motion = live[row]
            index = int(chosen[column])
            motion.correct(detections.xyxy[index].astype(np.float64))
            self._note(track, frame, detections, index, owner)
            matched.add(int(row))
        return [one for row, one in enumerate(live) if row not in matched]

    @staticmethod
    def _note(
        track: Track, frame: int, detections: Detections, index: int, owner: NDArray[np.int64]
    ) -> None:
        left, top, right, bottom = detections.xyxy[index].tolist()
        score = float(detections.score[index])
        track.sightings.append(Sighting(frame, (left, top, right, bottom), score))
        owner[index] = track.number
