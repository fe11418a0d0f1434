from __future__ import annotations

import numpy as np
import pytest

from seatrial.accuracy.compare import BoxAgreement, box_agreement, choose_floor
from seatrial.detect.detections import Detections, iou
from seatrial.export.output_errors import output_errors
from seatrial.export.report import TOLERANCES, WIDEST
from seatrial.export.verify import judge, widen


def seen(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        table[:, :4].astype(np.float32),
        table[:, 4].astype(np.float32),
        table[:, 5].astype(np.int64),
    )


def test_iou_of_known_boxes() -> None:
    a = np.array([[0, 0, 10, 10], [0, 0, 0, 0]], np.float32)
    b = np.array([[5, 0, 15, 10], [0, 0, 10, 10], [20, 20, 30, 30], [3, 3, 3, 3]], np.float32)
    np.testing.assert_allclose(iou(a, b), [[1 / 3, 1, 0, 0], [0, 0, 0, 0]])


def test_boxes_are_matched_once_by_class_and_a_shift_is_no_loss() -> None:
    parent = seen((0, 0, 10, 10, 0.9, 0), (50, 50, 60, 60, 0.8, 1), (80, 0, 90, 10, 0.26, 0))
    child = seen((0, 0, 10, 9, 0.7, 0), (50, 50, 60, 60, 0.8, 2), (80, 0, 90, 10, 0.2, 0))
    found = box_agreement([parent], [child])
    assert (found.parent, found.matched, found.gained) == (3, 2, 1)
    assert found.iou_mean == pytest.approx(0.95)
    assert found.shift_mean == pytest.approx(-0.13, abs=1e-6)
    assert found.shift_most == pytest.approx(0.2, abs=1e-6)


def test_twins_in_the_child_are_partners_of_one() -> None:
    parent = seen((0, 0, 10, 10, 0.9, 0), (1, 0, 11, 10, 0.8, 0))
    child = seen((0, 0, 10, 10, 0.9, 0))
    found = box_agreement([parent], [child])
    assert (found.parent, found.matched) == (2, 1)


def test_nothing_on_either_side() -> None:
    found = box_agreement([seen()], [seen()])
    assert (found.parent, found.matched, found.iou_mean) == (0, 0, None)
    assert box_agreement([seen((0, 0, 1, 1, 0.9, 0))], [seen()]).matched == 0
    assert box_agreement([seen()], [seen((0, 0, 1, 1, 0.9, 0))]).gained == 1


def test_a_model_that_is_never_sure_is_looked_at_lower() -> None:
    assert choose_floor([seen((0, 0, 1, 1, 0.9, 0))]) == 0.25
    assert choose_floor([seen((0, 0, 1, 1, 0.1, 0))]) == pytest.approx(0.05)
    assert choose_floor([seen()]) == 0.0


def own_boxes(matched: int, iou_mean: float, shift: float) -> BoxAgreement:
    return BoxAgreement(0.25, 100, matched, 0, iou_mean, 0.5, 0.0, shift, shift)


def test_a_restless_parent_widens_a_tolerance_so_far_and_no_further() -> None:
    usual = TOLERANCES["f16"]
    assert widen(usual, own_boxes(100, 1.0, 0.0)) == usual
    some = widen(usual, own_boxes(97, 0.97, 0.02))
    assert (some.unmatched, some.iou, some.shift) == (pytest.approx(0.03), 0.97, 0.02)
    assert (some.output, some.ap) == (usual.output, usual.ap)
    most = widen(usual, own_boxes(10, 0.5, 0.4))
    assert (most.unmatched, most.iou, most.shift) == (WIDEST.unmatched, WIDEST.iou, WIDEST.shift)


def test_mixed_up_classes_are_out_of_the_widest_tolerance() -> None:
    boxes = [(20.0 * i, 0.0, 20.0 * i + 10, 10.0, 0.9) for i in range(10)]
    parent = seen(*((*box, i % 3) for i, box in enumerate(boxes)))
    child = seen(*((*box, (i + 1) % 3) for i, box in enumerate(boxes)))
    failures = judge(WIDEST, (), (), box_agreement([parent], [child]), None)
    assert failures == ("10 of 10 boxes have no partner (100.0%, allowed 5.0%)",)


def test_rows_without_order_are_compared_with_the_nearest() -> None:
    rows = np.random.default_rng(0).normal(size=(1, 9, 5)).astype(np.float32)
    order = np.random.default_rng(1).permutation(9)
    parent = {"logits": rows[..., :2], "boxes": rows[..., 2:]}
    child = {name: value[:, order] for name, value in parent.items()}
    (loose,) = output_errors([parent], [child], ordered=False, limit=1e-6)
    assert (loose.name, loose.within, loose.worst) == ("logits+boxes", 1.0, 0.0)
    strict = output_errors([parent], [child], ordered=True, limit=1e-6)
    assert {one.name for one in strict} == {"logits", "boxes"}
    assert all(one.within < 1 for one in strict)


def test_a_row_that_stands_for_two_is_not_agreement() -> None:
    parent = {"rows": np.array([[[1.0], [1.0], [2.0]]], np.float32)}
    child = {"rows": np.array([[[1.0], [5.0], [2.0]]], np.float32)}
    (found,) = output_errors([parent], [child], ordered=False, limit=1e-3)
    assert found.within == pytest.approx(2 / 3)
