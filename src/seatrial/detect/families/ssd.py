"""SSD with its boxes decoded in the graph.

One layout, ``decoded``, which `seatrial.models.sources.sample_ssd` writes:

- ``boxes``: ``[N, A, 4]`` float32: left, top, right, bottom, as fractions of the canvas, 0-1.
- ``scores``: ``[N, A, classes]`` float32 after the sigmoid, without a background class.

The input is uint8 RGB ``[N, H, W, 3]``: normalisation is in the graph. NMS is done here.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec
import numpy as np

from seatrial.config import decode_json
from seatrial.deployment import Thresholds
from seatrial.detect.detections import Detections
from seatrial.detect.families.base import NO_FEEDS, Recognition
from seatrial.detect.postprocess import find
from seatrial.detect.preprocess import Letterbox
from seatrial.engines.base import Arrays
from seatrial.errors import InvalidArtifact, InvalidInput
from seatrial.graphs.signature import GraphSignature
from seatrial.manifest import Manifest, Preprocessing, TensorSpec

VARIANT = "decoded"
BOXES, SCORES = "boxes", "scores"
METADATA_KEY = "seatrial.ssd"


class SsdMetadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Description that a graph file carries, as JSON under `METADATA_KEY`.

    Attributes:
        labels: Class names, in the order of the last dimension of ``scores``.
        licence: Licence of the weights.
        preprocessing: How images are fitted.
    """

    labels: tuple[str, ...]
    licence: str
    preprocessing: Preprocessing


class Ssd:
    """Decodes the outputs of one SSD artifact."""

    accepts: ClassVar[str] = (
        "an ONNX file that Seatrial wrote for an SSD, with its metadata: one uint8 input "
        "[N, H, W, 3] and the outputs boxes [N, anchors, 4] and scores [N, anchors, classes]"
    )
    unordered: ClassVar[tuple[str, ...]] = ()

    def __init__(self, manifest: Manifest) -> None:
        if manifest.variant != VARIANT:
            raise InvalidArtifact(f"unknown SSD output layout {manifest.variant!r}")
        _check_outputs(manifest.outputs, len(manifest.labels))

    def feeds(self, letterbox: Letterbox) -> Arrays:
        """See `seatrial.detect.families.base.Family.feeds`."""
        return NO_FEEDS

    def detections(
        self, outputs: Arrays, letterbox: Letterbox, thresholds: Thresholds
    ) -> Detections:
        """See `seatrial.detect.families.base.Family.detections`."""
        boxes, scores = outputs[BOXES][0], outputs[SCORES][0]  # (A, 4), (A, classes)
        height, width = letterbox.size_hw
        size = np.array([width, height, width, height], np.float32)
        return find(scores, lambda anchors: boxes[anchors] * size, letterbox, thresholds)

    @staticmethod
    def recognise(graph: GraphSignature) -> Recognition | None:
        """See `seatrial.detect.families.base.FamilyClass.recognise`."""
        if {output.name for output in graph.outputs} != {BOXES, SCORES}:
            return None
        facts = _metadata(graph)
        _check_outputs(graph.outputs, len(facts.labels))
        _check_input(graph, facts.preprocessing.size_hw)
        return Recognition(
            variant=VARIANT,
            preprocessing=facts.preprocessing,
            scale=1.0,  # the graph takes pixel values, 0-255, and normalises them itself
            labels=facts.labels,
            licence=facts.licence,
            facts={},
        )


def _metadata(graph: GraphSignature) -> SsdMetadata:
    text = graph.metadata.get(METADATA_KEY)
    if text is None:
        raise InvalidArtifact(
            f"an SSD without class names: its metadata has no {METADATA_KEY!r}; "
            f"it has {graph.describe()}",
            hint="import a model.onnx that `seatrial models pull` wrote",
        )
    try:
        return decode_json(text.encode(), SsdMetadata, origin=f"metadata {METADATA_KEY!r}")
    except InvalidInput as error:
        raise InvalidArtifact(error.message, hint=error.hint) from error


def _check_outputs(outputs: tuple[TensorSpec, ...], classes: int) -> None:
    shapes = {output.name: output.shape for output in outputs}
    boxes, scores = shapes.get(BOXES, ()), shapes.get(SCORES, ())
    if len(boxes) != 3 or len(scores) != 3 or boxes[:2] != scores[:2] or boxes[2] != 4:
        raise InvalidArtifact(
            f"an SSD has the outputs boxes [N, anchors, 4] and scores [N, anchors, classes], "
            f"this one: {', '.join(f'{name} {list(shape)}' for name, shape in shapes.items())}"
        )
    if scores[2] != classes:
        raise InvalidArtifact(f"an SSD with {scores[2]} scores an anchor and {classes} labels")


def _check_input(graph: GraphSignature, size_hw: tuple[int, int]) -> None:
    wanted = (*size_hw, 3)
    if [(image.dtype, image.shape[1:]) for image in graph.inputs] != [("uint8", wanted)]:
        raise InvalidArtifact(
            f"an SSD takes one uint8 input [N, {', '.join(map(str, wanted))}], this one has "
            f"{graph.describe()}"
        )
