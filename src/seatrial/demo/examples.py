"""Images and videos of a folder that a page offers to click: those in which the model sees some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import simplejpeg

from seatrial.demo.media import MAX_BYTES, preview
from seatrial.demo.models import Model
from seatrial.deployment import Thresholds
from seatrial.detect.preprocess import resize
from seatrial.errors import InvalidInput, SeatrialError
from seatrial.system.images import SUFFIXES as IMAGE_SUFFIXES
from seatrial.video.sources import SUFFIXES as VIDEO_SUFFIXES

T = TypeVar("T")
MOST = 8
CANDIDATES = 2 * MOST
THUMBNAIL_WH = (160, 120)


@dataclass(frozen=True, slots=True)
class DemoExample:
    """A file to click."""

    path: Path
    thumbnail: bytes
    image: bytes  # JPEG of the whole image, or of the first frame


def find_examples(folder: Path, most: int = MOST) -> list[DemoExample]:
    """Images and videos of a folder, at equal distances in the order of names.

    Args:
        folder: The folder; folders in it are not searched.
        most: Largest number of examples.

    Raises:
        InvalidInput: The folder cannot be read, or holds nothing that can be shown.
    """
    try:
        paths = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES
        )
    except OSError as error:
        raise InvalidInput(
            f"the examples in {folder} cannot be read: {error.strerror}",
            hint="seatrial data sample photos -o FOLDER makes some",
        ) from error
    found = [_example(path) for path in _spread(paths, most)]
    examples = [example for example in found if example is not None]
    if not examples:
        raise InvalidInput(
            f"{folder} holds no image and no video that can be shown",
            hint="seatrial data sample photos -o FOLDER makes some",
        )
    return examples


def telling(candidates: Sequence[DemoExample], model: Model) -> list[DemoExample]:
    """The examples in which a model finds something, at most `MOST`; all where it finds nothing.

    Args:
        candidates: Examples, in the order in which they are shown.
        model: It sees each image once, by the settings that a page begins with.

    Raises:
        ServiceFailed: The service does not answer.
    """
    answers = model.detect([example.image for example in candidates], Thresholds())
    found = [one for one, answer in zip(candidates, answers, strict=True) if answer.detections]
    return _spread(found or candidates, MOST)


def _spread(items: Sequence[T], most: int) -> list[T]:
    """Some of a list, at equal distances: names that begin alike are mostly frames of one scene."""
    chosen = np.linspace(0, len(items) - 1, min(most, len(items)), dtype=int)
    return [items[index] for index in chosen]


def _example(path: Path) -> DemoExample | None:
    """The example of a file; None for a file that is too large or damaged."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        image = preview(path.name, path.read_bytes())
    except (OSError, SeatrialError):
        return None
    # The middle of the image, always in one shape, so that thumbnails line up.
    height, width = image.shape[:2]
    inner_w = min(width, max(1, round(height * THUMBNAIL_WH[0] / THUMBNAIL_WH[1])))
    inner_h = min(height, max(1, round(width * THUMBNAIL_WH[1] / THUMBNAIL_WH[0])))
    top, left = (height - inner_h) // 2, (width - inner_w) // 2
    middle = np.ascontiguousarray(image[top : top + inner_h, left : left + inner_w])
    small = resize(middle, THUMBNAIL_WH[::-1], antialias=True)
    whole = np.ascontiguousarray(image)
    return DemoExample(
        path,
        thumbnail=bytes(simplejpeg.encode_jpeg(small, quality=85)),
        image=bytes(simplejpeg.encode_jpeg(whole, quality=95)),
    )
