"""Model families: how their files are recognised and how their outputs become boxes."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec

from seatrial.deployment import Thresholds
from seatrial.detect.detections import Detections
from seatrial.detect.preprocess import Letterbox
from seatrial.engines.base import Arrays
from seatrial.graphs.signature import Channels, GraphSignature
from seatrial.manifest import Manifest, Preprocessing

UNNAMED = "N/A"
"""Label of a class without a name."""

NO_FEEDS: Arrays = {}
"""The answer of `Family.feeds` where a graph takes the image alone."""


class Recognition(msgspec.Struct, frozen=True, kw_only=True):
    """Facts that a family reads from a model file that it supports.

    Attributes:
        variant: Output layout within the family.
        preprocessing: How images are fitted; the size comes from the file.
        scale: Divisor of a pixel value, 0-255, for the graph in the file.
        mean_std: Means and deviations, in the order of `channels`, where the graph in the file
            takes normalised values: ``(value / scale - mean) / std``.
        channels: Order in which the graph in the file takes red, green and blue.
        labels: Class names; empty where the file names none: a person gives them (``--labels``).
        classes: Number of classes that the outputs have, which the labels are checked against;
            None where the outputs do not show it.
        background: Whether one column of the scores may be the background, which a list of names
            may leave out; the shape of the outputs does not show which column.
        outputs: Outputs that `Family.detections` reads: name in the file -> name in the artifact.
            The imported graph has these alone; empty: all, under their own names.
        confidence: Lowest confidence reported where neither a deployment nor a call says another.
        iou: The same for the overlap above which boxes of one class are one object (NMS).
        certain: Whether the file is surely of this family. False where other families have files
            of the same layout: it is taken where a person names the family (``--family``).
        licence: Licence as the file states it; ``"unknown"`` where it does not.
        facts: Further facts from the file, for example the stride; kept in the manifest's step.
        mask_input: Name of an input ``[N, rows, columns]`` of the graph in the file that is 1
            where the image is and 0 where padding is; the imported graph computes it from
            `seatrial.graphs.signature.VALID_HW`.
    """

    variant: str
    preprocessing: Preprocessing
    scale: float = 255.0
    mean_std: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    channels: Channels = "rgb"
    labels: tuple[str, ...] = ()
    classes: int | None = None
    background: bool = False
    outputs: dict[str, str] = {}
    confidence: float = 0.25
    iou: float = 0.7
    certain: bool = True
    licence: str = "unknown"
    facts: dict[str, str] = {}
    mask_input: str | None = None


class Family(Protocol):
    """Turns the outputs of one artifact's graph into detections."""

    def __init__(self, manifest: Manifest) -> None:
        """Bind to an artifact.

        Raises:
            InvalidArtifact: The labels do not fit the outputs, or the variant is unknown.
        """

    def feeds(self, letterbox: Letterbox) -> Arrays:
        """Inputs of the graph besides the image, of batch size 1; most graphs have none.

        Args:
            letterbox: Where the source image lies on the canvas.
        """

    def detections(
        self, outputs: Arrays, letterbox: Letterbox, thresholds: Thresholds
    ) -> Detections:
        """Decode the outputs of one image.

        Args:
            outputs: Output name -> array of batch size 1.
            letterbox: Where the source image lies on the canvas; maps boxes to source pixels.
            thresholds: What is reported.
        """


@runtime_checkable
class Doubtful(Protocol):
    """A family that tells its own outputs from those of a layout of the same shape."""

    def doubt(self, outputs: Arrays) -> str:
        """Why the outputs of one image cannot be of this family; empty where they can.

        Args:
            outputs: Output name -> array of batch size 1.
        """


@runtime_checkable
class OneByOne(Protocol):
    """A family of which some layouts do not keep the images of a batch apart."""

    def one_by_one(self) -> bool:
        """Whether a graph of this layout has to be given one image at a time."""


class FamilyClass(Protocol):
    """A class in the table of families.

    Attributes:
        accepts: One line about accepted files, for the error of a file that no family supports.
        unordered: Variants whose rows (queries, boxes) have no fixed order.
    """

    accepts: str
    unordered: tuple[str, ...]

    def __call__(self, manifest: Manifest) -> Family:
        """See `Family.__init__`."""

    def recognise(self, graph: GraphSignature) -> Recognition | None:
        """Read the layout of a model file; None where the file is not of this family.

        Raises:
            InvalidArtifact: The file is of this family and cannot be served; with the reason.
        """
