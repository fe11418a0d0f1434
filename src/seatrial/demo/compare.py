"""What two models see in one picture: which boxes both have, and which only one of them."""

from __future__ import annotations

import numpy as np

from seatrial.accuracy.compare import BoxSet, Comparison
from seatrial.accuracy.compare import compare as compare_boxes
from seatrial.accuracy.matching import Predictions
from seatrial.demo.render import as_detections
from seatrial.demo.workbench import View
from seatrial.detect.detections import Detections


def compare(first: View, second: View) -> Comparison:
    """Compare the second model with the first, from the confidence that the page is set to.

    Boxes that the page hides take part: one that fell just below the confidence is no loss.

    Args:
        first: The parent; its labels number the classes, since each model has its own numbers.
        second: The child; a class that the first does not know is one of its own.
    """
    numbers = {label: number for number, label in enumerate(first.model.labels)}
    parent, child = (Predictions.of([_numbered(view, numbers)]) for view in (first, second))
    return compare_boxes(
        BoxSet(child, images=1, categories=len(numbers)),
        BoxSet(parent, images=1, categories=len(numbers)),
        floor=first.choice.confidence,
    )


def _numbered(view: View, numbers: dict[str, int]) -> Detections:
    """The boxes with the class numbers of both models, `numbers`, which grows by new labels."""
    boxes = view.everything[0].detections
    found = as_detections(boxes)
    for box in boxes:
        numbers.setdefault(box.label, len(numbers))
    class_id = np.array([numbers[box.label] for box in boxes], np.int64)
    return Detections(found.xyxy, found.score, class_id)
