"""From candidate boxes to detections: thresholds and non-maximum suppression."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seatrial.deployment import Thresholds
from seatrial.detect.detections import Detections
from seatrial.detect.preprocess import Letterbox

MAX_CANDIDATES = 30_000  # Ultralytics' max_nms: most candidates that enter NMS
_AT_FIRST = 4  # candidates that enter NMS first, for each box that is wanted


def select(
    scores: NDArray[np.float32], thresholds: Thresholds
) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.float32]]:
    """Candidates over the confidence threshold, the most confident first.

    Args:
        scores: (C, A) float32, class scores of each anchor.
        thresholds: ``confidence`` is exclusive; with ``multi_label`` an anchor counts once for
            each class over it, else once for its best class (Ultralytics' two rules).

    Returns:
        Anchor index (K,), class index (K,) int64, score (K,) float32.
    """
    if thresholds.multi_label:
        classes, anchors = np.nonzero(scores > thresholds.confidence)
    else:
        # Most anchors are background: find the few that matter before asking for their class.
        anchors = np.flatnonzero(scores.max(axis=0) > thresholds.confidence)
        classes = scores[:, anchors].argmax(axis=0)
    score = scores[classes, anchors]
    if len(score) > MAX_CANDIDATES:  # with confidence 0: to sort them all takes half a second
        lowest = np.partition(score, -MAX_CANDIDATES)[-MAX_CANDIDATES]
        among = np.flatnonzero(score >= lowest)
        anchors, classes, score = anchors[among], classes[among], score[among]
    order = np.argsort(-score, kind="stable")[:MAX_CANDIDATES]
    return anchors[order], classes[order].astype(np.int64), score[order]


def nms(candidates: Detections, iou: float, limit: int = MAX_CANDIDATES) -> Detections:
    """Greedy, class-aware non-maximum suppression.

    Args:
        candidates: Boxes in any unit; those of different classes never suppress one another.
        iou: A box is dropped if its IoU with a kept box of its class is greater than this.
        limit: Largest number of boxes to keep.

    Returns:
        The kept boxes, the most confident first; of equal scores the first. Boxes without area,
        or with a coordinate or a score that is not finite, are dropped first.
    """
    xyxy, score = candidates.xyxy, candidates.score
    finite = np.isfinite(xyxy).all(axis=1) & np.isfinite(score)
    sound = np.flatnonzero(finite & (xyxy[:, 2:] > xyxy[:, :2]).all(axis=1))
    order = sound[np.argsort(-score[sound], kind="stable")]
    # Only a more confident box drops another one. So what NMS keeps of the first candidates comes
    # first in what it keeps of all: at low thresholds, thousands never need to be compared.
    entering = _AT_FIRST * max(limit, 1)
    while len(kept := _suppress(candidates, order[:entering], iou)) < limit:
        if entering >= len(order):
            break
        entering *= _AT_FIRST
    return candidates[kept[:limit]]


def _suppress(candidates: Detections, order: NDArray[np.intp], iou: float) -> NDArray[np.intp]:
    """The indices of `order` that NMS keeps, in the same order."""
    if len(order) == 0:
        return order
    corners = candidates.xyxy[order].astype(np.float64)
    # OpenCV separates classes: it shifts each beyond the largest coordinate of the one before,
    # which is right for coordinates from 0 on.
    corners -= corners.min()
    # OpenCV takes arrays where its stubs say sequences.
    xywh: Any = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    scores: Any = candidates.score[order]
    classes: Any = candidates.class_id[order].astype(np.int32)
    # The score threshold was applied before; -1 lets all scores pass.
    kept = np.asarray(cv2.dnn.NMSBoxesBatched(xywh, scores, classes, -1.0, iou), np.intp)
    return order[np.sort(kept.reshape(-1))]


def finish(detections: Detections, letterbox: Letterbox, limit: int) -> Detections:
    """The first detections, in source pixels.

    Args:
        detections: Boxes in canvas pixels, the most confident first.
        letterbox: Maps them to source pixels.
        limit: Largest number of detections.
    """
    kept = detections[:limit]
    return replace(kept, xyxy=letterbox.to_source(kept.xyxy))
