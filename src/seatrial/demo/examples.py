"""Pictures and videos that are ready to click."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg

from seatrial.demo.media import CLIPS, MAX_BYTES, PICTURES, preview
from seatrial.detect.preprocess import resize
from seatrial.errors import InvalidInput, SeatrialError

MOST = 8
THUMBNAIL_WH = (160, 120)


@dataclass(frozen=True, slots=True)
class Example:
    """A file to look at, and a small JPEG of it."""

    path: Path
    thumbnail: bytes


def find_examples(folder: Path) -> list[Example]:
    """The first pictures and videos of a folder, at most `MOST`, spread over its names.

    Args:
        folder: Not searched for folders in it.

    Raises:
        InvalidInput: It cannot be read, or holds nothing that can be shown.
    """
    try:
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in (*PICTURES, *CLIPS))
    except OSError as error:
        raise InvalidInput(
            f"the examples in {folder} cannot be read: {error.strerror}",
            hint="seatrial data sample photos -o FOLDER makes some",
        ) from error
    # Names that begin alike are mostly frames of one scene: the step leads to others.
    chosen = [
        paths[index] for index in np.linspace(0, len(paths) - 1, min(MOST, len(paths)), dtype=int)
    ]
    examples = [example for example in map(_example, chosen) if example is not None]
    if not examples:
        raise InvalidInput(
            f"{folder} holds no picture and no video that can be shown",
            hint="seatrial data sample photos -o FOLDER makes some",
        )
    return examples


def _example(path: Path) -> Example | None:
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        image = preview(path.name, path.read_bytes())
    except (OSError, SeatrialError):  # one bad file does not keep the page from opening
        return None
    # The middle of the picture, in one shape: rows of thumbnails line up.
    height, width = image.shape[:2]
    inner_w = min(width, max(1, round(height * THUMBNAIL_WH[0] / THUMBNAIL_WH[1])))
    inner_h = min(height, max(1, round(width * THUMBNAIL_WH[1] / THUMBNAIL_WH[0])))
    top, left = (height - inner_h) // 2, (width - inner_w) // 2
    middle = np.ascontiguousarray(image[top : top + inner_h, left : left + inner_w])
    small = resize(middle, THUMBNAIL_WH[::-1], antialias=True)
    return Example(path, bytes(simplejpeg.encode_jpeg(small, quality=85)))
