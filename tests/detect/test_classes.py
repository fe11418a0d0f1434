"""Detections of some classes: what words name them, and what is left."""

from __future__ import annotations

import numpy as np
import pytest

from seatrial.deployment import Thresholds
from seatrial.detect.classes import before_filter, class_ids, of_classes
from seatrial.detect.detections import Detections
from seatrial.errors import InvalidConfig

LABELS = ("person", "traffic light", "7", "a, b")


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (["person"], (0,)),
        (["Traffic_Light", "0"], (1, 0)),
        (["1,person", "person"], (1, 0)),
        (["[0, 1]"], (0, 1)),
        (["7"], (2,)),  # a name goes before a number
        (["a, b"], (3,)),  # the comma belongs to the name
        ([], ()),
    ],
)
def test_words_name_classes(words: list[str], ids: tuple[int, ...]) -> None:
    assert class_ids(LABELS, words) == ids


@pytest.mark.parametrize("word", ["4", "-1", "dog", "person,dog"])
def test_a_class_that_is_not_there_is_refused(word: str) -> None:
    with pytest.raises(InvalidConfig, match="the model has no class"):
        class_ids(LABELS, [word])


def test_other_classes_do_not_use_up_the_boxes() -> None:
    found = Detections(
        np.zeros((4, 4), np.float32),
        np.array([0.9, 0.8, 0.7, 0.6], np.float32),
        np.array([0, 1, 0, 1]),
    )
    assert of_classes(found, (1,), 1).score.tolist() == pytest.approx([0.8])
    assert of_classes(found, (), 1) is found
    asked = Thresholds(max_detections=1)
    assert before_filter(asked, (1,)).max_detections == 30_000
    assert before_filter(asked, ()) == asked
