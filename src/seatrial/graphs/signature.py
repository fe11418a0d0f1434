"""Signatures of graphs, read without running them, and tensor names with a meaning.

Loads no ONNX: families read it in a serving process.
"""

from __future__ import annotations

import msgspec

from seatrial.manifest import TensorSpec

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
        metadata: Key/value properties that the file holds.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metadata: dict[str, str]

    def describe(self) -> str:
        """One line that a person can compare with what a family accepts."""
        ins = ", ".join(f"{t.name} {t.dtype} {list(t.shape)}" for t in self.inputs)
        outs = ", ".join(f"{t.name} {t.dtype} {list(t.shape)}" for t in self.outputs)
        notes = ", ".join(f"{key} {value[:60]!r}" for key, value in sorted(self.metadata.items()))
        return f"inputs: {ins or 'none'}; outputs: {outs or 'none'}; metadata: {notes or 'none'}"
