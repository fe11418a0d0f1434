"""The gate of an export: which clauses there are, and what is out of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from seatrial.accuracy.bootstrap import Difference
from seatrial.accuracy.compare import Comparison
from seatrial.accuracy.gate import judge
from seatrial.export.report import OutputError
from seatrial.export.tolerances import TOLERANCES, WIDEST, rows

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
    return {row.clause.metric: row.outcome for row in rows(TOLERANCES[precision], **given)}


@pytest.mark.parametrize("precision", TOLERANCES)
def test_equal_answers_hold(precision: str) -> None:
    found = outcomes(precision, outputs=(output(1.0),), batch=(output(1.0),), accuracy=ap(0.0))
    assert set(found.values()) == {"holds"}
    judged = precision == "f32"
    assert ("output.output0" in found) == ("batch.output0" in found) == judged


@pytest.mark.parametrize(
    ("precision", "lost", "iou", "shift", "difference"),
    [
        ("f32", 0.005, 0.995, 0.002, 0.002),
        ("f16", 0.02, 0.98, 0.01, 0.005),
        ("bf16", 0.05, 0.95, 0.03, 0.005),
        ("int8", 0.05, 0.95, 0.03, 0.005),
    ],
)
def test_each_limit_is_allowed_and_no_more(
    precision: str, lost: float, iou: float, shift: float, difference: float
) -> None:
    count = round(lost * 1000)
    for much, outcome in ((0, "holds"), (1, "fails")):
        found = outcomes(
            precision,
            boxes=boxes(
                parent_boxes=1000,
                lost=count + much,
                iou_mean=iou - much * 1e-6,
                mean_abs_shift=shift + much * 1e-6,
            ),
            accuracy=ap(difference + much * 1e-6),
        )
        assert found == dict.fromkeys(
            ("boxes.lost", "boxes.iou_mean", "boxes.shift_mean_abs", "ap_difference"), outcome
        )


def test_ap_that_rises_is_as_wrong_as_ap_that_falls() -> None:
    for difference in (-0.0021, 0.0021):
        assert outcomes("f32", accuracy=ap(difference))["ap_difference"] == "fails"
    verdict = judge(
        rows(TOLERANCES["f32"], outputs=(), batch=(), boxes=SAME, accuracy=ap(0.01)),
        name="the export",
    )
    assert verdict.statement == (
        "The export fails: AP 0.4000 became 0.4100 (+0.0100, 95% interval -0.0900 to +0.1100, 53 "
        "images; at most 0.002 allowed)."
    )


def test_gained_boxes_and_signed_shifts_are_only_shown() -> None:
    found = outcomes("f32", boxes=boxes(gained=50, mean_shift=0.5, iou_least=0.1, most_shift=0.9))
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
    assert found == {"boxes.lost": "fails"}


def test_a_noisy_parent_widens_a_tolerance_so_far_and_no_further() -> None:
    usual = TOLERANCES["f16"]
    assert usual.widened(SAME) == usual
    some = usual.widened(boxes(lost=3, iou_mean=0.97, mean_abs_shift=0.02))
    assert (some.lost.limit, some.iou.limit, some.shift.limit) == (0.03, 0.97, 0.02)
    assert (some.outputs, some.ap) == (usual.outputs, usual.ap)
    most = usual.widened(boxes(lost=90, iou_mean=0.5, mean_abs_shift=0.4))
    assert (most.lost, most.iou, most.shift) == (WIDEST.lost, WIDEST.iou, WIDEST.shift)
    none = usual.widened(boxes(parent_boxes=0, iou_mean=None, mean_abs_shift=None))
    assert none == msgspec.structs.replace(usual, iou=WIDEST.iou)
