"""Detections: validated arrays, the one form in which boxes are passed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

# What a service answers with: pixels to 1/100, confidence to 1e-5. Beyond that it is noise.
BOX_DECIMALS, SCORE_DECIMALS = 2, 5
FLOAT32, INT64 = np.dtype(np.float32), np.dtype(np.int64)


@dataclass(frozen=True, slots=True)
class Detections:
    """The boxes of one image, the most confident first.

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
        _check("xyxy", self.xyxy, (count, 4), FLOAT32)
        _check("score", self.score, (count,), FLOAT32)
        _check("class_id", self.class_id, (count,), INT64)
        if self.track_id is not None:
            _check("track_id", self.track_id, (count,), INT64)

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, index: int | slice | NDArray[np.bool_] | NDArray[np.intp]) -> Detections:
        """The detections of a mask, of indices, of a slice or of one index.

        Raises:
            TypeError: `index` is none of these.
            IndexError: An index is out of range, or a mask is of another length.
        """
        chosen = _chosen(index, len(self))
        return Detections(
            self.xyxy[chosen],
            self.score[chosen],
            self.class_id[chosen],
            None if self.track_id is None else self.track_id[chosen],
        )

    def rounded(self) -> Detections:
        """The detections as a service rounds them: pixels to 1/100, confidence to 1e-5.

        Rounded boxes of a detector in this process equal those that came over the wire.
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


def _check(name: str, array: NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{name} must be {shape} {dtype}, got {array.shape} {array.dtype}")


def _chosen(index: Any, count: int) -> Any:
    """The index as NumPy takes it: a slice or an array with one dimension."""
    if isinstance(index, slice):
        return index
    if isinstance(index, int | np.integer) and not isinstance(index, bool):
        return [index]
    array = np.asarray(None if isinstance(index, tuple) else index)
    if array.shape == (0,) and array.dtype != np.bool_:
        return array.astype(np.intp)  # NumPy makes an empty list an array of floats
    if array.ndim != 1 or array.dtype.kind not in "biu":
        raise TypeError(
            f"{index!r} does not choose detections: give a mask of length {count}, indices, a "
            "slice or one index (labels is a list: a mask of them is "
            'np.array(detections.labels) == "person")'
        )
    if array.dtype == np.bool_ and len(array) != count:  # NumPy lets an empty one pass
        raise IndexError(f"a mask of length {len(array)} for {count} detections")
    return array


def label_of(class_id: int, labels: Sequence[str]) -> str:
    """Name of a class; its number where a graph has more classes than there are names."""
    return labels[class_id] if 0 <= class_id < len(labels) else str(class_id)


def iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of all pairs of boxes.

    Args:
        a: (N, 4) left, top, right, bottom, any unit.
        b: (M, 4), the same.

    Returns:
        (N, M) float64; 0 where neither box has an area.
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
