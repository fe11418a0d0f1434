"""A contact sheet: pictures of a dataset with the boxes that its labels say."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from seatrial.datasets.labels import LabelledSet, plain
from seatrial.datasets.near_duplicates import MAX_PIXELS
from seatrial.datasets.samples import JPEG_QUALITY
from seatrial.datasets.splits import read_dataset
from seatrial.detect.decode import decode
from seatrial.detect.detections import Detections
from seatrial.detect.draw import draw
from seatrial.errors import InvalidConfig, InvalidDataset, InvalidInput, NotWritable

SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
GAP_PX = 6
CAPTION_PX = 18
PAPER, INK, GREY = (255, 255, 255), (40, 40, 40), (235, 235, 235)
_FONT, _SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.38


def preview(
    folder: Path,
    sheet: Path,
    *,
    kind: str | None = None,
    annotations: Path | None = None,
    split: str | None = None,
    only: str | None = None,
    count: int = 24,
    columns: int = 6,
    tile_px: int = 240,
    seed: int = 0,
) -> int:
    """Draw a contact sheet. Labels that cannot be used are left out.

    Args:
        folder: Of the dataset.
        sheet: JPEG or PNG file to write; it appears whole or not at all.
        kind: Format; told by looking if None.
        annotations: See `seatrial.datasets.labels.Format.read`.
        split: One split; all if None.
        only: Pictures with an object of this class.
        count: Pictures, drawn at random; 0 for all.
        columns: Pictures in a row.
        tile_px: Side of the square that each picture is fitted into.
        seed: Of the draw.

    Returns:
        Pictures on the sheet.

    Raises:
        InvalidConfig: The file's name is not a picture's, or a number is not positive.
        InvalidDataset: There is no such split or class, or nothing to show.
        NotWritable: The file cannot be written.
    """
    if sheet.suffix.lower() not in SUFFIXES:
        raise InvalidConfig(f"{sheet} is no .jpg or .png", hint="name the sheet preview.jpg")
    if count < 0 or columns < 1 or tile_px < 32:
        raise InvalidConfig("a sheet needs a column, and tiles of at least 32 px")
    sets = read_dataset(folder, kind, annotations, report=lambda finding: None).sets
    if split is not None and split not in sets:
        raise InvalidDataset(f"{folder} has no split {split}", hint=f"it has: {', '.join(sets)}")
    shown = [
        (name, labelled, index)
        for name, labelled in sets.items()
        if split in (None, name)
        for index in _with_class(labelled, only)
        if labelled.images[index].path.is_file()
    ]
    if not shown:
        wanted = f" with {only!r}" if only else ""
        raise InvalidDataset(f"{folder} has no picture{wanted} to show")
    if count and count < len(shown):
        drawn = np.random.default_rng(seed).choice(len(shown), count, replace=False)
        shown = [shown[number] for number in sorted(drawn.tolist())]
    tiles = [_tile(labelled, index, name, tile_px) for name, labelled, index in shown]
    _write(_sheet(tiles, columns), sheet)
    return len(tiles)


def _with_class(labelled: LabelledSet, only: str | None) -> Sequence[int]:
    if only is None:
        return range(len(labelled.images))
    numbers = [n for n, c in enumerate(labelled.categories) if plain(c.name) == plain(only)]
    if not numbers:
        known = ", ".join(category.name for category in labelled.categories)
        raise InvalidDataset(f"{labelled.source} has no class {only!r}", hint=f"it has: {known}")
    own = labelled.truth.image[np.isin(labelled.truth.category, numbers)]
    return [int(index) for index in np.unique(own)]


def _tile(labelled: LabelledSet, index: int, split: str, side: int) -> NDArray[np.uint8]:
    """(side + CAPTION_PX, side, 3) uint8 RGB: a picture with its boxes, and a line of text."""
    image = labelled.images[index]
    own = np.flatnonzero(labelled.truth.image == index)
    canvas = np.full((side + CAPTION_PX, side, 3), GREY, np.uint8)
    canvas[side:] = PAPER
    try:
        picture = decode(image.path.read_bytes(), max_pixels=MAX_PIXELS)
    except (InvalidInput, OSError) as error:
        _text(canvas, f"broken: {error}", (4, side // 2))
    else:
        height, width = picture.shape[:2]
        scale = side / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        names = [category.name for category in labelled.categories]
        boxes = _boxes(labelled, own, scale)
        marked = draw(np.asarray(small, np.uint8), boxes, names, scores=False)
        top, left = (side - size[1]) // 2, (side - size[0]) // 2
        canvas[top : top + size[1], left : left + size[0]] = marked
    caption = f"{split + '/' if split else ''}{image.name}: {len(own)}"
    _text(canvas, caption, (2, side + CAPTION_PX - 5))
    return canvas


def _boxes(labelled: LabelledSet, own: NDArray[np.intp], scale: float) -> Detections:
    truth = labelled.truth.take(own)
    corners = np.column_stack([truth.xywh[:, :2], truth.xywh[:, :2] + truth.xywh[:, 2:]])
    return Detections(
        (corners * scale).astype(np.float32), np.ones(len(truth), np.float32), truth.category
    )


def _text(canvas: NDArray[np.uint8], text: str, origin: tuple[int, int]) -> None:
    """One line, without its beginning where there is no room: the end of a path tells more."""
    while len(text) > 4 and cv2.getTextSize(text, _FONT, _SCALE, 1)[0][0] > canvas.shape[1] - 4:
        text = "..." + text.removeprefix("...")[1:]
    cv2.putText(canvas, text, origin, _FONT, _SCALE, INK, 1, cv2.LINE_AA)


def _sheet(tiles: Sequence[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    height, width = tiles[0].shape[:2]
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    step_y, step_x = height + GAP_PX, width + GAP_PX
    sheet = np.full((rows * step_y + GAP_PX, columns * step_x + GAP_PX, 3), PAPER, np.uint8)
    for number, tile in enumerate(tiles):
        top = GAP_PX + number // columns * step_y
        left = GAP_PX + number % columns * step_x
        sheet[top : top + height, left : left + width] = tile
    return sheet


def _write(image: NDArray[np.uint8], path: Path) -> None:
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(path.suffix, bgr, options if path.suffix != ".png" else [])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".preview-") as part:
            part.write(data.tobytes())
            part.flush()
            os.chmod(part.name, 0o644)
            os.link(part.name, f"{part.name}.whole")
            os.replace(f"{part.name}.whole", path)
    except OSError as error:
        raise NotWritable(f"{path} cannot be written: {error.strerror}") from error
