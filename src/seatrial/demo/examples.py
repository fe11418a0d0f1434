"""Images and videos of a folder that a page offers to click."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg

from seatrial.demo.media import MAX_BYTES, preview
from seatrial.detect.preprocess import resize
from seatrial.errors import InvalidInput, SeatrialError
from seatrial.system.images import SUFFIXES as IMAGE_SUFFIXES
from seatrial.video.sources import SUFFIXES as VIDEO_SUFFIXES

MOST = 8
THUMBNAIL_WH = (160, 120)


@dataclass(frozen=True, slots=True)
class DemoExample:
    """A file to click."""

    path: Path
    thumbnail: bytes


def find_examples(folder: Path) -> list[DemoExample]:
    """Images and videos of a folder, at most `MOST`, at equal distances in the order of names.

    Args:
        folder: The folder; folders in it are not searched.

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
    # Names that begin alike are mostly frames of one scene: equal distances give other scenes.
    chosen = np.linspace(0, len(paths) - 1, min(MOST, len(paths)), dtype=int)
    found = [_example(paths[index]) for index in chosen]
    examples = [example for example in found if example is not None]
    if not examples:
        raise InvalidInput(
            f"{folder} holds no image and no video that can be shown",
            hint="seatrial data sample photos -o FOLDER makes some",
        )
    return examples


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
    return DemoExample(path, bytes(simplejpeg.encode_jpeg(small, quality=85)))
