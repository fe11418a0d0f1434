"""A small detection set of real pixels: handwritten digits, pasted on photos.

The digits are scikit-learn's copy of the test set of "Optical Recognition of Handwritten Digits"
(E. Alpaydin, C. Kaynak, 1998; UCI Machine Learning Repository, CC BY 4.0): 1,797 of 8 x 8 pixels,
by 13 writers. Boxes are exact: the smallest rectangle around the painted pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.datasets.labels import SPLITS, Category, Details, LabelledImage, LabelledSet, Truth
from seatrial.datasets.samples import photo_origins
from seatrial.errors import InvalidConfig, InvalidDataset
from seatrial.system.extras import require
from seatrial.system.images import is_foreign, only_images

CATEGORIES = tuple(Category(digit, str(digit)) for digit in range(10))
# Shares of the digits and of the images; the digits of one split are in no other.
SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
SIDE_RANGE = (0.10, 0.30)  # side of a digit's square, as a fraction of the image's side
MIN_SIDE_PX = 64
MAX_DIGITS = 20
GRID = 8  # pixels a side of scikit-learn's digits
INK_MAX = 16
FAINTEST = 64  # of 255: fainter ink is left out, so that the border of a box is visible ink
GAP_PX = 2
TRIES = 100


Layout = Literal["both", "coco", "yolo"]


class DigitsRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that determines the images; equal recipes give equal bytes.

    Attributes:
        count: Number of images in the three splits together.
        size_px: Side of the images, pixels.
        digits: Fewest and most digits of an image.
        seed: Seed of all random draws.
        hold_out_backgrounds: Whether a photo, and all frames of its clip, are behind images of one
            split only.
    """

    count: int = 1200
    size_px: int = 320
    digits: tuple[int, int] = (3, 8)
    seed: int = 0
    hold_out_backgrounds: bool = False

    def __post_init__(self) -> None:
        low, high = self.digits
        if self.count < 10:
            raise InvalidConfig(
                f"--count {self.count}: too few images to split", hint="at least 10"
            )
        if not MIN_SIDE_PX <= self.size_px <= 4096:
            raise InvalidConfig(f"--size {self.size_px} is not {MIN_SIDE_PX} to 4096 pixels")
        if not 0 <= low <= high <= MAX_DIGITS or high == 0:
            raise InvalidConfig(
                f"--digits {low} {high} is not a range", hint=f"0 to {MAX_DIGITS}, the fewest first"
            )
        if self.seed < 0:
            raise InvalidConfig(f"--seed {self.seed} is negative")

    def counts(self) -> dict[str, int]:
        """Number of images of each split."""
        held = {split: max(1, round(self.count * SHARES[split])) for split in ("val", "test")}
        return {"train": self.count - sum(held.values()), **held}


@dataclass(frozen=True, slots=True)
class Background:
    """A photo to paste on.

    Attributes:
        name: File name of the photo.
        group: Name of the photo or clip it was taken from; all frames of a clip have the same.
        image: (H, W, 3) uint8 BGR.
        licence: Licence that the publisher states; empty for a user's own photo.
    """

    name: str
    group: str
    image: NDArray[np.uint8]
    licence: str = ""


@dataclass(frozen=True, slots=True)
class DigitsImage:
    """One image of the set.

    Attributes:
        image: (size, size, 3) uint8 BGR.
        xywh: (N, 4) int64: left, top, width, height, pixels.
        digit: (N,) int64, 0-9.
        background: The photo behind the digits.
    """

    image: NDArray[np.uint8]
    xywh: NDArray[np.int64]
    digit: NDArray[np.int64]
    background: Background

    def labels(self) -> DigitsLabels:
        """Return the labels, without the pixels."""
        height, width = self.image.shape[:2]
        return DigitsLabels((height, width), self.xywh, self.digit, self.background.name)


@dataclass(frozen=True, slots=True)
class DigitsLabels:
    """The labels of one image, without its pixels.

    Attributes:
        size_hw: Height and width of the image, pixels.
        xywh: (N, 4) int64: left, top, width, height, pixels.
        digit: (N,) int64, 0-9.
        background: Name of the photo behind the digits.
    """

    size_hw: tuple[int, int]
    xywh: NDArray[np.int64]
    digit: NDArray[np.int64]
    background: str


