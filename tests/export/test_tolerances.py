"""The gate of an export: which clauses there are, and what is out of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from seatrial.accuracy.bootstrap import Difference
from seatrial.accuracy.compare import Comparison
from seatrial.accuracy.limits import LIMITS
from seatrial.export.report import OutputError
from seatrial.export.tolerances import WIDEST, rows, widened

SAME = Comparison(
    floor=0.25,
    images=16,
    parent_boxes=100,
    child_boxes=100,
    matched=100,
    lost=0,
    gained=0,
    agreement=None,
    iou_mean=1.0,
    iou_least=1.0,
    mean_shift=0.0,
    mean_abs_shift=0.0,
    most_shift=0.0,
)


def boxes(**changes: Any) -> Comparison:
    return msgspec.structs.replace(SAME, **changes)


def ap(difference: float) -> Difference:
    return Difference(
        a=0.4, b=0.4 + difference, difference=difference, low=difference - 0.1,
        high=difference + 0.1, level=0.95, images=53, samples=10, seed=0,
    )  # fmt: skip


def output(within: float, *, ordered: bool = True) -> OutputError:
    return OutputError(
        name="output0", worst=0.5, mean=0.1, scale=640.0, within=within, ordered=ordered
    )


def outcomes(precision: str, **measured: Any) -> dict[str, str]:
    given = {"outputs": (), "batch": (), "boxes": SAME, "accuracy": None} | measured
    return {row.clause.metric: row.outcome for row in rows(LIMITS[precision], **given)}


@pytest.mark.parametrize("precision", LIMITS)
def test_equal_answers_hold(precision: str) -> None:
    found = outcomes(precision, outputs=(output(1.0),), batch=(output(1.0),), accuracy=ap(0.0))
    assert found == dict.fromkeys(
        (
            "output.output0",
            "batch.output0",
            "boxes.lost",
            "boxes.gained",
            "boxes.iou_mean",
            "boxes.shift_mean_abs",
            "ap_drop",
        ),
        "holds",
    )


@pytest.mark.parametrize(
    ("precision", "boxes_alone", "iou", "shift", "drop"),
    [
        ("f32", 0.005, 0.995, 0.002, 0.002),
        ("f16", 0.02, 0.98, 0.01, 0.005),
        ("bf16", 0.05, 0.95, 0.03, 0.005),
        ("int8", 0.05, 0.95, 0.03, 0.005),
    ],
)
def test_each_limit_is_allowed_and_no_more(
    precision: str, boxes_alone: float, iou: float, shift: float, drop: float
) -> None:
    count = round(boxes_alone * 1000)
    for much, outcome in ((0, "holds"), (1, "fails")):
        found = outcomes(
            precision,
            boxes=boxes(
                parent_boxes=1000,
                lost=count + much,
                gained=count + much,
                iou_mean=iou - much * 1e-6,
                mean_abs_shift=shift + much * 1e-6,
            ),
            accuracy=ap(-drop - much * 1e-6),
        )
        assert found == dict.fromkeys(
            ("boxes.lost", "boxes.gained", "boxes.iou_mean", "boxes.shift_mean_abs", "ap_drop"),
            outcome,
        )


@pytest.mark.parametrize("precision", LIMITS)
def test_ap_that_rises_is_no_loss(precision: str) -> None:
    assert outcomes(precision, accuracy=ap(0.2))["ap_drop"] == "holds"


def test_the_measured_drop_decides_and_its_images_are_the_labelled_ones() -> None:
    (row,) = (
        row
        for row in rows(LIMITS["f32"], outputs=(), batch=(), boxes=SAME, accuracy=ap(-0.01))
        if row.clause.metric == "ap_drop"
    )
    assert row.outcome == "fails"
    assert row.text == (
        "AP drops by 0.0100 (95% interval of the drop -0.0900 to +0.1100, 53 images; a drop of "
        "0.002 is allowed)"
    )


@pytest.mark.parametrize("precision", LIMITS)
def test_boxes_that_only_the_child_sees_fail_it(precision: str) -> None:
    found = outcomes(
        precision, boxes=boxes(parent_boxes=400, child_boxes=2400, matched=400, gained=2000)
    )
    assert {name for name, outcome in found.items() if outcome == "fails"} == {"boxes.gained"}


def test_signed_shifts_and_extremes_are_only_shown() -> None:
    found = outcomes("f32", boxes=boxes(mean_shift=0.5, iou_least=0.1, most_shift=0.9))
    assert set(found.values()) == {"holds"}


@pytest.mark.parametrize(
    ("within", "ordered", "outcome"),
    [(0.9999, True, "fails"), (0.99, False, "holds"), (0.9899, False, "fails")],
)
def test_all_values_or_nearly_all_rows_must_be_within(
    within: float, ordered: bool, outcome: str
) -> None:
    for kind in ("outputs", "batch"):
        found = outcomes("f32", **{kind: (output(within, ordered=ordered),)})
        assert found[f"{kind.removesuffix('s')}.output0"] == outcome


def test_without_pairs_the_lost_boxes_fail_it() -> None:
    found = outcomes("bf16", boxes=boxes(matched=0, lost=100, iou_mean=None, mean_abs_shift=None))
    assert found == {"boxes.lost": "fails", "boxes.gained": "holds"}


def test_a_noisy_parent_widens_limits_so_far_and_no_further() -> None:
    usual = LIMITS["f16"]
    assert widened(usual, SAME) == usual
    some = widened(usual, boxes(lost=3, gained=4, iou_mean=0.97, mean_abs_shift=0.02))
    assert (some.lost, some.gained, some.iou, some.shift) == (0.03, 0.04, 0.97, 0.02)
    assert some.drop == usual.drop
    most = widened(usual, boxes(lost=90, gained=90, iou_mean=0.5, mean_abs_shift=0.4))
    assert most == msgspec.structs.replace(WIDEST, drop=usual.drop)
    none = widened(usual, boxes(parent_boxes=0, iou_mean=None, mean_abs_shift=None))
    assert none == msgspec.structs.replace(usual, iou=WIDEST.iou)


def test_a_batch_is_told_from_single_images() -> None:
    given = {"outputs": (output(1.0),), "batch": (output(0.5),), "boxes": SAME, "accuracy": None}
    texts = [row.text.partition(":")[0] for row in rows(LIMITS["f32"], **given)]
    assert texts[:2] == ["output output0", "output output0 of a batch"]
