"""Detections: validated arrays, the one form in which boxes are passed about."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

# What a service answers with: pixels to 1/100, confidence to 1e-5. Beyond that it is noise.
BOX_DECIMALS, SCORE_DECIMALS = 2, 5


@dataclass(frozen=True, slots=True)
class Detections:
    """What a detector saw in one image, most confident first.

    ``len(detections)`` is the number of boxes, ``detections[index]`` the chosen ones: a boolean
    mask, an array of indices, a slice or a single index.

    Attributes:
        xyxy: (N, 4) float32: left, top, right, bottom, in pixels of the source image.
        score: (N,) float32, 0-1.
        class_id: (N,) int64, index into the artifact's labels.
        track_id: (N,) int64, number of the object that is followed from frame to frame; -1 for a
            box without a track. None where nothing is tracked.

    Raises:
        ValueError: An array is of another shape or dtype.
    """

    xyxy: NDArray[np.float32]
    score: NDArray[np.float32]
    class_id: NDArray[np.int64]
    track_id: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        count = len(self.score)
        wanted: dict[str, tuple[NDArray[Any], tuple[int, ...], type]] = {
            "xyxy": (self.xyxy, (count, 4), np.float32),
            "score": (self.score, (count,), np.float32),
            "class_id": (self.class_id, (count,), np.int64),
        }
        if self.track_id is not None:
            wanted["track_id"] = (self.track_id, (count,), np.int64)
        for name, (array, shape, dtype) in wanted.items():
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(
                    f"{name} must be {shape} {np.dtype(dtype)}, got {array.shape} {array.dtype}"
                )

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, index: int | slice | NDArray[np.bool_] | NDArray[np.intp]) -> Detections:
        """The detections of a mask, of indices, of a slice or of one index."""
        chosen: Any = [index] if isinstance(index, int | np.integer) else index
        return Detections(
            self.xyxy[chosen],
            self.score[chosen],
            self.class_id[chosen],
            None if self.track_id is None else self.track_id[chosen],
        )

    def rounded(self) -> Detections:
        """The same as a service answers: pixels to 1/100, confidence to 1e-5.

        Boxes that crossed the wire and boxes of a detector in this process are equal so.
        """
        return replace(
            self,
            xyxy=self.xyxy.astype(np.float64).round(BOX_DECIMALS).astype(np.float32),
            score=self.score.astype(np.float64).round(SCORE_DECIMALS).astype(np.float32),
        )

    @classmethod
    def empty(cls) -> Detections:
        """No detections."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


def iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of all pairs.

    Args:
        a: (N, 4) left, top, right, bottom.
        b: (M, 4).

    Returns:
        (N, M) float64; 0 where both are without area.
    """
    left, right = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    sides = np.minimum(left[..., 2:], right[..., 2:]) - np.maximum(left[..., :2], right[..., :2])
    shared = np.clip(sides, 0, None).prod(axis=2)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=2) for boxes in (left, right)]
    union = areas[0] + areas[1] - shared
    result: NDArray[np.float64] = np.divide(
        shared, union, out=np.zeros_like(shared), where=union > 0
    )
    return result
