"""Labels as networks are trained on: classes, and boxes as fractions of their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seatrial.datasets.labels import LabelledSet
from seatrial.detect.decode import decode
from seatrial.detect.detector import MAX_PIXELS
from seatrial.errors import InvalidDataset, InvalidInput


@dataclass(frozen=True, slots=True)
class TrainingLabels:
    """A labelled set, picture by picture.

    Attributes:
        paths: Of the pictures.
        sizes: (width, height) of each, upright, pixels.
        classes: (G,) int64.
        cxcywh: (G, 4) float64: centre and size as fractions of the picture, inside of it.
        begin: (N + 1,) where each picture's objects begin.
    """

    paths: tuple[Path, ...]
    sizes: tuple[tuple[int, int], ...]
    classes: NDArray[np.int64]
    cxcywh: NDArray[np.float64]
    begin: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.paths)

    def of(self, picture: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Classes (N,) and boxes (N, 4) of one picture."""
        rows = slice(self.begin[picture], self.begin[picture + 1])
        return self.classes[rows], self.cxcywh[rows]


def targets(dataset: LabelledSet, classes: Sequence[int]) -> TrainingLabels:
    """Turn labels into targets; crowds, and what has no area in its picture, are left out.

    Args:
        dataset: The labels.
        classes: For each of its categories, the class.

    Raises:
        InvalidDataset: A picture whose size the labels do not tell cannot be read.
    """
    sizes = tuple(
        (image.width, image.height)
        if image.width is not None and image.height is not None
        else _size(image.path)
        for image in dataset.images
    )
    truth = dataset.truth
    size = np.array(sizes, np.float64).reshape(-1, 2)[truth.image]
    low = np.clip(truth.xywh[:, :2] / size, 0, 1)
    high = np.clip((truth.xywh[:, :2] + truth.xywh[:, 2:]) / size, 0, 1)
    kept = np.flatnonzero((high > low).all(axis=1) & ~truth.crowd)
    kept = kept[np.argsort(truth.image[kept], kind="stable")]
    counts = np.bincount(truth.image[kept], minlength=len(dataset.images))
    low, high = low[kept], high[kept]
    return TrainingLabels(
        paths=tuple(image.path for image in dataset.images),
        sizes=sizes,
        classes=np.asarray(classes, np.int64)[truth.category[kept]],
        cxcywh=np.hstack([(low + high) / 2, high - low]),
        begin=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )


def _size(path: Path) -> tuple[int, int]:
    height, width = read_picture(path).shape[:2]
    return width, height


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A picture, (H, W, 3) uint8 RGB, upright, as the service decodes it.

    Raises:
        InvalidDataset: It cannot be read or decoded.
    """
    try:
        return decode(path.read_bytes(), max_pixels=MAX_PIXELS)
    except OSError as error:
        raise InvalidDataset(f"{path} cannot be read: {error.strerror}") from error
    except InvalidInput as error:
        raise InvalidDataset(f"{path}: {error.message}", hint="seatrial data check") from error
