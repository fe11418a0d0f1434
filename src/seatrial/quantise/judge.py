"""The images that an INT8 version is judged on: with labels by AP, without by agreement."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seatrial.accuracy.compare import FLOOR, BoxSet, compare
from seatrial.accuracy.limits import LossLimits
from seatrial.accuracy.loss import Loss
from seatrial.accuracy.matching import Predictions
from seatrial.datasets.labels import (
    Category,
    LabelledImage,
    LabelledSet,
    Truth,
    known_categories,
    match_labels,
)
from seatrial.errors import InvalidDataset
from seatrial.progress import Progress, silent


@dataclass(frozen=True, slots=True)
class Judge:
    """Measures what an INT8 version lost on one set of images.

    Attributes:
        dataset: The images; its truth is empty where there are no labels.
        matched: (labels,) category of each class of the model, from `match_labels`.
        key: Digest of images and labels: equal for equal ones.
        limits: Draws of the bootstrap, and their seed.
        labelled: Whether AP decides; else agreement with the parent.
    """

    dataset: LabelledSet
    matched: NDArray[np.int64]
    key: str
    limits: LossLimits
    labelled: bool

    @classmethod
    def by_labels(cls, dataset: LabelledSet, labels: tuple[str, ...], limits: LossLimits) -> Judge:
        """Judge by AP, on the categories that the model and the set have in common.

        Raises:
            InvalidDataset: Labels of model and dataset do not match.
        """
        matched = match_labels(labels, dataset, unmatched="ignore")
        # Changes when an image is replaced: to read 5,000 of them only for this would take long.
        digest = hashlib.sha256()
        for image in dataset.images:
            with contextlib.suppress(OSError):  # reported when the image is opened
                state = image.path.stat()
                digest.update(f"{image.id} {state.st_size} {state.st_mtime_ns}\0".encode())
        return cls(
            dataset=known_categories(matched, dataset),
            matched=matched,
            key=f"{dataset.digest(areas=True)} {digest.hexdigest()}",
            limits=limits,
            labelled=True,
        )

    @classmethod
    def by_agreement(
        cls, files: tuple[Path, ...], labels: tuple[str, ...], limits: LossLimits, *, key: str
    ) -> Judge:
        """Judge by agreement with the parent, where there are no labels."""
        dataset = LabelledSet(
            source="images without labels",
            images=tuple(
                LabelledImage(index, file.name, file, None, None)
                for index, file in enumerate(files)
            ),
            categories=tuple(Category(index, name) for index, name in enumerate(labels)),
            truth=Truth.of([], [], []),
        )
        every = np.arange(len(labels), dtype=np.int64)
        return cls(dataset=dataset, matched=every, key=key, limits=limits, labelled=False)

    def boxes(self, predictions: Predictions) -> BoxSet:
        """Boxes on the images; with labels, and what they found of them."""
        if self.labelled:
            return BoxSet.on(self.dataset, predictions)
        return BoxSet(predictions, len(self.dataset.images), len(self.dataset.categories))

    def loss(self, child: BoxSet, parent: BoxSet, on_progress: Progress = silent) -> Loss:
        """The loss of the child against the parent.

        Raises:
            InvalidDataset: Without labels: the parent sees nothing.
            InvalidInput: The labels have no objects.
        """
        found = compare(
            child,
            parent,
            samples=self.limits.samples,
            seed=self.limits.seed,
            on_progress=on_progress,
        )
        if not self.labelled and (found.agreement is None or found.floor < FLOOR):
            raise InvalidDataset(
                f"the model sees nothing in the images with a confidence of {FLOOR:g} or more",
                hint="give images of what the model detects",
            )
        return Loss.of(found)