def bundled_backgrounds() -> list[Background]:
    """The two photos of scikit-learn, for machines without a package registry."""
    datasets = require("sklearn.datasets", extra="data", purpose="handwritten digits")
    found = datasets.load_sample_images()
    return [
        Background(Path(name).name, Path(name).stem, np.ascontiguousarray(image[:, :, ::-1]),
                   "CC BY 2.0 (see scikit-learn's datasets/images/README.txt)")
        for name, image in zip(found.filenames, found.images, strict=True)
    ]  # fmt: skip


def folder_backgrounds(folder: Path) -> list[Background]:
    """The photos of a folder; frames of one clip of the sample photos are one group.

    Raises:
        InvalidDataset: The folder has no photos, or one cannot be decoded.
    """
    origins = photo_origins(folder)
    found = []
    for path in only_images(folder.glob("*")):
        if is_foreign(path):
            continue
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise InvalidDataset(f"{path} cannot be decoded", hint="remove it from the folder")
        group, licence = origins.get(path.name, (path.stem, ""))
        found.append(Background(path.name, group, np.asarray(image, np.uint8), licence))
    if not found:
        raise InvalidDataset(f"{folder} holds no JPEG, PNG or WebP", hint="name a folder of photos")
    return found


def render(
    recipe: DigitsRecipe, backgrounds: Sequence[Background]
) -> Iterator[tuple[str, int, DigitsImage]]:
    """The images, one at a time.

    An image depends on the seed, its split and its number only, so that a larger set begins with
    the images of a smaller one.

    Yields:
        Split, number from 0, and the image.

    Raises:
        InvalidConfig: Photos are to be held out, and there are fewer than three groups of them.
        MissingExtra: scikit-learn is not installed.
    """
    photos = _share_backgrounds(recipe, backgrounds)
    glyphs = _share_digits(recipe.seed)
    for number_of_split, (split, count) in enumerate(recipe.counts().items()):
        for number in range(count):
            draw = np.random.default_rng([recipe.seed, number_of_split, number])
            yield split, number, _image(recipe, photos[split], glyphs[split], draw)


def labelled_set(
    folder: Path, split: str, licence: str, made: Sequence[tuple[str, DigitsLabels]]
) -> LabelledSet:
    """The labels of one split.

    Args:
        folder: Folder of the images.
        split: Name of the split.
        licence: Licence of the digits.
        made: File name of each image, and its labels.
    """
    images = [
        LabelledImage(number, name, folder / name, one.size_hw[1], one.size_hw[0])
        for number, (name, one) in enumerate(made, 1)
    ]
    counts = [len(one.digit) for _, one in made]
    return LabelledSet(
        source=f"digits {split}",
        images=tuple(images),
        categories=CATEGORIES,
        truth=Truth.of(
            np.repeat(np.arange(len(images)), counts),
            np.concatenate([one.digit for _, one in made]),
            np.concatenate([one.xywh for _, one in made]),
        ),
        details=Details(
            images=tuple({} for _ in images),
            objects=({},) * sum(counts),
            file={
                "info": {
                    "description": f"handwritten digits on photos, {split}",
                    "contributor": licence,
                }
            },
        ),
    )


