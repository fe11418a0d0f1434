"""A detector and what was shown to it: each image is inferred once for each IoU.

A change of the confidence needs no new inference: greedy suppression removes a box only for a more
confident one, so the boxes over a threshold are the same whether it was set before or after.
"""

from __future__ import annotations

import statistics
import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from seatrial.accuracy.predict import SeenImage
from seatrial.demo.media import Media
from seatrial.demo.models import Model, Models
from seatrial.deployment import Thresholds
from seatrial.detect.detections import Detections
from seatrial.errors import InvalidInput
from seatrial.progress import Progress, silent
from seatrial.video.tracker import WEAKEST, ByteTracker

FLOOR = WEAKEST  # lowest confidence that a page offers
KEPT = 32  # answers of the models that are kept
NO_TRACK = -1


@dataclass(frozen=True, slots=True)
class Choice:
    """The settings of a page.

    Attributes:
        confidence: Confidence above which boxes are shown, `FLOOR` to 1.
        iou: IoU above which two boxes of one class are one object, 0-1.
        classes: Labels that are shown; empty for all.
    """

    confidence: float = Thresholds().confidence
    iou: float = Thresholds().iou
    classes: tuple[str, ...] = ()

    @classmethod
    def usual(cls, model: Model) -> Choice:
        """The settings at which a page begins: those at which the model is used."""
        return cls(max(FLOOR, model.usual.confidence), model.usual.iou)

    def __post_init__(self) -> None:
        if not (FLOOR <= self.confidence <= 1 and 0 <= self.iou <= 1):
            raise InvalidInput(
                f"confidence {self.confidence} and IoU {self.iou}: the first goes from {FLOOR} "
                "to 1, the second from 0 to 1"
            )

    def mask(self, detections: Detections, labels: tuple[str, ...]) -> NDArray[np.bool_]:
        """(N,) bool: the detections that are shown."""
        shown = detections.score > self.confidence
        if self.classes:
            wanted = [n for n, label in enumerate(labels) if label in self.classes]
            shown &= np.isin(detections.class_id, wanted)
        return shown


@dataclass(frozen=True, slots=True)
class View:
    """Detections of one model in an image or video, by the settings of a page.

    Attributes:
        media: The image or video.
        model: The model.
        choice: The settings.
        answers: The model's answer for each frame, down to `FLOOR`.
        shown: The detections of each frame that are shown, most confident first; in a video, with
            their tracks.
    """

    media: Media
    model: Model
    choice: Choice
    answers: tuple[SeenImage, ...]
    shown: tuple[Detections, ...]

    @property
    def stages_ms(self) -> dict[str, float]:
        """Stage -> milliseconds as measured; for a video, the median of its frames.

        The median of ``total`` is that of the frames' totals, and not the sum of the medians.
        """
        timings = [_with_total(answer.timing_ms) for answer in self.answers]
        return {s: statistics.median(timing[s] for timing in timings) for s in timings[0]}

    @property
    def tracks(self) -> int:
        """Number of tracks that are shown; 0 for an image."""
        ids = {n for one in self.shown if one.track_id is not None for n in one.track_id.tolist()}
        return len(ids - {NO_TRACK})

    @property
    def boxes(self) -> int:
        """Number of boxes that are shown, in all frames."""
        return sum(len(detections) for detections in self.shown)

    @property
    def hidden(self) -> int:
        """Number of boxes over `FLOOR` that are not shown, in all frames."""
        return sum(len(one.detections) for one in self.answers) - self.boxes


class Workbench:
    """Shows images and videos to models, and keeps their last answers.

    Args:
        models: Open models; the caller closes them.
    """

    def __init__(self, models: Models) -> None:
        self.models = models
        self._answers: OrderedDict[tuple[str, str, float], tuple[SeenImage, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def view(
        self,
        media: Media,
        choice: Choice,
        model: Model | None = None,
        on_progress: Progress = silent,
    ) -> View:
        """The detections of a model.

        Args:
            media: An image or video.
            choice: The settings of the page.
            model: The model; None for the one that the page is about.
            on_progress: Called after each frame.

        Raises:
            InvalidInput: The image is refused.
            ServiceFailed: The service does not answer.
        """
        model = model or self.models.shown
        answers = self._detect(media, choice.iou, model, on_progress)
        found = [answer.detections for answer in answers]
        if media.rate_hz is not None:
            found = _tracked(found, choice.confidence, media.rate_hz)
        shown = tuple(one[choice.mask(one, model.labels)] for one in found)
        return View(media=media, model=model, choice=choice, answers=answers, shown=shown)

    def _detect(
        self, media: Media, iou: float, model: Model, on_progress: Progress
    ) -> tuple[SeenImage, ...]:
        key = (media.digest, model.name, iou)
        with self._lock:
            if key in self._answers:
                self._answers.move_to_end(key)
                return self._answers[key]
        thresholds = Thresholds(confidence=FLOOR, iou=iou)
        answers = tuple(
            model.detect([frame.data for frame in media.frames], thresholds, on_progress)
        )
        with self._lock:
            self._answers[key] = answers
            while len(self._answers) > KEPT:
                self._answers.popitem(last=False)
        return answers


def _with_total(timing_ms: dict[str, float]) -> dict[str, float]:
    # A service measures its total. In this process, each stage begins where the last one ended.
    return timing_ms if "total" in timing_ms else {**timing_ms, "total": sum(timing_ms.values())}


def _tracked(frames: Sequence[Detections], confidence: float, rate_hz: float) -> list[Detections]:
    """The detections of a video's frames with their tracks, which are counted from 1.

    Args:
        frames: Detections down to `FLOOR`, which continue tracks.
        confidence: Least confidence of a box that starts a track.
        rate_hz: Frames in a second.

    Raises:
        MissingExtra: SciPy is not installed.
    """
    tracker = ByteTracker.watching(confidence=confidence, rate_hz=rate_hz)
    tracked = [tracker.update(frame) for frame in frames]
    counts = Counter(n for frame in tracked for n in _ids(frame))
    # One box alone is no track, as in `ByteTracker`, unless there is one frame alone.
    kept = [n for n, count in counts.items() if n != NO_TRACK and count >= min(2, len(frames))]
    number = {n: place for place, n in enumerate(sorted(kept), 1)}
    return [
        replace(
            frame,
            track_id=np.array([number.get(n, NO_TRACK) for n in _ids(frame)], np.int64),
        )
        for frame in tracked
    ]


def _ids(detections: Detections) -> list[int]:
    return [] if detections.track_id is None else list(detections.track_id.tolist())
