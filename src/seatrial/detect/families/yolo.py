"""YOLO as Ultralytics exports it: v8, 11 and their relatives, and the end-to-end layouts.

Layouts, by their ONNX metadata and output shape:

- ``anchors``: ``[N, 4 + classes, A]``: centre x, centre y, width, height in canvas pixels, then
  class scores after the sigmoid. YOLOv8, YOLO11. NMS is done here.
- ``end_to_end``: ``[N, K, 6]``: left, top, right, bottom in canvas pixels, confidence, class.
  YOLO26, and any export with ``nms=True``.

Source: ultralytics ``nn/modules/head.py`` (Detect) and ``engine/exporter.py`` (metadata, NMSModel).
"""

from __future__ import annotations

import ast
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seatrial.deployment import Thresholds
from seatrial.detect.detections import Detections
from seatrial.detect.families.base import NO_FEEDS, Recognition
from seatrial.detect.postprocess import finish, nms, select
from seatrial.detect.preprocess import Letterbox
from seatrial.engines.base import Arrays
from seatrial.errors import InvalidArtifact
from seatrial.graphs.signature import GraphSignature
from seatrial.manifest import Manifest, Preprocessing

PAD_VALUE = 114
SIZES_PX = range(32, 4097)
EXPORT_AGAIN = "export it again with Ultralytics (yolo export model=NAME.pt format=onnx)"


class Yolo:
    """Decodes the outputs of one YOLO artifact."""

    accepts: ClassVar[str] = (
        "an Ultralytics ONNX export of a detection model, with its metadata: one image input "
        "[N, 3, H, W] and one output [N, 4 + classes, anchors] or [N, K, 6]"
    )
    unordered: ClassVar[tuple[str, ...]] = ("end_to_end",)

    def __init__(self, manifest: Manifest) -> None:
        if manifest.variant not in ("anchors", "end_to_end"):
            raise InvalidArtifact(f"unknown YOLO output layout {manifest.variant!r}")
        self._output = manifest.outputs[0].name
        self._end_to_end = manifest.variant == "end_to_end"

    def feeds(self, letterbox: Letterbox) -> Arrays:
        """See `seatrial.detect.families.base.Family.feeds`."""
        return NO_FEEDS

    def detections(
        self, outputs: Arrays, letterbox: Letterbox, thresholds: Thresholds
    ) -> Detections:
        """See `seatrial.detect.families.base.Family.detections`."""
        output = outputs[self._output][0]
        if self._end_to_end:
            boxes = _from_final(output, thresholds)
        else:
            boxes = _from_anchors(output, thresholds)
        return finish(boxes, letterbox, thresholds.max_detections)

    @staticmethod
    def recognise(graph: GraphSignature) -> Recognition | None:
        """See `seatrial.detect.families.base.FamilyClass.recognise`."""
        facts = graph.metadata
        if "Ultralytics" not in facts.get("author", "") + facts.get("description", ""):
            return None
        if facts.get("task") != "detect":
            raise InvalidArtifact(
                f"an Ultralytics model for task {facts.get('task')!r}; only 'detect' is served",
                hint="export a detection model (yolo11n.pt, not yolo11n-seg.pt)",
            )
        if len(graph.inputs) != 1 or len(graph.outputs) != 1:
            raise InvalidArtifact(f"an Ultralytics export with {graph.describe()}")
        labels = _labels(facts.get("names", ""))
        return Recognition(
            variant=_variant(graph, len(labels)),
            preprocessing=Preprocessing(_size_hw(graph), "letterbox", PAD_VALUE),
            scale=255.0,
            labels=labels,
            licence=facts.get("license", "unknown"),
            facts={
                key: facts[key]
                for key in ("description", "version", "date", "stride", "batch", "end2end", "args")
                if key in facts
            },
        )


def _from_anchors(output: NDArray[np.float32], thresholds: Thresholds) -> Detections:
    """Decode ``(4 + classes, A)`` float32; boxes in canvas pixels."""
    anchors, class_id, score = select(output[4:], thresholds)
    centre, half = output[:2, anchors], output[2:4, anchors] / 2
    xyxy = np.concatenate([centre - half, centre + half]).T
    return nms(Detections(xyxy, score, class_id), thresholds.iou, thresholds.max_detections)


def _from_final(output: NDArray[np.float32], thresholds: Thresholds) -> Detections:
    """Decode ``(K, 6)`` float32, rows of confidence 0 are filling; boxes in canvas pixels."""
    rows = output[(output[:, 4] > thresholds.confidence) & np.isfinite(output).all(axis=1)]
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    return Detections(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64))


def _labels(names: str) -> tuple[str, ...]:
    try:
        table: Any = ast.literal_eval(names)
        labels = tuple(str(table[index]) for index in range(len(table)))
    except (ValueError, SyntaxError, KeyError, TypeError) as error:
        raise InvalidArtifact(
            f"the class names in the model's metadata cannot be read: {names[:80]!r}",
            hint=EXPORT_AGAIN,
        ) from error
    if not labels:
        raise InvalidArtifact("the model's metadata names no classes", hint=EXPORT_AGAIN)
    return labels


def _variant(graph: GraphSignature, classes: int) -> str:
    shape = graph.outputs[0].shape
    if len(shape) == 3 and shape[2] == 6:  # never anchors: the smallest canvas has 21
        return "end_to_end"
    if len(shape) == 3 and shape[1] == 4 + classes:
        return "anchors"
    raise InvalidArtifact(
        f"the output is {list(shape)}, which fits neither [N, {4 + classes}, anchors] for the "
        f"{classes} classes that the metadata names nor [N, K, 6]",
        hint=EXPORT_AGAIN,
    )


def _size_hw(graph: GraphSignature) -> tuple[int, int]:
    """Canvas size: of the graph where it is fixed, else of the metadata."""
    shape = graph.inputs[0].shape
    if graph.inputs[0].dtype == "uint8" and len(shape) == 4 and shape[3] == 3:
        shape = (shape[0], 3, *shape[1:3])  # a graph with Seatrial's image input
    if len(shape) != 4 or shape[1] not in (3, -1):
        raise InvalidArtifact(f"the input is {list(shape)}, not [N, 3, H, W]")
    if shape[2] > 0 and shape[3] > 0:
        return shape[2], shape[3]
    try:
        height, width = ast.literal_eval(graph.metadata["imgsz"])
        size = int(height), int(width)
    except (KeyError, ValueError, SyntaxError, TypeError) as error:
        raise InvalidArtifact(
            "the input size is dynamic and the metadata has no usable 'imgsz'"
        ) from error
    if size[0] not in SIZES_PX or size[1] not in SIZES_PX:
        raise InvalidArtifact(f"the input size {size} is out of range")
    return size
