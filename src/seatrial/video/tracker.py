"""Online tracking: which detection of a frame is which object of the frames before.

ByteTrack: Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box",
2022. Detections of high confidence are matched with the tracks first; detections of low confidence
are then matched with the tracks that are left. A Kalman filter predicts the box of each track; its
state and noise are those of Wojke, Bewley, Paulus, "Simple Online and Realtime Tracking with a Deep
Association Metric", 2017. Objects of different classes are never matched.

The tracker keeps the live tracks and nothing else, so that it can run on a stream without an end.
`seatrial.video.history` collects tracks of a recorded video.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from seatrial.detect.detections import Detections, iou
from seatrial.system.extras import require

# In a video that is watched: lowest confidence of a detection that continues a track, and how long
# an object may be out of sight.
WEAKEST, LOST_AFTER_S = 0.05, 1.0
# Least IoU of a match, for the three rounds in ByteTrack's order.
HIGH_IOU, LOW_IOU, NEW_IOU = 0.2, 0.5, 0.3
# Standard deviations of position and velocity, as a fraction of the box's height.
_POSITION, _VELOCITY = 1 / 20, 1 / 160
_STEP = np.eye(8) + np.eye(8, k=4)  # position += velocity


@dataclass(frozen=True, slots=True)
class _LiveTracks:
    """The tracks that can be matched, as arrays; T is their number.

    Attributes:
        track_id: (T,) int64.
        class_id: (T,) int64.
        missed: (T,) int64, frames since the last detection.
        confirmed: (T,) bool, whether the track has two detections or more.
        mean: (T, 8) float64: centre x, centre y, width / height, height in pixels, and the change
            of each from frame to frame.
        covariance: (T, 8, 8) float64.
    """

    track_id: NDArray[np.int64]
    class_id: NDArray[np.int64]
    missed: NDArray[np.int64]
    confirmed: NDArray[np.bool_]
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.track_id)

    def take(self, kept: NDArray[np.bool_]) -> _LiveTracks:
        return _LiveTracks(
            self.track_id[kept], self.class_id[kept], self.missed[kept], self.confirmed[kept],
            self.mean[kept], self.covariance[kept],
        )  # fmt: skip

    def followed_by(self, others: _LiveTracks) -> _LiveTracks:
        return _LiveTracks(
            np.concatenate([self.track_id, others.track_id]),
            np.concatenate([self.class_id, others.class_id]),
            np.concatenate([self.missed, others.missed]),
            np.concatenate([self.confirmed, others.confirmed]),
            np.concatenate([self.mean, others.mean]),
            np.concatenate([self.covariance, others.covariance]),
        )


class ByteTracker:
    """Follows objects through the frames of one camera, which are given in order.

    The state is a row for each live track: its size does not grow with the number of frames.

    Args:
        confidence: Least confidence of a detection that starts a track, 0-1. Detections below it
            continue tracks only.
        patience: Frames without a detection after which a track ends.

    Raises:
        MissingExtra: SciPy is not installed.
    """

    def __init__(self, *, confidence: float, patience: int) -> None:
        self._assign = require(
            "scipy.optimize", extra="video", purpose="tracking objects"
        ).linear_sum_assignment
        self._confidence = confidence
        self._patience = patience
        self._started = 0  # tracks so far
        self._live = _begin(Detections.empty(), first_id=1)

    @classmethod
    def watching(cls, *, confidence: float, rate_hz: float) -> ByteTracker:
        """A tracker whose tracks end when their object was not seen for `LOST_AFTER_S`.

        Args:
            confidence: Least confidence of a detection that starts a track, 0-1.
            rate_hz: Frames in a second, of those that are looked at.

        Raises:
            MissingExtra: SciPy is not installed.
        """
        return cls(confidence=confidence, patience=max(1, round(LOST_AFTER_S * rate_hz)))

    def update(self, detections: Detections) -> Detections:
        """The detections of the next frame, with the track of each.

        Args:
            detections: Boxes in pixels of the frame. A frame without any counts too.

        Returns:
            The same detections in the same order; ``track_id`` counts from 1 and is -1 for a
            detection that belongs to no track.
        """
        live = _predicted(self._live.take(self._live.missed <= self._patience))
        match = np.full(len(live), -1, np.int64)  # index of each track's detection
        track_id = np.full(len(detections), -1, np.int64)

        def assign(tracks: NDArray[np.bool_], boxes: NDArray[np.bool_], least_iou: float) -> None:
            """Match some of the tracks and boxes that are free."""
            rows = np.flatnonzero(tracks & (match < 0))
            columns = np.flatnonzero(boxes & (track_id < 0))
            if not len(rows) or not len(columns):
                return
            overlap = iou(_boxes(live)[rows], detections.xyxy[columns])
            overlap[live.class_id[rows, None] != detections.class_id[columns]] = 0
            overlap[overlap < least_iou] = 0  # two such pairs must not displace a valid one
            for row, column in zip(*self._assign(overlap, maximize=True), strict=True):
                if overlap[row, column] >= least_iou:
                    match[rows[row]] = columns[column]
                    track_id[columns[column]] = live.track_id[rows[row]]

        strong = detections.score >= self._confidence
        # After frames without a match of any track, "the last frame" is the last one with a match.
        recent = live.missed == live.missed.min(initial=self._patience + 1)
        assign(live.confirmed, strong, HIGH_IOU)
        assign(live.confirmed & recent, ~strong, LOW_IOU)
        assign(~live.confirmed, strong, NEW_IOU)

        found = match >= 0
        if found.any():
            live = _corrected(live, found, detections.xyxy[match[found]])
        # A track with one detection and none in the next frame was a false detection.
        self._live = live.take(live.confirmed)
        fresh = np.flatnonzero(strong & (track_id < 0))
        if len(fresh):
            begun = _begin(detections[fresh], first_id=self._started + 1)
            track_id[fresh] = begun.track_id
            self._started += len(begun)
            self._live = self._live.followed_by(begun)
        return replace(detections, track_id=track_id)


def _begin(detections: Detections, *, first_id: int) -> _LiveTracks:
    """A track at each detection, which does not move yet."""
    count = len(detections)
    measured = _measured(detections.xyxy)
    deviation = _deviations(measured[:, 3], position=2 * _POSITION, velocity=10 * _VELOCITY)
    return _LiveTracks(
        track_id=np.arange(first_id, first_id + count, dtype=np.int64),
        class_id=detections.class_id,
        missed=np.zeros(count, np.int64),
        confirmed=np.zeros(count, np.bool_),
        mean=np.concatenate([measured, np.zeros((count, 4))], axis=1),
        covariance=np.square(deviation)[:, :, None] * np.eye(8),
    )


def _predicted(live: _LiveTracks) -> _LiveTracks:
    """The tracks one frame later, before they are matched."""
    if not len(live):
        return live
    deviation = _deviations(live.mean[:, 3], position=_POSITION, velocity=_VELOCITY)
    noise = np.square(deviation)[:, :, None] * np.eye(8)
    return replace(
        live,
        missed=live.missed + 1,
        mean=live.mean @ _STEP.T,
        covariance=_STEP @ live.covariance @ _STEP.T + noise,
    )


def _corrected(
    live: _LiveTracks, found: NDArray[np.bool_], xyxy: NDArray[np.float32]
) -> _LiveTracks:
    """The tracks after the Kalman update of those that were found, with their boxes (N, 4)."""
    mean, covariance = live.mean[found], live.covariance[found]
    position = _POSITION * mean[:, 3]
    deviation = np.stack([position, position, np.full_like(position, 1e-1), position], axis=1)
    inner = covariance[:, :4, :4] + np.square(deviation)[:, :, None] * np.eye(4)
    gain = np.linalg.solve(inner, covariance[:, :4]).transpose(0, 2, 1)  # (N, 8, 4)
    shift = (_measured(xyxy) - mean[:, :4])[:, :, None]
    corrected = replace(live, mean=live.mean.copy(), covariance=live.covariance.copy())
    corrected.mean[found] = mean + (gain @ shift)[:, :, 0]
    corrected.covariance[found] = covariance - gain @ inner @ gain.transpose(0, 2, 1)
    return replace(
        corrected, missed=np.where(found, 0, live.missed), confirmed=live.confirmed | found
    )


def _deviations(
    height: NDArray[np.float64], *, position: float, velocity: float
) -> NDArray[np.float64]:
    """(N, 8): standard deviations of a track's state, for boxes of heights (N,)."""
    at, by = position * height, velocity * height
    aspect, change = np.full_like(height, 1e-2), np.full_like(height, 1e-5)
    return np.stack([at, at, aspect, at, by, by, change, by], axis=1)


def _measured(xyxy: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, 4): centre x, centre y, width / height, height of boxes (N, 4)."""
    low, high = xyxy[:, :2].astype(np.float64), xyxy[:, 2:].astype(np.float64)
    width, height = (high - low)[:, 0], np.maximum((high - low)[:, 1], 1e-3)
    return np.column_stack([(low + high) / 2, width / height, height])


def _boxes(live: _LiveTracks) -> NDArray[np.float64]:
    """(T, 4): left, top, right, bottom where each track is expected, pixels."""
    centre, aspect, height = live.mean[:, :2], live.mean[:, 2], live.mean[:, 3]
    half = np.column_stack([aspect * height, height]) / 2
    return np.concatenate([centre - half, centre + half], axis=1)
