"""Detections of some classes alone."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence

import msgspec
import numpy as np

from seatrial.deployment import MOST_DETECTIONS, Thresholds
from seatrial.detect.detections import Detections
from seatrial.errors import InvalidConfig, did_you_mean
from seatrial.system.text import plain


def class_ids(labels: Sequence[str], words: Iterable[str]) -> tuple[int, ...]:
    """The numbers of the classes that words name, each once, in the order of the words.

    Args:
        labels: Class names.
        words: Names, without regard to case and underscores, or numbers from 0; several in a word
            are separated by commas.

    Raises:
        InvalidConfig: The model has no such class.
    """
    numbers = {plain(label): number for number, label in enumerate(labels)}
    found: dict[int, None] = {}
    for word in _single(words, numbers):
        number = numbers.get(plain(word))
        if number is None and word.strip().isdecimal() and int(word) < len(labels):
            number = int(word)
        if number is None:
            known = f"it has: {', '.join(labels)}"
            raise InvalidConfig(
                f"the model has no class {word!r}",
                hint=did_you_mean(word, labels, otherwise=known),
            )
        found[number] = None
    return tuple(found)


def _single(words: Iterable[str], names: Container[str]) -> Iterator[str]:
    """The words, parted at commas that belong to no name."""
    for word in words:
        yield from [word] if plain(word) in names else filter(None, word.strip("[]").split(","))


def before_filter(thresholds: Thresholds, classes: Sequence[object]) -> Thresholds:
    """The thresholds to detect with, where `of_classes` follows.

    Boxes of the other classes must not use up the largest number of detections.

    Args:
        thresholds: The thresholds of the result.
        classes: The wanted classes; empty for all.
    """
    most = MOST_DETECTIONS if classes else thresholds.max_detections
    return msgspec.structs.replace(thresholds, max_detections=most)


def of_classes(detections: Detections, classes: Sequence[int], most: int) -> Detections:
    """The detections of some classes.

    Args:
        detections: Made with `before_filter`.
        classes: Numbers of the wanted classes; empty for all.
        most: Largest number of detections.
    """
    if not classes:
        return detections
    return detections[np.isin(detections.class_id, classes)][:most]
