"""YOLO with the image processing of Ultralytics: v5 to v13 and 26, from its own exporters.

Layouts, by the metadata of the file and the shape of its output:

- ``anchors``: ``[N, 4 + classes, A]``: centre x, centre y, width, height in canvas pixels, then
  class scores after the sigmoid. YOLOv8, YOLO11 and others. NMS is done here.
- ``objectness``: ``[N, A, 5 + classes]``: the same with the score of an object before those of the
  classes, which it multiplies. YOLOv5, YOLOv6, YOLOv7. ``objectness_only``: its one class has no
  score of its own, as YOLOv7 trains it. NMS is done here.
- ``end_to_end``: ``[N, K, 6]``: left, top, right, bottom in canvas pixels, confidence, class.
  YOLOv10, YOLO26, and any export of Ultralytics with ``nms=True``.
- ``numbered_rows``: ``[K, 7]``: number of the image, box as before, class, confidence. YOLOv7 with
  ``--end2end --max-wh``.

Source: ultralytics ``nn/modules/head.py`` (Detect) and ``engine/exporter.py`` (metadata, NMSModel);
yolov5 ``models/yolo.py`` and ``utils/general.py`` (non_max_suppression); yolov7 ``export.py``,
``models/experimental.py`` (ONNX_ORT) and ``utils/general.py``.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from seatrial.deployment import Thresholds
from seatrial.detect.detections import Detections
from seatrial.detect.families import ultralytics
from seatrial.detect.families.base import NO_FEEDS, Recognition
from seatrial.detect.families.ultralytics import EXPORT_AGAIN, EXPORT_FIXED, PAD_VALUE
from seatrial.detect.postprocess import corners, find, finish
from seatrial.detect.preprocess import Letterbox
from seatrial.engines.base import Arrays
from seatrial.errors import InvalidArtifact
from seatrial.graphs.signature import GraphSignature
from seatrial.manifest import Manifest, Preprocessing, TensorSpec

VARIANTS = ("anchors", "objectness", "objectness_only", "end_to_end", "numbered_rows")
YOLOV5_IOU = 0.45
STRIDES = ((8, 16, 32), (8, 16, 32, 64))  # pixels per cell of the feature maps
TENSORRT_NMS = {"num_dets", "det_boxes", "det_scores", "det_classes"}
_FRACTIONS = 2.0  # the largest coordinate of boxes that are fractions of the canvas


class Yolo:
    """Decodes the outputs of one YOLO artifact."""

    accepts: ClassVar[str] = (
        "an export of Ultralytics or of YOLOv5, v6 or v7: one image input [N, 3, H, W] and an "
        "output [N, 4 + classes, anchors], [N, anchors, 5 + classes] or [N, K, 6]"
    )
    unordered: ClassVar[tuple[str, ...]] = ("end_to_end", "numbered_rows")

    def __init__(self, manifest: Manifest) -> None:
        if manifest.variant not in VARIANTS:
            raise InvalidArtifact(f"unknown YOLO output layout {manifest.variant!r}")
        self._output = manifest.outputs[0].name
        self._variant = manifest.variant

    def feeds(self, letterbox: Letterbox) -> Arrays:
        """See `seatrial.detect.families.base.Family.feeds`."""
        return NO_FEEDS

    def detections(
        self, outputs: Arrays, letterbox: Letterbox, thresholds: Thresholds
    ) -> Detections:
        """See `seatrial.detect.families.base.Family.detections`."""
        output = outputs[self._output]
        if self._variant == "end_to_end":
            return finish(_final(output[0], thresholds), letterbox, thresholds.max_detections)
        if self._variant == "numbered_rows":
            rows = output[:, [1, 2, 3, 4, 6, 5]]
            return finish(_final(rows, thresholds), letterbox, thresholds.max_detections)
        if self._variant == "anchors":
            rows = output[0].T  # (A, 4 + classes)
            scores = rows[:, 4:]
        else:
            # A class score is at most 1: without an object there is nothing to multiply.
            rows = output[0][output[0][:, 4] > thresholds.confidence]
            only = self._variant == "objectness_only"
            scores = rows[:, 4:5] if only else rows[:, 5:] * rows[:, 4:5]
        return find(scores, lambda anchors: corners(rows[anchors, :4]), letterbox, thresholds)

    def one_by_one(self) -> bool:
        """See `seatrial.detect.families.base.OneByOne.one_by_one`."""
        return self._variant == "numbered_rows"  # rows of all images, in one list

    def doubt(self, outputs: Arrays) -> str:
        """See `seatrial.detect.families.base.Doubtful.doubt`."""
        output = outputs[self._output]
        if self._variant == "end_to_end":
            return _doubt_of_final(output[0])
        if self._variant == "numbered_rows":
            return _doubt_of_final(output[:, [1, 2, 3, 4, 6, 5]])
        return _doubt_of_anchors(output[0].T if self._variant == "anchors" else output[0])

    @staticmethod
    def recognise(graph: GraphSignature) -> Recognition | None:
        """See `seatrial.detect.families.base.FamilyClass.recognise`."""
        if not ultralytics.is_export(graph):
            return _without_ultralytics(graph)
        if ultralytics.is_rt_detr(graph):
            return None
        ultralytics.check_detector(graph)
        labels = ultralytics.labels(graph)
        return Recognition(
            variant=_variant(graph, len(labels)),
            preprocessing=Preprocessing(ultralytics.size_hw(graph), "letterbox", PAD_VALUE),
            labels=labels,
            licence=graph.metadata.get("license", "unknown"),
            facts=ultralytics.facts(graph),
        )


def _final(rows: NDArray[np.float32], thresholds: Thresholds) -> Detections:
    """Decode ``(K, 6)`` float32, rows of confidence 0 are filling; boxes in canvas pixels."""
    rows = rows[(rows[:, 4] > thresholds.confidence) & np.isfinite(rows).all(axis=1)]
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    return Detections(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64))


def _doubt_of_anchors(rows: NDArray[np.float32]) -> str:
    """Why rows of centre x, centre y, width, height and scores are none; empty where they may be.

    Args:
        rows: (A, 4 + scores) float32.
    """
    boxes, scores = rows[:, :4], rows[:, 4:]
    if scores.min() < -1e-3 or scores.max() > 1.001:
        return f"scores go from {scores.min():.3g} to {scores.max():.3g}, not from 0 to 1"
    if boxes.max() <= _FRACTIONS:
        return f"no coordinate is over {boxes.max():.3g}: they are fractions, not pixels"
    if (boxes[:, 2:] <= 0).mean() > 0.5:
        return "most widths or heights are not above 0: boxes are not given as centre and size"
    return ""


def _doubt_of_final(rows: NDArray[np.float32]) -> str:
    """Why rows of corners, confidence and class, (K, 6) float32, are none; empty where they may be.

    Rows of confidence 0 are filling.
    """
    rows = rows[rows[:, 4] > 0]
    if not len(rows):
        return ""
    if (rows[:, 5] != np.round(rows[:, 5])).any():
        return "the last column holds fractions, not class numbers"
    if rows[:, :4].max() <= _FRACTIONS:
        return f"no coordinate is over {rows[:, :4].max():.3g}: they are fractions, not pixels"
    if (rows[:, 2:4] <= rows[:, :2]).any(axis=1).mean() > 0.5:
        return "most boxes end before they begin: they are not given as corners"
    return ""


def _variant(graph: GraphSignature, classes: int) -> str:
    shape = graph.outputs[0].shape
    if len(shape) == 3 and shape[2] == 6:  # never anchors: the smallest canvas has 21
        return "end_to_end"
    if len(shape) == 3 and shape[1] == 4 + classes:
        return "anchors"
    if shape == (-1, -1, -1) and ultralytics.has_nms(graph):
        return "end_to_end"
    raise InvalidArtifact(
        f"the output is {list(shape)}, which fits neither [N, {4 + classes}, anchors] for the "
        f"{classes} classes that the metadata names nor [N, K, 6]",
        hint=EXPORT_FIXED if -1 in shape[1:] else EXPORT_AGAIN,
    )


def _without_ultralytics(graph: GraphSignature) -> Recognition | None:
    """Read an export of YOLOv5, which names its classes, or one that names nothing."""
    if {output.name for output in graph.outputs} == TENSORRT_NMS:
        raise InvalidArtifact(
            "a YOLOv7 with the NMS of TensorRT in its graph, which no other engine runs",
            hint="export it again with --grid alone",
        )
    labels = ultralytics.labels(graph) if {"names", "stride"} <= set(graph.metadata) else ()
    for output in graph.outputs:
        found = _layout(graph, output, labels)
        if found is None:
            continue
        variant, classes, certain = found
        before_v8 = variant not in ("anchors", "end_to_end")
        return Recognition(
            variant=variant,
            preprocessing=Preprocessing(ultralytics.size_hw(graph), "letterbox", PAD_VALUE),
            labels=labels,
            classes=classes,
            outputs={output.name: output.name},  # YOLOv5 up to 6.0 gives its raw maps besides
            iou=YOLOV5_IOU if before_v8 else 0.7,
            certain=certain,
            facts=ultralytics.facts(graph),
        )
    return None


def _layout(
    graph: GraphSignature, output: TensorSpec, labels: tuple[str, ...]
) -> tuple[str, int | None, bool] | None:
    """Variant, number of classes, and whether only YOLO has it; None: the output is no layout."""
    shape = output.shape
    if shape[1:] == (7,) and len(graph.outputs) == 1 and "NonMaxSuppression" in graph.operators:
        return "numbered_rows", None, False
    try:
        size_hw = graph.image_hw()
    except InvalidArtifact:
        return None
    if len(shape) != 3 or len(graph.inputs) != 1:
        return None
    if labels and shape[2] == 5 + len(labels):
        return "objectness", len(labels), True
    if labels and shape[1] != 4 + len(labels):
        return None
    counts = [] if size_hw is None else [cells(size_hw, strides) for strides in STRIDES]
    variant = "objectness_only" if shape[2] == 6 else "objectness"
    if shape[2] > 5 and shape[1] in [3 * count for count in counts]:  # three anchors a cell
        return variant, shape[2] - 5, True
    if len(graph.outputs) > 1:
        return None
    if shape[2] == 6 and 0 < shape[1] <= 1000:
        return "end_to_end", None, False
    if 4 < shape[1] < shape[2]:
        return "anchors", shape[1] - 4, False
    return (variant, shape[2] - 5, False) if shape[2] > 5 and shape[1] in counts else None


def cells(size_hw: tuple[int, int], strides: tuple[int, ...]) -> int:
    """Number of cells of the feature maps on a canvas."""
    return sum((size_hw[0] // stride) * (size_hw[1] // stride) for stride in strides)
