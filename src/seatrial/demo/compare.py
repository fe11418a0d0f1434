"""What two models see in one picture: which boxes both have, and which only one of them."""

from __future__ import annotations

import numpy as np

from seatrial.accuracy.compare import BoxAgreement, box_agreement
from seatrial.demo.render import as_detections
from seatrial.demo.workbench import View
from seatrial.detect.detections import Detections


def compare(first: View, second: View) -> BoxAgreement:
    """Match the boxes that two views of one picture show.

    Args:
        first: Its labels number the classes: the two may number them each in their own way.
        second: A class that the first does not know is one of its own.
    """
    numbers = {label: number for number, label in enumerate(first.model.labels)}
    seen = [_numbered(view, numbers) for view in (first, second)]
    return box_agreement([seen[0]], [seen[1]], floor=first.choice.confidence)


def _numbered(view: View, numbers: dict[str, int]) -> Detections:
    boxes = view.seen[0].detections
    found = as_detections(boxes)
    for box in boxes:
        numbers.setdefault(box.label, len(numbers))
    class_id = np.array([numbers[box.label] for box in boxes], np.int64)
    return Detections(found.xyxy, found.score, class_id)
