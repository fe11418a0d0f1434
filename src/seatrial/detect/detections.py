"""Detections: validated arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Detections:
    """What a detector saw in one image, most confident first.

    Attributes:
        xyxy: (N, 4) float32: left, top, right, bottom, in pixels of the source image.
        score: (N,) float32, 0-1.
        class_id: (N,) int64, index into the artifact's labels.
    """

    xyxy: NDArray[np.float32]
    score: NDArray[np.float32]
    class_id: NDArray[np.int64]

    def __post_init__(self) -> None:
        count = len(self.score)
        wanted: dict[str, tuple[NDArray[Any], tuple[int, ...], type]] = {
            "xyxy": (self.xyxy, (count, 4), np.float32),
            "score": (self.score, (count,), np.float32),
            "class_id": (self.class_id, (count,), np.int64),
        }
        for name, (array, shape, dtype) in wanted.items():
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(
                    f"{name} must be {shape} {np.dtype(dtype)}, got {array.shape} {array.dtype}"
                )

    def __len__(self) -> int:
        return len(self.score)

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
