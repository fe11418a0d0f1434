"""Detections: validated, indexed, rounded; labels and overlaps of boxes."""

from __future__ import annotations

import numpy as np
import pytest

from seatrial.detect.detections import Detections, iou, label_of

XYXY = np.zeros((2, 4), np.float32)
SCORE = np.zeros(2, np.float32)
CLASS_ID = np.zeros(2, np.int64)


def test_length_is_the_number_of_objects() -> None:
    assert len(Detections(XYXY, SCORE, CLASS_ID)) == 2
    assert len(Detections.empty()) == 0


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        ((XYXY[:1], SCORE, CLASS_ID), "xyxy"),
        ((XYXY[:, :3], SCORE, CLASS_ID), "xyxy"),
        ((XYXY.astype(np.float64), SCORE, CLASS_ID), "xyxy"),
        ((XYXY, SCORE[:, None], CLASS_ID), "score"),
        ((XYXY, SCORE.astype(np.float16), CLASS_ID), "score"),
        ((XYXY, SCORE, CLASS_ID[:1]), "class_id"),
        ((XYXY, SCORE, CLASS_ID.astype(np.int32)), "class_id"),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(
    arrays: tuple[np.ndarray, ...], named: str
) -> None:
    with pytest.raises(ValueError, match=f"^{named} must be"):
        Detections(*arrays)


SEEN = Detections(
    np.arange(12, dtype=np.float32).reshape(3, 4),
    np.array([0.9, 0.8, 0.7], np.float32),
    np.array([2, 1, 0]),
    np.array([7, -1, 9]),
)


def rows(detections: Detections) -> list[tuple[float, ...]]:
    ids = detections.track_id if detections.track_id is not None else [None] * len(detections)
    return [
        (box[0], class_id, track)
        for box, class_id, track in zip(
            detections.xyxy.tolist(), detections.class_id.tolist(), ids, strict=True
        )
    ]


@pytest.mark.parametrize(
    ("index", "left"),
    [
        (np.array([True, False, True]), [(0, 2, 7), (8, 0, 9)]),
        (np.array([2, 0]), [(8, 0, 9), (0, 2, 7)]),
        (slice(1, None), [(4, 1, -1), (8, 0, 9)]),
        (1, [(4, 1, -1)]),
        (-1, [(8, 0, 9)]),
        (np.intp(0), [(0, 2, 7)]),
        (np.zeros(0, np.intp), []),
        (np.array([]), []),
        ([], []),
        ([True, False, True], [(0, 2, 7), (8, 0, 9)]),
        ([2, 0], [(8, 0, 9), (0, 2, 7)]),
    ],
    ids=str,
)
def test_indexing_chooses_all_arrays_alike(index: object, left: list[tuple[int, ...]]) -> None:
    chosen = SEEN[index]  # type: ignore[index]
    assert rows(chosen) == left
    assert chosen.xyxy.shape == (len(left), 4)


@pytest.mark.parametrize(
    "index",
    [
        True, False, np.True_, None, ..., "person", 1.0, (0, 1), np.array(1), np.array(True),
        np.array([0.0]), np.array([["a"]]), np.array(["person"]), np.zeros((3, 1), np.bool_),
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_choice_is_refused(index: object) -> None:
    with pytest.raises(TypeError, match="give a mask of length 3, indices, a slice or one index"):
        SEEN[index]  # type: ignore[index]


@pytest.mark.parametrize("index", [3, [0, 3], np.array([True]), np.zeros(0, np.bool_)], ids=repr)
def test_an_index_out_of_range_and_a_mask_of_another_length(index: object) -> None:
    with pytest.raises(IndexError):
        SEEN[index]  # type: ignore[index]


def test_iterating_ends() -> None:
    assert [len(one) for one in SEEN] == [1, 1, 1]  # type: ignore[attr-defined]


def test_without_tracks_there_are_none_after_indexing() -> None:
    assert Detections(XYXY, SCORE, CLASS_ID)[:1].track_id is None


def test_track_ids_are_checked_too() -> None:
    with pytest.raises(ValueError, match=r"^track_id must be"):
        Detections(XYXY, SCORE, CLASS_ID, CLASS_ID[:1])


def test_rounded_keeps_hundredths_of_a_pixel_and_five_decimals_of_confidence() -> None:
    seen = Detections(
        np.array([[1.2349, 2.006, 3.0, 4.444]], np.float32),
        np.array([0.1234567], np.float32),
        np.array([3]),
        np.array([5]),
    ).rounded()
    np.testing.assert_array_equal(seen.xyxy, np.array([[1.23, 2.01, 3.0, 4.44]], np.float32))
    np.testing.assert_array_equal(seen.score, np.array([0.12346], np.float32))
    assert (seen.class_id.tolist(), seen.track_id) == ([3], np.array([5]))


def test_a_class_without_a_name_is_told_by_its_number() -> None:
    assert label_of(1, ("a", "b")) == "b"
    assert label_of(7, ("a", "b")) == "7"
    assert label_of(-1, ("a", "b")) == "-1"


def test_iou_of_known_boxes() -> None:
    a = np.array([[0, 0, 10, 10], [0, 0, 0, 0]], np.float32)
    b = np.array([[5, 0, 15, 10], [0, 0, 10, 10], [20, 20, 30, 30], [3, 3, 3, 3]], np.float32)
    np.testing.assert_allclose(iou(a, b), [[1 / 3, 1, 0, 0], [0, 0, 0, 0]])
    assert iou(a, b[:0]).shape == (2, 0)


def test_iou_of_boxes_of_different_sizes_goes_either_way() -> None:
    a, b = np.array([[0, 0, 10, 10]], np.float32), np.array([[5, 0, 9, 20]], np.float32)
    np.testing.assert_allclose(iou(a, b), [[40 / (100 + 80 - 40)]])
    np.testing.assert_allclose(iou(b, a), iou(a, b))
