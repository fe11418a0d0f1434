"""The boxes and frames that a person asked for: thresholds, classes, every which frame, tracks."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from seatrial.deployment import Thresholds
from seatrial.detect.classes import before_filter, of_classes
from seatrial.detect.detections import Detections
from seatrial.video.tracker import WEAKEST, ByteTracker


@dataclass(frozen=True, slots=True)
class Wanted:
    """The frames that are looked at, and the boxes that are reported.

    Attributes:
        thresholds: Thresholds of the boxes that are reported.
        classes: Numbers of the classes that are reported; empty for all.
        every: One of so many frames of a video is looked at.
        track: Whether objects are followed through videos.
    """

    thresholds: Thresholds
    classes: tuple[int, ...] = ()
    every: int = 1
    track: bool = False

    def asked(self, *, tracked: bool = False) -> Thresholds:
        """The thresholds to detect with; tracks go on through boxes of lower confidence."""
        asked = before_filter(self.thresholds, self.classes)
        lowest = min(WEAKEST, asked.confidence) if tracked else asked.confidence
        return msgspec.structs.replace(asked, confidence=lowest)

    def kept(self, found: Detections, tracker: ByteTracker | None = None) -> Detections:
        """The boxes that are reported, with their tracks where there is a tracker."""
        found = of_classes(found, self.classes, self.thresholds.max_detections)
        if tracker is None:
            return found
        tracked = tracker.update(found)
        return tracked[tracked.score > self.thresholds.confidence]
