"""What a model family is: how its files are recognised and how its outputs become boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from seatrial.artifact import Manifest, Preprocessing
from seatrial.deployment import Thresholds
from seatrial.detect.detections import Detections
from seatrial.detect.preprocess import Letterbox
from seatrial.engines.base import Arrays
from seatrial.graphs.signature import GraphSignature

NO_FEEDS: Arrays = {}
"""What `Family.feeds` answers where a graph takes the picture alone."""


class Recognition(msgspec.Struct, frozen=True):
    """What a family reads off a model file that it knows.

    Attributes:
        variant: Output layout within the family.
        preprocessing: How pictures are fitted; the size comes from the file.
        scale: A pixel value, 0-255, is divided by this for the graph as it comes.
        mean_std: Red, green and blue means and deviations of the scaled value, where the graph
            as it comes wants it normalised: ``(value / scale - mean) / std``.
        mask_input: An input of the graph as it comes, ``[N, rows, columns]``, that is 1 where the
            picture is and 0 where padding is; the graph is made to compute it from
            `seatrial.graphs.signature.VALID_HW`.
        labels: Class names.
        licence: As the file states it; ``"unknown"`` where it does not.
        facts: Further facts from the file, for example the stride; kept in the manifest's step.
    """

    variant: str
    preprocessing: Preprocessing
    scale: float
    labels: tuple[str, ...]
    licence: str
    facts: dict[str, str]
    mean_std: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    mask_input: str | None = None


class Family(Protocol):
    """Turns the outputs of one artifact's graph into detections."""

    def __init__(self, manifest: Manifest) -> None:
        """Bind to an artifact.

        Raises:
            InvalidArtifact: Labels and outputs do not fit together.
        """

    def feeds(self, canvas: Letterbox) -> Arrays:
        """What the graph takes besides the picture, of batch size 1; most take nothing.

        Args:
            canvas: How the source image was fitted.
        """

    def detections(self, outputs: Arrays, canvas: Letterbox, options: Thresholds) -> Detections:
        """Decode one image's outputs.

        Args:
            outputs: Output name -> array of batch size 1.
            canvas: How the source image was fitted; maps boxes back to source pixels.
            options: Thresholds.
        """


class FamilyClass(Protocol):
    """What the family table points to."""

    accepts: str  # one line for the error of a file that no family knows
    unordered: tuple[str, ...]  # variants whose rows (queries, boxes) come in no fixed order

    def __call__(self, manifest: Manifest) -> Family:
        """See `Family.__init__`."""

    def recognise(self, graph: GraphSignature) -> Recognition | None:
        """Read a model file's layout; None where it is not of this family.

        Raises:
            InvalidArtifact: It is of this family and cannot be served, with the reason.
        """


def label_of(class_id: int, labels: Sequence[str]) -> str:
    """A class's name; its number where an end-to-end graph knows more classes than names."""
    return labels[class_id] if 0 <= class_id < len(labels) else str(class_id)