def _share_backgrounds(
    recipe: DigitsRecipe, backgrounds: Sequence[Background]
) -> dict[str, list[Background]]:
    if not recipe.hold_out_backgrounds:
        return {split: list(backgrounds) for split in SPLITS}
    groups = sorted({background.group for background in backgrounds})
    if len(groups) < len(SPLITS):
        raise InvalidConfig(
            f"{len(groups)} photos cannot be held out of each other in three splits",
            hint="give at least three photos that are not frames of one clip",
        )
    drawn = np.random.default_rng([recipe.seed, len(SPLITS)]).permutation(groups).tolist()
    held = max(1, len(groups) // 4)
    chosen = {"val": drawn[:held], "test": drawn[held : 2 * held], "train": drawn[2 * held :]}
    return {
        split: [background for background in backgrounds if background.group in chosen[split]]
        for split in SPLITS
    }


Glyphs = Mapping[int, NDArray[np.uint8]]
"""Digit -> (N, GRID, GRID) uint8, ink 0-255."""


@functools.cache
def _share_digits(seed: int) -> dict[str, Glyphs]:
    """Split -> class -> handwritten digits; no digit is in two splits."""
    datasets = require("sklearn.datasets", extra="data", purpose="handwritten digits")
    found = datasets.load_digits()
    ink = np.rint(found.images * (255 / INK_MAX)).astype(np.uint8)
    order = np.random.default_rng([seed, len(SPLITS) + 1]).permutation(len(ink))
    shares: dict[str, dict[int, NDArray[np.uint8]]] = {split: {} for split in SPLITS}
    for category in CATEGORIES:
        own = ink[order[found.target[order] == category.id]]
        ends = np.rint(np.cumsum(list(SHARES.values())) * len(own)).astype(int)
        for split, part in zip(SHARES, np.split(own, ends[:-1]), strict=True):
            shares[split][category.id] = part
    return dict(shares)


def _image(
    recipe: DigitsRecipe,
    backgrounds: Sequence[Background],
    glyphs: Glyphs,
    draw: np.random.Generator,
) -> DigitsImage:
    background = backgrounds[int(draw.integers(len(backgrounds)))]
    canvas = _crop(background.image, recipe.size_px, draw)
    low, high = recipe.digits
    digits = draw.integers(0, 10, draw.integers(low, high + 1))
    masks = [glyphs[digit][draw.integers(len(glyphs[digit]))] for digit in digits.tolist()]
    boxes = []
    for mask, (left, top, side) in zip(
        masks, _places(len(masks), recipe.size_px, draw), strict=True
    ):
        boxes.append(_paste(canvas, mask, left, top, side, draw))
    xywh = np.array(boxes, np.int64).reshape(-1, 4)
    return DigitsImage(canvas, xywh, digits.astype(np.int64), background)


def _crop(photo: NDArray[np.uint8], size_px: int, draw: np.random.Generator) -> NDArray[np.uint8]:
    """A square of the photo, half to all of its shorter side, resized to the size of the image."""
    height, width = photo.shape[:2]
    shorter = min(height, width)
    side = int(draw.integers(max(1, shorter // 2), shorter + 1))
    top, left = int(draw.integers(height - side + 1)), int(draw.integers(width - side + 1))
    method = cv2.INTER_AREA if side > size_px else cv2.INTER_LINEAR
    part = photo[top : top + side, left : left + side]
    return np.asarray(cv2.resize(part, (size_px, size_px), interpolation=method), np.uint8)


def _places(count: int, size_px: int, draw: np.random.Generator) -> list[tuple[int, int, int]]:
    """(left, top, side) of squares in the image that do not touch, pixels."""
    smallest, largest = (round(share * size_px) for share in SIDE_RANGE)
    # Squares at random places can cover about half of the area.
    largest = max(smallest, min(largest, int(0.9 * size_px / (count + 1) ** 0.5)))
    sides = draw.integers(smallest, largest + 1, count)
    while True:
        found = _random_places(sides.tolist(), size_px, draw)
        if found is not None:
            return found
        sides = np.maximum(smallest, sides * 9 // 10)


def _random_places(
    sides: Sequence[int], size_px: int, draw: np.random.Generator
) -> list[tuple[int, int, int]] | None:
    placed: list[tuple[int, int, int]] = []
    for side in sides:
        for _ in range(TRIES):
            left, top = draw.integers(0, size_px - side + 1, 2).tolist()
            if all(
                left + side + GAP_PX <= x or x + s + GAP_PX <= left
                or top + side + GAP_PX <= y or y + s + GAP_PX <= top
                for x, y, s in placed
            ):  # fmt: skip
                placed.append((left, top, side))
                break
        else:
            return None
    return placed


def _paste(
    canvas: NDArray[np.uint8],
    glyph: NDArray[np.uint8],
    left: int,
    top: int,
    side: int,
    draw: np.random.Generator,
) -> tuple[int, int, int, int]:
    """Paint a digit into a square of the canvas: light ink on a dark background, or dark on light.

    Returns:
        Left, top, width, height of the painted pixels.
    """
    # A margin of one pixel, so that strokes at the border are not cut.
    padded = np.pad(glyph, 1)
    alpha = cv2.resize(padded, (side, side), interpolation=cv2.INTER_CUBIC)
    alpha = np.where(alpha < FAINTEST, 0, alpha).astype(np.uint32)
    rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    y, x, bottom, right = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    alpha = alpha[y:bottom, x:right, None]
    under = canvas[top + y : top + bottom, left + x : left + right]
    bright = int(under.astype(np.uint32).sum()) > 127 * under.size
    ink = draw.integers(0, 71, 3) if bright else draw.integers(185, 256, 3)
    mixed = (under * (255 - alpha) + ink.astype(np.uint32) * alpha + 127) // 255
    under[:] = mixed.astype(np.uint8)
    return int(left + x), int(top + y), int(right - x), int(bottom - y)
