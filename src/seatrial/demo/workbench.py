"""One detector and what was shown to it: each picture is inferred once for each IoU.

Moving the confidence asks nobody again: greedy suppression drops a box only for a more confident
one, so the boxes over a threshold are the same whether it was set before or is set after.
"""

from __future__ import annotations

import statistics
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

from seatrial.demo.media import Media
from seatrial.demo.models import Model, Models, Seen
from seatrial.deployment import Thresholds
from seatrial.detect.answer import Box
from seatrial.errors import InvalidInput
from seatrial.progress import Progress, silent

FLOOR = 0.05  # lowest confidence that a page offers
KEPT = 32


@dataclass(frozen=True, slots=True)
class Choice:
    """What a page is set to.

    Attributes:
        confidence: Boxes above it are shown, `FLOOR` to 1.
        iou: Boxes of one class that overlap more are one object, 0-1.
        classes: Labels shown; all where there are none.
    """

    confidence: float = Thresholds().confidence
    iou: float = Thresholds().iou
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (FLOOR <= self.confidence <= 1 and 0 <= self.iou <= 1):
            raise InvalidInput(
                f"confidence {self.confidence} and IoU {self.iou}: the first goes from {FLOOR} "
                "to 1, the second from 0 to 1"
            )

    def shows(self, box: Box) -> bool:
        """Whether a box is among those that are shown."""
        return box.confidence > self.confidence and (not self.classes or box.label in self.classes)


@dataclass(frozen=True, slots=True)
class View:
    """What one model saw in a picture or video, as a page is set to show it.

    Attributes:
        media: What was looked at.
        model: Who looked.
        choice: What is shown of it.
        seen: For each frame, the boxes that are shown, most confident first.
        hidden: Boxes over `FLOOR` that are not shown.
        everything: For each frame, the boxes over `FLOOR` of the classes that are shown.
    """

    media: Media
    model: Model
    choice: Choice
    seen: tuple[Seen, ...]
    hidden: int
    everything: tuple[Seen, ...]

    @property
    def stages_ms(self) -> dict[str, float]:
        """Stage -> milliseconds; of a video, the medians of its frames."""
        stages = self.seen[0].timing_ms
        return {s: statistics.median(one.timing_ms[s] for one in self.seen) for s in stages}

    @property
    def boxes(self) -> int:
        """Boxes shown, in all frames."""
        return sum(len(one.detections) for one in self.seen)


class Workbench:
    """Shows pictures to models, and remembers the last answers.

    Args:
        models: Closed by the caller.
    """

    def __init__(self, models: Models) -> None:
        self.models = models
        self._answers: OrderedDict[tuple[str, str, float], tuple[Seen, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def view(
        self,
        media: Media,
        choice: Choice,
        model: Model | None = None,
        on_progress: Progress = silent,
    ) -> View:
        """What a model sees.

        Args:
            media: What to look at.
            choice: What to show of it.
            model: Who looks; the model that the page is about, where none is named.
            on_progress: Told after each frame.

        Raises:
            InvalidInput: The picture is refused.
            ServiceFailed: The service does not answer.
        """
        model = model or self.models.shown
        everything = self._look(media, choice.iou, model, on_progress)
        shown = tuple(_shown(one, choice) for one in everything)
        hidden = sum(len(one.detections) for one in everything)
        hidden -= sum(len(one.detections) for one in shown)
        return View(
            media=media,
            model=model,
            choice=choice,
            seen=shown,
            hidden=hidden,
            everything=tuple(_shown(one, replace(choice, confidence=FLOOR)) for one in everything),
        )

    def _look(
        self, media: Media, iou: float, model: Model, on_progress: Progress
    ) -> tuple[Seen, ...]:
        key = (media.digest, model.name, iou)
        with self._lock:
            if key in self._answers:
                self._answers.move_to_end(key)
                return self._answers[key]
        rules = Thresholds(confidence=FLOOR, iou=iou)
        seen = tuple(model.detect([frame.data for frame in media.frames], rules, on_progress))
        with self._lock:
            self._answers[key] = seen
            while len(self._answers) > KEPT:
                self._answers.popitem(last=False)
        return seen


def _shown(seen: Seen, choice: Choice) -> Seen:
    boxes = [box for box in seen.detections if choice.shows(box)]
    return Seen(seen.image, boxes, seen.timing_ms)
