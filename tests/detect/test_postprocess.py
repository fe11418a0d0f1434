"""Thresholds and NMS against the rules written out."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from seatrial.deployment import Limits, Thresholds
from seatrial.detect import overlap, postprocess
from seatrial.detect.detections import Detections
from seatrial.detect.postprocess import MAX_CANDIDATES, corners, find, finish, grid, nms, select
from seatrial.detect.preprocess import Letterbox


def reference_nms(
    xyxy: np.ndarray, score: np.ndarray, class_id: np.ndarray, iou: float
) -> list[int]:
    """Greedy NMS, O(n^2): the most confident box stays, those of its class that cover it go."""
    kept: list[int] = []
    for i in np.argsort(-score, kind="stable"):
        if all(class_id[i] != class_id[j] or iou_of(xyxy[i], xyxy[j]) <= iou for j in kept):
            kept.append(int(i))
    return kept


def iou_of(a: np.ndarray, b: np.ndarray) -> float:
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


@given(candidates, thresholds, st.sampled_from([(1, 1), (2, 3), (7, 5)]), st.integers(1, 40))
def test_the_rule_holds_however_many_enter_at_a_time(
    rows: list[tuple[tuple[int, ...], float, int]],
    iou: float,
    entering: tuple[int, int],
    limit: int,
) -> None:
    xyxy, score, class_id = arrays(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postprocess, "_AT_FIRST", entering[0])
        patch.setattr(postprocess, "_THEN", entering[1])
        kept = nms(Detections(xyxy, score, class_id, np.arange(len(rows))), iou, limit)
    assert kept.track_id is not None
    assert kept.track_id.tolist() == reference_nms(xyxy, score, class_id, iou)[:limit]


def test_the_rule_holds_for_thousands_of_boxes_of_few_classes() -> None:
    chance = np.random.default_rng(11)
    corner = chance.random((4000, 2)) * 600
    sides = np.exp(chance.random((4000, 2)) * 4 + 1)
    xyxy = np.concatenate([corner, corner + sides], 1).astype(np.float32)
    class_id = chance.integers(0, 3, 4000)
    score = np.round(chance.random(4000), 2).astype(np.float32)  # many are equal
    boxes = Detections(xyxy, score, class_id, np.arange(4000))
    order = np.argsort(-score, kind="stable")
    wanted = order[postprocess._suppress(boxes[order], np.arange(4000), 0.45)]  # OpenCV, of all
    kept = nms(boxes, 0.45)
    assert kept.track_id is not None
    assert kept.track_id.tolist() == wanted.tolist()


def test_a_box_is_compared_with_few(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    iou = overlap._iou

    def counted(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        compared.append(len(a))
        return iou(a, b)

    monkeypatch.setattr(overlap, "_iou", counted)
    row, column = np.divmod(np.arange(20_000), 150)
    corner = np.stack([column, row], 1).astype(np.float32) * 8
    beside = Detections(
        np.concatenate([corner, corner + 7], 1),
        np.linspace(1, 0.001, 20_000, dtype=np.float32),
        np.zeros(20_000, np.int64),
    )
    assert len(nms(beside, 0.7)) == 20_000  # plain NMS compares 200 million pairs
    assert sum(compared) < 5_000_000


def test_of_boxes_in_one_place_many_enter_at_a_time_and_those_beside_them_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entered: list[int] = []
    covered, suppress = postprocess._covered, postprocess._suppress

    def counted(candidates: Detections, order: np.ndarray, *rest: Any) -> np.ndarray:
        entered.append(len(order))
        return covered(candidates, order, *rest)

    monkeypatch.setattr(postprocess, "_covered", counted)
    corner = np.zeros((28_000, 2), np.float32)
    corner[25_000:, 0] = np.arange(3000) * 20  # at last many enter, and all of them stay
    boxes = Detections(
        np.concatenate([corner, corner + 15], 1),
        np.linspace(1, 0.001, 28_000, dtype=np.float32),
        np.zeros(28_000, np.int64),
        np.arange(28_000),
    )
    kept = nms(boxes, 0.45)
    assert kept.track_id is not None
    wanted = suppress(boxes, np.arange(28_000), 0.45)  # OpenCV, of all at once
    assert kept.track_id.tolist() == wanted.tolist()
    assert len(kept) == 3000
    assert sum(size <= postprocess._THEN for size in entered[:4]) == 1
    assert max(entered) > 20 * postprocess._THEN


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
    # five anchors, three classes; transposed below
    [
        [0.90, 0.10, 0.30, 0.00, 0.25],
        [0.80, 0.20, 0.30, 0.00, 0.10],
        [0.10, 0.60, 0.20, 0.00, 0.00],
    ],
    np.float32,
).T


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


def test_of_a_dense_head_the_most_confident_of_all_classes_enter() -> None:
    chance = np.random.default_rng(3)
    scores = (0.0011 + 0.9 * chance.random((80, 1000))).astype(np.float32)
    scores[:, 7] = np.nan
    scores[5] = np.round(scores[5], 1)  # some are equal
    anchors, classes, score = select(scores.T, Thresholds(confidence=0.001, multi_label=True))
    flat = np.nan_to_num(scores, nan=-1.0).ravel()
    wanted = np.argsort(-flat, kind="stable")[:MAX_CANDIDATES]
    assert (classes * 1000 + anchors).tolist() == wanted.tolist()
    np.testing.assert_array_equal(score, flat[wanted])


@pytest.mark.parametrize("multi_label", [False, True])
def test_select_keeps_the_most_confident_candidates(multi_label: bool) -> None:
    count = MAX_CANDIDATES + 500
    scores = np.random.default_rng(0).random((count, 1)).astype(np.float32)
    anchors, _, score = select(scores, Thresholds(confidence=0.0, multi_label=multi_label))
    assert len(anchors) == MAX_CANDIDATES
    np.testing.assert_array_equal(score, np.sort(scores[:, 0])[::-1][:MAX_CANDIDATES])


def test_of_candidates_that_are_equally_confident_the_first_are_kept() -> None:
    scores = np.full((MAX_CANDIDATES + 500, 1), 0.5, np.float32)
    scores[-3:] = 0.9
    anchors, _, _ = select(scores, Thresholds(confidence=0.0))
    last = len(scores)
    wanted = [last - 3, last - 2, last - 1, *range(MAX_CANDIDATES - 3)]
    assert anchors.tolist() == wanted


@pytest.mark.parametrize("multi_label", [False, True])
def test_scores_that_are_no_numbers_are_below_every_threshold(multi_label: bool) -> None:
    scores = SCORES.copy()
    scores[0] = np.nan
    scores[1, 1] = np.nan
    anchors, _, score = select(scores, Thresholds(confidence=0.05, multi_label=multi_label))
    assert 0 not in anchors
    assert np.isfinite(score).all()


def test_finish_cuts_to_the_limit_and_maps_to_the_source() -> None:
    letterbox = Letterbox((100, 200), (64, 64), (0.32, 0.32), (0, 16), (32, 64))
    boxes = Detections(
        np.array([[0, 16, 32, 32], [32, 0, 64, 64], [0, 0, 1, 1]], np.float32),
        np.array([0.9, 0.8, 0.7], np.float32),
        np.array([2, 1, 0]),
    )
    found = finish(boxes, letterbox, 2)
    np.testing.assert_allclose(found.xyxy, [[0, 0, 100, 50], [100, 0, 200, 100]], rtol=1e-6)
    assert found.score.tolist() == pytest.approx([0.9, 0.8])
    assert found.class_id.tolist() == [2, 1]


def test_a_box_drops_boxes_of_other_classes_where_nms_is_class_agnostic() -> None:
    xyxy = np.array([[0, 0, 10, 10], [1, 0, 10, 10], [20, 0, 30, 10]], np.float32)
    boxes = Detections(xyxy, np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 1, 1]))
    assert len(nms(boxes, 0.5)) == 3
    kept = nms(boxes, 0.5, class_agnostic=True)
    assert (kept.score.tolist(), kept.class_id.tolist()) == (pytest.approx([0.9, 0.7]), [0, 1])


@pytest.mark.parametrize("entering", [(1, 1), (5, 20), (20, 60)])
def test_boxes_that_enter_later_drop_other_classes_too_where_nms_is_class_agnostic(
    monkeypatch: pytest.MonkeyPatch, entering: tuple[int, int]
) -> None:
    chance = np.random.default_rng(7)
    corner = chance.integers(0, 100, (150, 2))
    xyxy = np.concatenate([corner, corner + chance.integers(20, 40, (150, 2))], 1)
    xyxy, class_id = xyxy.astype(np.float32), chance.integers(0, 3, 150)
    score = chance.permutation(150).astype(np.float32) / 150
    monkeypatch.setattr(postprocess, "_AT_FIRST", entering[0])
    monkeypatch.setattr(postprocess, "_THEN", entering[1])
    boxes = Detections(xyxy, score, class_id, np.arange(150))
    for class_agnostic, compared in ((True, np.zeros(150, np.int64)), (False, class_id)):
        kept = nms(boxes, 0.3, class_agnostic=class_agnostic)
        assert kept.track_id is not None
        assert kept.track_id.tolist() == reference_nms(xyxy, score, compared, 0.3)
        assert kept.class_id.tolist() == class_id[kept.track_id].tolist()


def test_grid_is_the_cells_of_each_map_and_their_strides() -> None:
    cells, strides = grid((5, 8), (2, 4))  # 5 / 2 is rounded up, as convolutions with padding do
    assert cells.tolist()[:5] == [[0, 0], [1, 0], [2, 0], [3, 0], [0, 1]]
    assert cells.tolist()[12:] == [[0, 0], [1, 0], [0, 1], [1, 1]]
    assert strides.ravel().tolist() == [2] * 12 + [4] * 4
    assert (cells.dtype, strides.dtype) == (np.float32, np.float32)


def test_find_decodes_the_boxes_of_candidates_alone() -> None:
    asked = []

    def boxes(anchors: np.ndarray) -> np.ndarray:
        asked.append(anchors.tolist())
        return corners(np.array([[anchor * 10, 16, 4, 2] for anchor in anchors], np.float32))

    scores = np.array([[0.1, 0.2], [0.9, 0.3], [0.6, 0.8]], np.float32)
    place = Letterbox((32, 64), (32, 64), (1.0, 1.0), (0, 0), (32, 64))
    found = find(scores, boxes, place, Thresholds(confidence=0.5))
    assert asked == [[1, 2]]
    assert found.xyxy.tolist() == [[8, 15, 12, 17], [18, 15, 22, 17]]
    assert found.class_id.tolist() == [0, 1]


def test_find_decodes_nothing_of_an_image_without_candidates() -> None:
    def boxes(anchors: np.ndarray) -> np.ndarray:
        raise AssertionError("there is no box to decode")

    scores = np.zeros((8400, 80), np.float32)
    whole = Letterbox((10, 10), (10, 10), (1.0, 1.0), (0, 0), (10, 10))
    found = find(scores, boxes, whole, Thresholds())
    assert (found.xyxy.shape, found.score.shape, found.class_id.shape) == ((0, 4), (0,), (0,))


def test_the_costliest_thresholds_of_a_query_take_little_time() -> None:
    """`confidence=0&iou=1&multi_label=true`: 672,000 candidates, none of which covers another."""
    chance = np.random.default_rng(0)
    scores = chance.random((8400, 80), dtype=np.float32)
    places = chance.random((8400, 2), dtype=np.float32) * 600
    boxes = np.concatenate([places, places + 30], axis=1)
    decoded: list[int] = []

    def some(anchors: np.ndarray) -> np.ndarray:
        decoded.append(len(anchors))
        return boxes[anchors]

    place = Letterbox((640, 640), (640, 640), (1.0, 1.0), (0, 0), (640, 640))
    begun = time.thread_time()
    found = find(scores, some, place, Thresholds(0.0, 1.0, Limits().detections, True))
    assert time.thread_time() - begun < 1.0  # 0.03 s of a core; it was 6 s
    assert len(found) == Limits().detections
    assert decoded == [MAX_CANDIDATES]
