"""What a child lost, and the gate on it: holds, fails, or the images cannot tell."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from seatrial.accuracy.bootstrap import Difference
from seatrial.accuracy.compare import Agreement, Comparison
from seatrial.accuracy.limits import LossLimits
from seatrial.accuracy.loss import Loss, judge_loss


def loss(drop: float, low: float, high: float, **changes: Any) -> Loss:
    plain = Loss(
        metric="ap",
        parent=0.44,
        child=0.44 - drop,
        drop=drop,
        low=low,
        high=high,
        level=0.95,
        images=53,
        mean_shift=-0.01,
        mean_abs_shift=0.03,
        matched=300,
        lost=2,
        gained=1,
        parent_boxes=302,
    )
    return msgspec.structs.replace(plain, **changes)


@pytest.mark.parametrize(
    ("drop", "low", "high", "outcome", "within"),
    [
        (0.001, -0.001, 0.003, "holds", True),
        (-0.02, -0.03, -0.01, "holds", True),  # AP that rises is no loss
        (0.02, 0.01, 0.03, "fails", False),
        (0.001, -0.008, 0.009, "undecided", True),
        (0.007, -0.002, 0.015, "undecided", False),
        (0.005, 0.005, 0.005, "holds", True),
    ],
)
def test_the_interval_of_the_drop_decides(
    drop: float, low: float, high: float, outcome: str, within: bool
) -> None:
    verdict = judge_loss(loss(drop, low, high), LossLimits(0.005))
    assert (verdict.outcome, verdict.within) == (outcome, within)
    assert f"AP {'rises' if drop < 0 else 'drops'} by {abs(drop):.4f}" in verdict.statement
    assert "53 images" in verdict.statement
    row = verdict.rows[0]
    assert (row.measured, row.low, row.high, row.clause.limit) == (drop, low, high, 0.005)


@pytest.mark.parametrize("clause", ["lost", "gained"])
def test_boxes_of_one_side_only_fail_the_gate_though_ap_holds(clause: str) -> None:
    for count, outcome in ((20, "holds"), (21, "fails")):
        found = loss(0.0, 0.0, 0.0, **{clause: count}, parent_boxes=400)
        rows = {row.clause.metric: row.outcome for row in judge_loss(found, LossLimits()).rows}
        assert rows[f"boxes.{clause}"] == outcome
        assert set(rows.values()) == {"holds", outcome}


def test_who_allows_a_greater_drop_allows_as_many_boxes_of_one_side() -> None:
    found = loss(0.0, 0.0, 0.0, lost=40, gained=40, parent_boxes=400)
    assert judge_loss(found, LossLimits(0.1)).outcome == "holds"
    assert judge_loss(found, LossLimits(0.09)).outcome == "fails"


def test_boxes_against_a_parent_that_sees_none() -> None:
    for gained, outcome in ((0, "holds"), (1, "fails")):
        found = loss(0.0, 0.0, 0.0, matched=0, lost=0, gained=gained, parent_boxes=0)
        assert judge_loss(found, LossLimits()).outcome == outcome


def test_a_loss_that_was_written_without_the_parents_boxes_is_judged_by_its_pairs() -> None:
    for lost, outcome in ((15, "holds"), (16, "fails")):  # of 300 and 301 pairs and lost ones
        found = loss(0.0, 0.0, 0.0, matched=285, lost=lost, gained=0, parent_boxes=0)
        assert judge_loss(found, LossLimits()).outcome == outcome


def test_a_set_that_is_too_small_says_so_and_how_large_it_should_be() -> None:
    verdict = judge_loss(loss(0.001, -0.007, 0.009), LossLimits(0.005))
    assert "too small to decide" in verdict.statement
    assert verdict.images_needed == 210  # half as wide: four times 53, to two digits
    assert "210" in verdict.statement


@pytest.mark.parametrize(
    ("shift", "outcome"),
    [(-0.2, "fails"), (0.2, "fails"), (None, "fails"), (-0.03, "holds"), (0.03, "holds")],
)
def test_confidences_that_moved_fail_the_gate_though_ap_holds(
    shift: float | None, outcome: str
) -> None:
    limits = LossLimits(0.005, shift=0.03)
    verdict = judge_loss(loss(0.0, -0.001, 0.001, mean_shift=shift), limits)
    assert (verdict.outcome, verdict.within) == (outcome, outcome == "holds")
    if shift is None:
        assert "no box of the parent has a partner" in verdict.statement


COMPARED = Comparison(
    floor=0.25,
    images=9,
    parent_boxes=30,
    child_boxes=20,
    matched=20,
    lost=10,
    gained=3,
    agreement=Agreement(share=0.8, low=0.7, high=0.95, level=0.95),
    iou_mean=0.9,
    iou_least=0.6,
    mean_shift=-0.02,
    mean_abs_shift=0.04,
    most_shift=0.3,
)


def test_the_loss_is_of_ap_where_there_are_labels() -> None:
    ap = Difference(
        a=0.5, b=0.47, difference=-0.03, low=-0.05, high=0.01, level=0.9, images=9, samples=10,
        seed=0,
    )  # fmt: skip
    got = Loss.of(msgspec.structs.replace(COMPARED, ap=ap))
    assert (got.metric, got.parent, got.child, got.level) == ("ap", 0.5, 0.47, 0.9)
    assert (got.drop, got.low, got.high) == (pytest.approx(0.03), -0.01, 0.05)
    assert (got.images, got.matched, got.lost, got.gained, got.parent_boxes) == (9, 20, 10, 3, 30)
    assert (got.mean_shift, got.mean_abs_shift) == (-0.02, 0.04)


def test_the_loss_is_of_agreement_without_labels() -> None:
    got = Loss.of(COMPARED)
    assert (got.metric, got.parent, got.child, got.level) == ("agreement", 1, 0.8, 0.95)
    assert (got.drop, got.low, got.high) == (
        pytest.approx(0.2), pytest.approx(0.05), pytest.approx(0.3)
    )  # fmt: skip
    nothing = Loss.of(msgspec.structs.replace(COMPARED, agreement=None))
    assert (nothing.parent, nothing.child, nothing.level) == (1, 0, 0.95)
    assert (nothing.drop, nothing.low, nothing.high) == (1, 1, 1)
    assert (nothing.drop, nothing.low, nothing.high, nothing.level) == (1, 1, 1, 0.95)


def test_what_may_be_lost_unless_something_else_is_asked_for() -> None:
    limits = LossLimits()
    assert (limits.drop, limits.shift, limits.samples, limits.seed) == (0.005, 0.03, 1000, 0)
    assert "AP drops by 0.0000" in judge_loss(loss(0.0, 0.0, 0.0), limits).statement


def test_of_a_finetuned_model_the_drop_alone_is_judged() -> None:
    found = msgspec.structs.replace(
        loss(-0.2, -0.3, -0.1, mean_shift=0.4), lost=50, gained=80, parent_boxes=100
    )
    assert judge_loss(found, LossLimits()).outcome == "fails"
    verdict = judge_loss(found, LossLimits(), finetuned=True)
    assert verdict.outcome == "holds"
    assert [row.clause.metric for row in verdict.rows] == ["ap_drop"]


def test_boxes_of_a_parent_that_sees_nothing_are_no_share_of_it() -> None:
    found = msgspec.structs.replace(
        loss(0.0, 0.0, 0.0), matched=0, lost=0, gained=3, parent_boxes=0
    )
    statement = judge_loss(found, LossLimits()).statement
    assert "3 boxes of the child have no partner in the parent (the parent sees none" in statement
    assert "inf" not in statement
