"""From candidate boxes to detections: thresholds and non-maximum suppression."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seatrial.deployment import Thresholds
from seatrial.detect.detections import Detections
from seatrial.detect.preprocess import Letterbox

MAX_CANDIDATES = 30_000  # Ultralytics' max_nms: what enters NMS, most confident first


def select(
    scores: NDArray[np.float32], options: Thresholds
) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.float32]]:
    """Candidates over the confidence threshold, most confident first.

    Args:
        scores: (C, A) float32: class scores of each anchor.
        options: ``confidence`` is exclusive; with ``multi_label`` an anchor counts once for each
            class over it, else once for its best class (Ultralytics' two rules).

    Returns:
        Anchor index (K,), class index (K,) int64, score (K,) float32.
    """
    if options.multi_label:
        classes, anchors = np.nonzero(scores > options.confidence)
        confidence = scores[classes, anchors]
    else:
        # Most anchors are background: find the few that matter before asking for their class.
        anchors = np.flatnonzero(scores.max(axis=0) > options.confidence)
        classes = scores[:, anchors].argmax(axis=0)
        confidence = scores[classes, anchors]
    order = np.argsort(-confidence, kind="stable")[:MAX_CANDIDATES]
    return anchors[order], classes[order].astype(np.int64), confidence[order]


def nms(
    xyxy: NDArray[np.float32],
    score: NDArray[np.float32],
    class_id: NDArray[np.int64],
    iou: float,
) -> NDArray[np.intp]:
    """Greedy, class-aware non-maximum suppression.

    Args:
        xyxy: (K, 4) float32 boxes, any unit.
        score: (K,) float32.
        class_id: (K,) int64; boxes of different classes never suppress one another.
        iou: A box is dropped if its IoU with a kept one of its class is greater than this.

    Returns:
        Indices of the kept boxes, most confident first. Boxes without area, or with a
        coordinate or score that is no finite number, are not among them.
    """
    finite = np.isfinite(xyxy).all(axis=1) & np.isfinite(score)
    sound = np.flatnonzero(finite & (xyxy[:, 2:] > xyxy[:, :2]).all(axis=1))
    if len(sound) == 0:
        return sound
    corners = xyxy[sound].astype(np.float64)
    # OpenCV keeps classes apart by shifting each beyond the largest coordinate of the one before,
    # which takes coordinates from 0 on.
    corners -= corners.min()
    # OpenCV takes arrays where its stubs say sequences.
    xywh: Any = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    # The score threshold was applied before; -1 passes them all.
    scores: Any = score[sound]
    classes: Any = class_id[sound].astype(np.int32)
    kept = cv2.dnn.NMSBoxesBatched(xywh, scores, classes, -1.0, iou)
    indices = sound[np.asarray(kept, np.intp).reshape(-1)]
    return indices[np.argsort(-score[indices], kind="stable")]


def finish(
    xyxy: NDArray[np.float32],
    score: NDArray[np.float32],
    class_id: NDArray[np.int64],
    canvas: Letterbox,
    limit: int,
) -> Detections:
    """Cut to the limit and map to source pixels.

    Args:
        xyxy: (K, 4) float32, canvas pixels, most confident first.
        score: (K,) float32.
        class_id: (K,) int64.
        canvas: Maps to source pixels.
        limit: Most detections returned.
    """
    return Detections(
        canvas.to_source(xyxy[:limit].astype(np.float32, copy=False)),
        score[:limit].astype(np.float32),
        class_id[:limit].astype(np.int64),
    )
