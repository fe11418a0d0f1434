"""A contact sheet: images of a dataset with the boxes of their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from seatrial.datasets.convert import FormatName
from seatrial.datasets.inspection import MAX_PIXELS
from seatrial.datasets.labels import LabelledSet
from seatrial.datasets.splits import read_dataset
from seatrial.detect.decode import decode_file
from seatrial.detect.detections import Detections
from seatrial.detect.draw import check_image_name, draw, encode_image
from seatrial.errors import InvalidConfig, InvalidDataset, InvalidInput
from seatrial.report.numbers import counted
from seatrial.system.files import check_place, write_atomically, writing
from seatrial.system.text import plain

SAVE_HINT = "name another file (--output)"
# Of a sheet: a JPEG has no longer sides; 600 MB of memory.
MOST_SIDE_PX, MOST_PIXELS = 65_500, 200_000_000
GAP_PX = 6
CAPTION_PX = 18
PAPER, INK, GREY = (255, 255, 255), (40, 40, 40), (235, 235, 235)
_FONT, _SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.38


@dataclass(frozen=True, kw_only=True)
class PreviewOptions:
    """Content and layout of a contact sheet.

    Attributes:
        split: One split [default: all].
        only: Images with an object of this class only.
        count: Number of images, drawn at random; 0 for all.
        columns: Images in a row.
        tile: Side of an image's tile, at least 32 pixels.
        seed: Seed of the random draw.
        format: Format of the labels [default: found by the files].
        annotations: COCO's JSON file, another data.yaml, or VOC's list of classes.
    """

    split: str | None = None
    only: str | None = None
    count: int = 24
    columns: int = 6
    tile: int = 240
    seed: int = 0
    format: FormatName | None = None
    annotations: Path | None = None

    def __post_init__(self) -> None:
        if self.count < 0 or self.columns < 1 or self.tile < 32:
            raise InvalidConfig("--count must be 0 or more, --columns 1 or more, --tile 32 or more")


def preview(
    folder: Path,
    sheet: Path,
    options: PreviewOptions = PreviewOptions(),
) -> int:
    """Draw a contact sheet. Labels that cannot be used are left out.

    Args:
        folder: Folder of the dataset.
        sheet: JPEG, PNG or WebP file to write; it appears whole or not at all.
        options: What is on the sheet.

    Returns:
        Number of images on the sheet.

    Raises:
        InvalidInput: The suffix of the file is not that of an image that can be written, or the
            file is one of the dataset's.
        InvalidDataset: There is no such split or class, or no image to draw.
        NotWritable: The file cannot be written.
    """
    check_image_name(sheet)
    sets = read_dataset(
        folder, options.format, options.annotations, on_issue=lambda issue: None
    ).sets
    if options.split is not None and options.split not in sets:
        raise InvalidDataset(
            f"{folder} has no split {options.split}", hint=f"it has: {', '.join(sets)}"
        )
    with writing(sheet, hint=SAVE_HINT):
        sheet.parent.mkdir(parents=True, exist_ok=True)
    read = (file for labelled in sets.values() for file in labelled.files())
    check_place(sheet, hint=SAVE_HINT, inputs=read)
    shown = [
        (name, labelled, index)
        for name, labelled in sets.items()
        if options.split in (None, name)
        for index in _with_class(labelled, options.only)
        if labelled.images[index].path.is_file()
    ]
    if not shown:
        wanted = f" with {options.only!r}" if options.only else ""
        raise InvalidDataset(f"{folder} has no image{wanted} to show")
    if options.count and options.count < len(shown):
        chance = np.random.default_rng(options.seed)
        drawn = chance.choice(len(shown), options.count, replace=False)
        shown = [shown[number] for number in sorted(drawn.tolist())]
    _check_sheet(len(shown), options)
    tiles = [_tile(labelled, index, name, options.tile) for name, labelled, index in shown]
    data = encode_image(_sheet(tiles, options.columns), sheet)
    with writing(sheet, hint=SAVE_HINT):
        write_atomically(sheet, data)
    return len(tiles)


def _check_sheet(count: int, options: PreviewOptions) -> None:
    columns = min(options.columns, count)
    side_px = options.tile + GAP_PX
    width, height = columns * side_px + GAP_PX, -(-count // columns) * side_px + GAP_PX
    if max(width, height) > MOST_SIDE_PX or width * height > MOST_PIXELS:
        raise InvalidConfig(
            f"a sheet of {counted(count, 'image')} would have {width} x {height} pixels",
            hint="show fewer (--count), or make them smaller (--tile)",
        )


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
    """(side + CAPTION_PX, side, 3) uint8 RGB: an image with its boxes, and a line of text."""
    image = labelled.images[index]
    own = np.flatnonzero(labelled.truth.image == index)
    canvas = np.full((side + CAPTION_PX, side, 3), GREY, np.uint8)
    canvas[side:] = PAPER
    try:
        pixels = decode_file(image.path, max_pixels=MAX_PIXELS)
    except InvalidInput as error:
        _text(canvas, f"damaged: {error}", (4, side // 2))
    else:
        height, width = pixels.shape[:2]
        scale = side / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
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
    """Write one line; without its beginning where it is too long: the end of a path says more."""
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
