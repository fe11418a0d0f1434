"""Boxes on kept ones: the same answer as a comparison of each with all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seatrial.detect import overlap
from seatrial.detect.overlap import covered


def by_comparing_all(
    xyxy: np.ndarray, class_id: np.ndarray, kept: np.ndarray, kept_class: np.ndarray, iou: float
) -> list[bool]:
    found = []
    for box, own in zip(xyxy, class_id, strict=True):
        same = kept[kept_class == own]
        inner = np.minimum(box[2:], same[:, 2:]) - np.maximum(box[:2], same[:, :2])
        shared = np.maximum(inner, 0).prod(1)
        areas = (box[2:] - box[:2]).prod() + (same[:, 2:] - same[:, :2]).prod(1)
        distance = (1 - shared / (areas - shared)).astype(np.float32)
        found.append(bool((np.float32(1) - distance > np.float32(iou)).any()))
    return found


def boxes(chance: np.random.Generator, count: int, *, side: tuple[float, float]) -> np.ndarray:
    """Boxes of sides spread evenly over orders of magnitude."""
    low, high = np.log(side[0]), np.log(side[1])
    corner = chance.random((count, 2)) * 100 - 20
    sides = np.exp(chance.random((count, 2)) * (high - low) + low)
    xyxy = np.concatenate([corner, corner + sides], 1).astype(np.float32).astype(np.float64)
    return sound(xyxy)


def sound(xyxy: np.ndarray) -> np.ndarray:
    return xyxy[(xyxy[:, 2:] > xyxy[:, :2]).all(axis=1)]


@given(
    st.integers(0, 10**6),
    st.sampled_from([0.0, 1e-9, 0.1, 0.45, 0.7, 0.95, 1.0]),
    st.sampled_from([(20.0, 60.0), (0.01, 200.0), (1e-6, 1e6), (30.0, 31.0)]),
)
def test_the_answer_is_that_of_comparing_each_with_all(
    seed: int, iou: float, side: tuple[float, float]
) -> None:
    chance = np.random.default_rng(seed)
    kept = boxes(chance, 60, side=side)
    kept_class = chance.integers(0, 3, len(kept))
    near = np.repeat(kept[:30], 2, axis=0)
    near[:, 2:] += (near[:, 2:] - near[:, :2]) * chance.normal(0, 0.1, (len(near), 2))
    xyxy = np.concatenate([boxes(chance, 40, side=side), sound(near), kept[:5]])
    class_id = chance.integers(0, 3, len(xyxy))
    wanted = by_comparing_all(xyxy, class_id, kept, kept_class, iou)
    assert covered(xyxy, class_id, kept, kept_class, iou).tolist() == wanted


@pytest.mark.parametrize("far", [1.0, 1e6, 1e12, 1e30])
def test_places_far_outside_of_the_canvas_hide_no_pair(far: float) -> None:
    kept = np.array([[0, 0, 10, 10], [far, far, far * 2 + 5, far * 2 + 5]], np.float64)
    classes = np.array([3, 70])
    xyxy = np.array([[0, 0, 10, 9], [far, far, far * 2 + 5, far * 2 + 5], [50, 50, 60, 60]])
    found = covered(xyxy, np.array([3, 70, 3]), kept, classes, 0.7)
    assert found.tolist() == [True, True, False]


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of pairs, call by call."""
    counts: list[int] = []
    iou = overlap._iou

    def counted(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        counts.append(len(a))
        return iou(a, b)

    monkeypatch.setattr(overlap, "_iou", counted)
    return counts


def test_few_pairs_are_compared(compared: list[int]) -> None:
    row, column = np.divmod(np.arange(10_000), 100)
    corner = np.stack([column, row], 1) * 8.0
    xyxy = np.concatenate([corner, corner + 7], 1)
    same = np.zeros(10_000, np.int64)
    assert covered(xyxy, same, xyxy, same, 0.7).all()
    assert sum(compared) < 10_000 * 10_000 / 50
    compared.clear()
    line = np.stack([np.zeros(10_000), np.arange(10_000) * 8.0], 1)  # one column: the other axis
    xyxy = np.concatenate([line, line + 7], 1)
    assert covered(xyxy, same, xyxy, same, 0.7).all()
    assert sum(compared) < 10_000 * 10_000 / 50


def test_boxes_of_any_size_are_compared_with_those_of_their_class(compared: list[int]) -> None:
    xyxy = np.tile(
        [0.0, 0.0, 2.0 ** (overlap.POWERS[-1] + 2), 2.0 ** (overlap.POWERS[-1] + 2)], (80, 1)
    )
    assert covered(xyxy, np.arange(80), xyxy, np.arange(80), 0.7).all()
    assert sum(compared) == 80


def test_rounding_of_places_far_outside_of_the_canvas_hides_no_pair() -> None:
    """Beside a box at 1e14, places of the others are rounded to 16 pixels."""
    chance = np.random.default_rng(2)
    corner = np.repeat(30.0 * np.arange(1000)[:, None] + chance.random((1000, 1)), 2, axis=1)
    kept = np.concatenate([corner, corner + 12], 1)
    xyxy = kept + chance.choice([-0.5, 0.5], (1000, 1))
    kept = np.vstack([kept, [1e14, 1e14, 2e14, 2e14]])
    assert covered(xyxy, np.full(1000, 79), kept, np.full(1001, 79), 0.7).all()


def test_pairs_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = []
    iou = overlap._iou

    def counted(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        parts.append(len(a))
        return iou(a, b)

    monkeypatch.setattr(overlap, "_iou", counted)
    monkeypatch.setattr(overlap, "PAIRS", 100)
    chance = np.random.default_rng(1)
    kept, classes = boxes(chance, 40, side=(20, 60)), np.zeros(40, np.int64)
    xyxy = boxes(chance, 50, side=(20, 60))
    xyxy[0] = kept[7]
    class_id = np.zeros(50, np.int64)
    wanted = by_comparing_all(xyxy, class_id, kept, classes, 0.3)
    assert covered(xyxy, class_id, kept, classes, 0.3).tolist() == wanted
    assert len(parts) > 1
    assert max(parts) <= 100 + 40  # a box's own run is not cut
