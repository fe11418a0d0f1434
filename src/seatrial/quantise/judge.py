"""What a quantised detector must keep, and whether the pictures at hand can tell."""

from __future__ import annotations

import contextlib
import hashlib
from typing import Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.accuracy.bootstrap import Resampled, difference, resample
from seatrial.accuracy.calibration import Calibration, calibrate
from seatrial.accuracy.compare import agreement
from seatrial.accuracy.gate import Clause, Interval, Verdict, rule
from seatrial.accuracy.gate import judge as verdict
from seatrial.accuracy.matching import Predictions, match
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
from seatrial.quantise.calibration_images import CalibrationImages

Metric = Literal["ap", "agreement"]


class Gate(msgspec.Struct, frozen=True):
    """The condition.

    Attributes:
        drop: Largest loss: of AP (0-1) on labelled pictures, else of agreement with the parent.
        shift: Largest mean shift of the confidence of matched boxes, either way.
        samples: Draws of the bootstrap.
        seed: Of the draws.
    """

    drop: float = 0.005
    shift: float = 0.03
    samples: int = 1000
    seed: int = 0


class Finding(msgspec.Struct, frozen=True):
    """A child against its parent.

    Attributes:
        metric: ``ap``; or ``agreement``: boxes that both see, as a share of all (F1).
        parent: AP of the parent; its agreement with itself, 1.
        child: AP of the child; its agreement with the parent.
        drop: Parent less child.
        low: Lower end of the drop's interval.
        high: Upper end.
        level: Of the interval.
        images: Pictures measured on.
        mean_shift: Mean of child less parent confidence over matched boxes; None without any.
        mean_abs_shift: Mean of its size.
        matched: Boxes that both see, one of them with a confidence of 0.25 or more.
        lost: Boxes of the parent, at that confidence, that the child has not.
        gained: Boxes of the child that the parent has not.
    """

    metric: Metric
    parent: float
    child: float
    drop: float
    low: float
    high: float
    level: float
    images: int
    mean_shift: float | None
    mean_abs_shift: float | None
    matched: int
    lost: int
    gained: int


class Judge(Protocol):
    """Measures a child against its parent on one set of pictures."""

    metric: Metric
    pictures: LabelledSet  # what to detect in; its labels may be empty
    matched: NDArray[np.int64]  # class of the model -> category of the set
    key: str  # equal for equal pictures and labels

    def find(
        self, child: Predictions, parent: Predictions, on_progress: Progress = silent
    ) -> Finding:
        """Compare detections in `pictures`."""


class LabelJudge:
    """By AP on labelled pictures.

    Args:
        dataset: The labels.
        labels: Of the model.
        gate: Says how often to draw.

    Raises:
        InvalidDataset: Labels of model and dataset do not match.
    """

    metric: Metric = "ap"

    def __init__(self, dataset: LabelledSet, labels: tuple[str, ...], gate: Gate) -> None:
        self.matched = match_labels(labels, dataset, unmatched="ignore")
        self.pictures = known_categories(self.matched, dataset)
        self.key = f"{dataset.digest()} {_state(dataset)}"
        self._gate = gate
        # Many children are held against one parent: its draws are kept.
        self._parent: tuple[Predictions, Resampled] | None = None

    def find(
        self, child: Predictions, parent: Predictions, on_progress: Progress = silent
    ) -> Finding:
        """See `Judge.find`."""
        if self._parent is None or self._parent[0] is not parent:
            self._parent = parent, self._drawn(parent, on_progress)
        found = difference(self._parent[1], self._drawn(child, on_progress))
        moved = calibrate(child, parent, categories=len(self.pictures.categories))
        return _finding(
            "ap",
            (found.a, found.b),
            (0.0 - found.high, 0.0 - found.low),  # not -0.0
            found.level,
            found.images,
            moved,
        )

    def _drawn(self, predictions: Predictions, on_progress: Progress) -> Resampled:
        # The bootstrap needs no more than who found what.
        matches = match(
            self.pictures.truth,
            predictions,
            images=len(self.pictures.images),
            categories=len(self.pictures.categories),
        )
        return resample(
            matches,
            samples=self._gate.samples,
            seed=self._gate.seed,
            on_progress=on_progress,
        )


