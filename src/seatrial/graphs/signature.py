"""Signatures of graphs, read without running them, and tensor names with a meaning.

Loads no ONNX: families read it in a serving process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from seatrial.errors import InvalidArtifact
from seatrial.manifest import TensorSpec

Channels = Literal["rgb", "bgr"]
"""Order in which the graph in a model file takes the channels of an image."""

IMAGE_INPUT = "image"
"""Graph input, uint8 ``[N, H, W, 3]``: RGB images on their canvas."""

VALID_HW = "valid_hw"
"""Graph input, int64 ``[N, 2]``: height and width of the image on its canvas, pixels."""

TARGET_SIZES = "orig_target_sizes"
"""Graph input of DETRs with postprocessing, int64 ``[N, 2]``: source width and height, pixels."""

PIXEL_MASK = "pixel_mask"
"""Graph input of DETRs, ``[N, rows, columns]``: 1 where the image is, 0 where padding is."""

LOGITS, PRED_BOXES = "logits", "pred_boxes"
"""Outputs of DETRs without postprocessing: ``[N, Q, classes]``, and centre x, centre y, width,
height as fractions of the image ``[N, Q, 4]``."""

LABELS, BOXES, SCORES = "labels", "boxes", "scores"
"""Outputs of DETRs with postprocessing: ``[N, Q]``, ``[N, Q, 4]`` in source pixels, ``[N, Q]``."""


class GraphSignature(msgspec.Struct, frozen=True):
    """Inputs, outputs and metadata of a model file.

    Attributes:
        inputs: Inputs of the graph, without initialisers.
        outputs: Outputs of the graph.
        metadata: Key/value properties that the file holds, and name -> text of the descriptions
            in files beside it.
        operators: Name of an operator -> how many nodes of it the graph has.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metadata: dict[str, str]
    operators: Mapping[str, int] = {}

    def image_hw(self) -> tuple[int, int] | None:
        """Height and width of the image that the first input takes; None where they are open.

        Raises:
            InvalidArtifact: The first input is neither ``[N, 3, H, W]`` nor uint8 ``[N, H, W, 3]``.
        """
        first = self.inputs[0] if self.inputs else TensorSpec("", "", ())
        shape = first.shape
        if first.dtype == "uint8" and len(shape) == 4 and shape[3] == 3:
            shape = (shape[0], 3, *shape[1:3])  # a graph with Seatrial's image input
        if len(shape) != 4 or shape[1] not in (3, -1):
            raise InvalidArtifact(f"the input is {list(first.shape)}, not [N, 3, H, W]")
        return (shape[2], shape[3]) if min(shape[2:]) > 0 else None

    def describe(self) -> str:
        """One line that a person can compare with what a family accepts."""
        ins = ", ".join(f"{t.name} {t.dtype} {list(t.shape)}" for t in self.inputs)
        outs = ", ".join(f"{t.name} {t.dtype} {list(t.shape)}" for t in self.outputs)
        notes = ", ".join(f"{key} {value[:60]!r}" for key, value in sorted(self.metadata.items()))
        return f"inputs: {ins or 'none'}; outputs: {outs or 'none'}; metadata: {notes or 'none'}"
