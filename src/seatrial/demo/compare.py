"""Detections of two models in one image: the boxes that both have, and those of one only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from seatrial.accuracy.compare import BoxSet, Comparison
from seatrial.accuracy.compare import compare as compare_boxes
from seatrial.accuracy.matching import Predictions
from seatrial.demo.workbench import FLOOR, View
from seatrial.detect.detections import Detections, label_of


def compare(first: View, second: View) -> Comparison:
    """The second model against the first, by the settings of the page.

    All gates compare by `seatrial.accuracy.predict.EVALUATION`. Here the counts are of the boxes
    that the page shows, and follow its controls. Boxes below its confidence take part: one that
    fell to just below it is not lost.

    Args:
        first: The parent.
        second: The child. Classes are compared by label, since each model has its own numbers.
    """
    numbers = {label: number for number, label in enumerate(first.model.labels)}
    parent, child = (Predictions.of([_numbered(view, numbers)]) for view in (first, second))
    return compare_boxes(
        BoxSet(child, images=1, categories=len(numbers)),
        BoxSet(parent, images=1, categories=len(numbers)),
        floor=first.choice.confidence,
    )


def _numbered(view: View, numbers: dict[str, int]) -> Detections:
    """The detections of the chosen classes, with the class numbers that both models share.

    Args:
        view: A model's view.
        numbers: Label -> shared number; it gets the labels that it has not.
    """
    found = view.answers[0].detections
    found = found[replace(view.choice, confidence=FLOOR).mask(found, view.model.labels)]
    labels = [label_of(class_id, view.model.labels) for class_id in found.class_id.tolist()]
    shared = [numbers.setdefault(label, len(numbers)) for label in labels]
    return replace(found, class_id=np.array(shared, np.int64))
