"""Labels as networks are trained on: classes, and boxes as fractions of their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seatrial.datasets.labels import LabelledSet
from seatrial.system.images import upright_size


@dataclass(frozen=True, slots=True)
class TrainingLabels:
    """A labelled set, image by image.

    Attributes:
        paths: Paths of the N images.
        sizes: Upright (width, height) of each image, pixels.
        classes: (G,) int64.
        cxcywh: (G, 4) float64: centre and size as fractions of the image, inside the image.
        begin: (N + 1,) first row of each image's objects.
    """

    paths: tuple[Path, ...]
    sizes: tuple[tuple[int, int], ...]
    classes: NDArray[np.int64]
    cxcywh: NDArray[np.float64]
    begin: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.paths)

    def of(self, image: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Classes (N,) and boxes (N, 4) of one image."""
        rows = slice(self.begin[image], self.begin[image + 1])
        return self.classes[rows], self.cxcywh[rows]


def training_labels(dataset: LabelledSet, classes: Sequence[int]) -> TrainingLabels:
    """Labels to train on: without crowds and without boxes that have no area in their image.

    Args:
        dataset: The labelled set.
        classes: Class of each of its categories.

    Raises:
        InvalidDataset: An image whose size the labels do not state cannot be read.
    """
    sizes = image_sizes(dataset)
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


def image_sizes(dataset: LabelledSet) -> tuple[tuple[int, int], ...]:
    """Upright (width, height) of each image, pixels: as the labels state, else from the file.

    Raises:
        InvalidDataset: See `seatrial.system.images.upright_size`.
    """
    return tuple(
        (image.width, image.height)
        if image.width is not None and image.height is not None
        else upright_size(image.path)
        for image in dataset.images
    )