def _state(dataset: LabelledSet) -> str:
    """Changes when a picture is replaced; reading 5,000 of them only for this would take long."""
    digest = hashlib.sha256()
    for image in dataset.images:
        with contextlib.suppress(OSError):  # whoever opens it says so
            found = image.path.stat()
            digest.update(f"{image.id} {found.st_size} {found.st_mtime_ns}\0".encode())
    return digest.hexdigest()


class AgreementJudge:
    """By agreement with the parent, where no labels exist.

    Args:
        pictures: What both look at.
        labels: Of the model.
        gate: Says how often to draw.
        key: Equal for equal pictures.
    """

    metric: Metric = "agreement"

    def __init__(
        self, pictures: CalibrationImages, labels: tuple[str, ...], gate: Gate, key: str
    ) -> None:
        self.pictures = LabelledSet(
            source="pictures without labels",
            images=tuple(
                LabelledImage(index, file.name, file, None, None)
                for index, file in enumerate(pictures.files)
            ),
            categories=tuple(Category(index, name) for index, name in enumerate(labels)),
            truth=Truth.of([], [], []),
        )
        self.matched = np.arange(len(labels), dtype=np.int64)
        self.key = key
        self._gate = gate

    def find(
        self, child: Predictions, parent: Predictions, on_progress: Progress = silent
    ) -> Finding:
        """See `Judge.find`.

        Raises:
            InvalidDataset: Neither sees anything.
        """
        categories, images = len(self.pictures.categories), len(self.pictures.images)
        found = agreement(child, parent, images=images, categories=categories)
        if not found.boxes:
            raise InvalidDataset(
                "neither the model nor its INT8 version sees anything in the pictures",
                hint="give pictures of what the model detects",
            )
        low, high = found.interval(samples=self._gate.samples, seed=self._gate.seed)
        moved = calibrate(child, parent, categories=categories)
        return _finding(
            "agreement", (1.0, found.share), (1 - high, 1 - low), found.level, images, moved
        )


def _finding(
    metric: Metric,
    sides: tuple[float, float],
    interval: tuple[float, float],
    level: float,
    images: int,
    moved: Calibration,
) -> Finding:
    return Finding(
        metric=metric,
        parent=sides[0],
        child=sides[1],
        drop=sides[0] - sides[1],
        low=interval[0],
        high=interval[1],
        level=level,
        images=images,
        mean_shift=moved.mean_shift,
        mean_abs_shift=moved.mean_abs_shift,
        matched=moved.matched,
        lost=moved.lost,
        gained=moved.gained,
    )


def judge(finding: Finding, gate: Gate) -> Verdict:
    """The verdict of a gate on a finding."""
    what = "AP" if finding.metric == "ap" else "agreement with the parent"
    moves = "drops" if finding.drop >= 0 else "rises"
    drop = Clause(f"{finding.metric}_drop", gate.drop, label=f"drop of {what}")
    shift = Clause("confidence_shift", gate.shift, missing="fails")
    moved = "no box has a partner in the parent's"
    if finding.mean_shift is not None:
        moved = f"confidences move by {finding.mean_shift:+.4f} on average"
    return verdict(
        [
            rule(
                drop,
                finding.drop,
                Interval(finding.low, finding.high, finding.level, finding.images),
                text=f"{what} {moves} by {abs(finding.drop):.4f} ({finding.level:.0%} interval of "
                f"the drop {finding.low:+.4f} to {finding.high:+.4f}, {finding.images} images; "
                f"a drop of {gate.drop:g} is allowed)",
            ),
            rule(
                shift,
                None if finding.mean_shift is None else abs(finding.mean_shift),
                text=f"{moved} ({gate.shift:g} is allowed)",
            ),
        ]
    )
