"""Thresholds and NMS against the rules written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from seatrial.deployment import Thresholds
from seatrial.detect import postprocess
from seatrial.detect.detections import Detections
from seatrial.detect.postprocess import MAX_CANDIDATES, finish, nms, select
from seatrial.detect.preprocess import Letterbox


def reference_nms(
    xyxy: np.ndarray, score: np.ndarray, class_id: np.ndarray, iou: float
) -> list[int]:
    """Greedy NMS, O(n^2): the most confident box stays, those of its class that cover it go."""
    kept: list[int] = []
    for i in np.argsort(-score, kind="stable"):
        if all(class_id[i] != class_id[j] or overlap(xyxy[i], xyxy[j]) <= iou for j in kept):
            kept.append(int(i))
    return kept


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (area_a + area_b - width * height)


# Whole pixels: the overlap of two boxes is exact, so is the comparison with the threshold.
boxes = st.builds(
    lambda x, y, w, h: (x, y, x + w, y + h),
    st.integers(-40, 60),
    st.integers(-40, 60),
    st.integers(1, 100),
    st.integers(1, 100),
)
candidates = st.lists(
    st.tuples(boxes, st.sampled_from([0.1, 0.3, 0.5, 0.5, 0.9]), st.integers(0, 3)), max_size=40
)
thresholds = st.sampled_from([0.0, 0.301, 0.45, 0.701, 1.0])


def kept_by_nms(xyxy: np.ndarray, score: np.ndarray, class_id: np.ndarray, iou: float) -> list[int]:
    """Indices of the boxes that `nms` keeps: their track ids number them."""
    numbers = np.arange(len(score), dtype=np.int64)
    kept = nms(Detections(xyxy, score, class_id.astype(np.int64), numbers), iou)
    if len(kept) == 0:
        return []
    assert kept.track_id is not None
    np.testing.assert_array_equal(kept.xyxy, xyxy[kept.track_id])
    np.testing.assert_array_equal(kept.class_id, class_id[kept.track_id])
    np.testing.assert_array_equal(kept.score, score[kept.track_id])
    return kept.track_id.tolist()


def arrays(rows: list[tuple[tuple[int, ...], float, int]]) -> tuple[np.ndarray, ...]:
    return (
        np.array([box for box, _, _ in rows], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in rows], np.float32),
        np.array([class_id for _, _, class_id in rows], np.int64),
    )


@given(candidates, thresholds)
# Boxes left of and above the canvas: a class may not slide over its neighbour.
@example([((0, 0, 60, 60), 0.9, 0), ((-61, -61, -1, -1), 0.5, 1)], 0.45)
@example([((0, 0, 10, 10), 0.5, 0)] * 3, 0.45)
def test_nms_is_the_rule(rows: list[tuple[tuple[int, ...], float, int]], iou: float) -> None:
    xyxy, score, class_id = arrays(rows)
    assert kept_by_nms(xyxy, score, class_id, iou) == reference_nms(xyxy, score, class_id, iou)


def test_nms_of_many_classes_and_boxes() -> None:
    generator = np.random.default_rng(5)
    corner = generator.integers(0, 600, (800, 2))
    xyxy = np.concatenate([corner, corner + generator.integers(5, 200, (800, 2))], 1)
    score = generator.random(800).astype(np.float32)
    class_id = generator.integers(0, 80, 800)
    for iou in (0.3, 0.7):
        kept = kept_by_nms(xyxy.astype(np.float32), score, class_id, iou)
        assert kept == reference_nms(xyxy, score, class_id, iou)


@given(candidates, thresholds, st.integers(0, 12))
def test_a_limit_keeps_the_first_of_all(
    rows: list[tuple[tuple[int, ...], float, int]], iou: float, limit: int
) -> None:
    xyxy, score, class_id = arrays(rows)
    kept = nms(Detections(xyxy, score, class_id, np.arange(len(rows))), iou, limit)
    assert kept.track_id is not None
    assert kept.track_id.tolist() == reference_nms(xyxy, score, class_id, iou)[:limit]


def test_with_a_limit_the_least_confident_are_not_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entered: list[int] = []
    suppress = postprocess._suppress

    def counted(candidates: Detections, order: np.ndarray, iou: float) -> np.ndarray:
        entered.append(len(order))
        return suppress(candidates, order, iou)

    monkeypatch.setattr(postprocess, "_suppress", counted)
    corner = np.arange(20_000, dtype=np.float32)[:, None] * [20, 0]  # none covers another
    apart = Detections(
        np.concatenate([corner, corner + 10], 1).astype(np.float32),
        np.linspace(1, 0.001, 20_000, dtype=np.float32),
        np.zeros(20_000, np.int64),
    )
    assert len(nms(apart, 0.7, 300)) == 300
    assert sum(entered) <= 2000


def test_equal_boxes_of_two_classes_both_stay() -> None:
    xyxy = np.array([[10, 10, 50, 50]] * 4, np.float32)
    score = np.array([0.5, 0.9, 0.8, 0.5], np.float32)
    assert kept_by_nms(xyxy, score, np.array([0, 0, 1, 1]), 0.7) == [1, 2]


def test_of_equal_scores_the_first_stays() -> None:
    xyxy = np.array([[10, 10, 50, 50]] * 3, np.float32)
    assert kept_by_nms(xyxy, np.full(3, 0.5, np.float32), np.zeros(3, np.int64), 0.7) == [0]


def test_the_threshold_is_exclusive() -> None:
    xyxy = np.array([[0, 0, 10, 10], [0, 0, 10, 5]], np.float32)  # IoU 1/2
    score, same = np.array([0.9, 0.8], np.float32), np.zeros(2, np.int64)
    assert kept_by_nms(xyxy, score, same, 0.5) == [0, 1]
    assert kept_by_nms(xyxy, score, same, 0.49) == [0]


@pytest.mark.parametrize(
    "broken",
    [
        (np.nan, 0, 10, 10),
        (0, 0, np.inf, 10),
        (-np.inf, -np.inf, np.inf, np.inf),
        (5, 5, 5, 5),  # no area
        (10, 10, 0, 0),  # right of its right edge
        (0, 3, 10, 3),
    ],
)
def test_a_box_that_is_none_is_dropped_and_disturbs_no_other(broken: tuple[float, ...]) -> None:
    sound = [(0, 0, 10, 10), (0, 0, 10, 9), (0, 0, 10, 10), (200, 200, 220, 220)]
    xyxy = np.array([broken, *sound, broken], np.float32)
    score = np.array([0.95, 0.9, 0.8, 0.7, 0.6, 0.99], np.float32)
    class_id = np.array([0, 0, 0, 1, 1, 1])
    assert kept_by_nms(xyxy, score, class_id, 0.5) == [1, 3, 4]


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_box_whose_score_is_no_number_is_dropped_and_disturbs_no_other(broken: float) -> None:
    xyxy = np.array([(0, 0, 10, 10)] * 3 + [(200, 200, 220, 220)], np.float32)
    score = np.array([broken, 0.9, 0.8, broken], np.float32)
    assert kept_by_nms(xyxy, score, np.zeros(4, np.int64), 0.5) == [1]


def test_nms_of_no_candidates_is_empty() -> None:
    assert len(nms(Detections.empty(), 0.7)) == 0


SCORES = np.array(
    # five anchors, three classes
    [
        [0.90, 0.10, 0.30, 0.00, 0.25],
        [0.80, 0.20, 0.30, 0.00, 0.10],
        [0.10, 0.60, 0.20, 0.00, 0.00],
    ],
    np.float32,
)


def test_select_takes_the_best_class_of_an_anchor() -> None:
    anchors, classes, score = select(SCORES, Thresholds(confidence=0.25))
    assert anchors.tolist() == [0, 1, 2]  # 0.25 itself is not over the threshold
    assert classes.tolist() == [0, 2, 0]  # of equal scores the first class
    np.testing.assert_array_equal(score, np.array([0.9, 0.6, 0.3], np.float32))
    assert (classes.dtype, score.dtype) == (np.int64, np.float32)


def test_select_with_multi_label_takes_every_class_over_the_threshold() -> None:
    anchors, classes, score = select(SCORES, Thresholds(confidence=0.15, multi_label=True))
    rows = list(zip(anchors.tolist(), classes.tolist(), strict=True))
    assert rows[:3] == [(0, 0), (0, 1), (1, 2)]
    assert sorted(rows) == [(0, 0), (0, 1), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (4, 0)]
    assert (np.diff(score) <= 0).all()
    anchors, _, _ = select(SCORES, Thresholds(confidence=0.25, multi_label=True))
    assert 4 not in anchors  # 0.25 itself is not over the threshold


@pytest.mark.parametrize("multi_label", [False, True])
def test_select_keeps_the_most_confident_candidates(multi_label: bool) -> None:
    count = MAX_CANDIDATES + 500
    scores = np.random.default_rng(0).random((1, count)).astype(np.float32)
    anchors, _, score = select(scores, Thresholds(confidence=0.0, multi_label=multi_label))
    assert len(anchors) == MAX_CANDIDATES
    np.testing.assert_array_equal(score, np.sort(scores[0])[::-1][:MAX_CANDIDATES])


def test_of_candidates_that_are_equally_confident_the_first_are_kept() -> None:
    scores = np.full((1, MAX_CANDIDATES + 500), 0.5, np.float32)
    scores[0, -3:] = 0.9
    anchors, _, _ = select(scores, Thresholds(confidence=0.0))
    last = scores.shape[1]
    wanted = [last - 3, last - 2, last - 1, *range(MAX_CANDIDATES - 3)]
    assert anchors.tolist() == wanted


@pytest.mark.parametrize("multi_label", [False, True])
def test_scores_that_are_no_numbers_are_below_every_threshold(multi_label: bool) -> None:
    scores = SCORES.copy()
    scores[:, 0] = np.nan
    scores[1, 1] = np.nan
    anchors, _, score = select(scores, Thresholds(confidence=0.05, multi_label=multi_label))
    assert 0 not in anchors
    assert np.isfinite(score).all()


def test_finish_cuts_to_the_limit_and_maps_to_the_source() -> None:
    letterbox = Letterbox((100, 200), (64, 64), (0.32, 0.32), (0, 16))
    boxes = Detections(
        np.array([[0, 16, 32, 32], [32, 0, 64, 64], [0, 0, 1, 1]], np.float32),
        np.array([0.9, 0.8, 0.7], np.float32),
        np.array([2, 1, 0]),
    )
    found = finish(boxes, letterbox, 2)
    np.testing.assert_allclose(found.xyxy, [[0, 0, 100, 50], [100, 0, 200, 100]], rtol=1e-6)
    assert found.score.tolist() == pytest.approx([0.9, 0.8])
    assert found.class_id.tolist() == [2, 1]
