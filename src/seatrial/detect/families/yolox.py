"""YOLOX as its repository exports it.

An image input ``[N, 3, H, W]`` of BGR values 0-255, the image at the top left of a grey canvas, and
one output ``[N, A, 5 + classes]``: box, score of an object and of each class, both after the
sigmoid. Layouts:

- ``cells``: centre x and y from the corner of the anchor's cell, in cells; logarithms of width and
  height in cells. The exporter's default.
- ``decoded``: centre x, centre y, width, height in canvas pixels (``--decode_in_inference``).

NMS is done here: across classes, as YOLOX's own demo does it; within each class where an anchor may
give several (``multi_label``), as its evaluation does.

Source: YOLOX ``tools/export_onnx.py``, ``yolox/models/yolo_head.py``, ``yolox/utils/demo_utils.py``
and ``yolox/data/data_augment.py`` (preproc).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from seatrial.deployment import Thresholds
from seatrial.detect.detections import Detections
from seatrial.detect.families.base import NO_FEEDS, Recognition
from seatrial.detect.families.yolo import STRIDES, cells
from seatrial.detect.postprocess import corners, find, grid
from seatrial.detect.preprocess import Letterbox
from seatrial.engines.base import Arrays
from seatrial.errors import InvalidArtifact
from seatrial.graphs.signature import GraphSignature
from seatrial.manifest import Manifest, Preprocessing

PAD_VALUE = 114
CONFIDENCE, IOU = 0.3, 0.45


class Yolox:
    """Decodes the output of one YOLOX artifact."""

    accepts: ClassVar[str] = (
        "an export of YOLOX: one image input [N, 3, H, W] and one output [N, anchors, 5 + classes]"
    )
    unordered: ClassVar[tuple[str, ...]] = ()

    def __init__(self, manifest: Manifest) -> None:
        if manifest.variant not in ("cells", "decoded"):
            raise InvalidArtifact(f"unknown YOLOX output layout {manifest.variant!r}")
        self._decoded = manifest.variant == "decoded"
        self._output = manifest.outputs[0].name
        size_hw, anchors = manifest.preprocessing.size_hw, manifest.outputs[0].shape[1]
        strides = next((s for s in STRIDES if cells(size_hw, s) == anchors), STRIDES[0])
        self._cells, self._strides = grid(size_hw, strides)

    def feeds(self, letterbox: Letterbox) -> Arrays:
        """See `seatrial.detect.families.base.Family.feeds`."""
        return NO_FEEDS

    def detections(
        self, outputs: Arrays, letterbox: Letterbox, thresholds: Thresholds
    ) -> Detections:
        """See `seatrial.detect.families.base.Family.detections`."""
        rows = outputs[self._output][0]
        likely = np.flatnonzero(rows[:, 4] > thresholds.confidence)  # class scores are at most 1
        scores = rows[likely, 5:] * rows[likely, 4:5]

        def boxes(anchors: NDArray[np.intp]) -> NDArray[np.float32]:
            chosen = likely[anchors]
            found = rows[chosen, :4]
            if self._decoded:
                return corners(found)
            centre = self._cells[chosen] + found[:, :2]
            with np.errstate(over="ignore"):  # infinite boxes are dropped later
                size = np.exp(found[:, 2:])
            return corners(np.concatenate([centre, size], axis=1) * self._strides[chosen])

        agnostic = not thresholds.multi_label
        return find(scores, boxes, letterbox, thresholds, class_agnostic=agnostic)

    @staticmethod
    def recognise(graph: GraphSignature) -> Recognition | None:
        """See `seatrial.detect.families.base.FamilyClass.recognise`."""
        if len(graph.inputs) != 1 or len(graph.outputs) != 1:
            return None
        shape = graph.outputs[0].shape
        if len(shape) != 3 or shape[2] < 6:
            return None
        try:
            size_hw = graph.image_hw()
        except InvalidArtifact:
            return None
        if size_hw is None or shape[1] not in [cells(size_hw, strides) for strides in STRIDES]:
            return None
        return Recognition(
            # Only the decoding takes exponentials: activations are SiLU or ReLU.
            variant="decoded" if "Exp" in graph.operators else "cells",
            preprocessing=Preprocessing(size_hw, "letterbox", PAD_VALUE, align="top_left"),
            scale=1.0,
            channels="bgr",
            classes=shape[2] - 5,
            confidence=CONFIDENCE,
            iou=IOU,
            certain=False,
        )
