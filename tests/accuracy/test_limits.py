"""The one table of limits, and that gates read it."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import msgspec
import pytest

from seatrial.accuracy.bootstrap import Difference
from seatrial.accuracy.limits import LIMITS, LossLimits
from seatrial.deployment import Precision
from seatrial.quantise.options import QuantiseOptions
from seatrial.train.result import gain_verdict


def test_every_precision_has_limits() -> None:
    assert set(LIMITS) == {*get_args(Precision), "int8"}


def test_the_limits_are_those_of_the_guide() -> None:
    """docs/guides/export.md has them as a table: a limit that moves, moves there as well."""
    found = {name: msgspec.structs.astuple(limits) for name, limits in LIMITS.items()}
    assert found == {  # drop, lost, gained, shift, iou
        "f32": (0.002, 0.005, 0.005, 0.002, 0.995),
        "f16": (0.005, 0.02, 0.02, 0.01, 0.98),
        "bf16": (0.005, 0.05, 0.05, 0.03, 0.95),
        "int8": (0.005, 0.05, 0.05, 0.03, 0.95),
    }


def test_what_computes_with_fewer_bits_may_differ_as_much_or_more() -> None:
    for one, other in pairwise(LIMITS[name] for name in ("f32", "f16", "bf16", "int8")):
        for name in ("drop", "lost", "gained", "shift"):
            assert getattr(one, name) <= getattr(other, name)
        assert one.iou >= other.iou


@pytest.mark.parametrize(("drop", "boxes"), [(0.005, 0.05), (0.05, 0.05), (0.1, 0.1)])
def test_boxes_of_one_side_are_allowed_as_the_table_says_or_as_the_drop(
    drop: float, boxes: float
) -> None:
    limits = LossLimits(drop)
    assert (limits.lost, limits.gained) == (boxes, boxes)


def test_int8_and_finetuning_allow_the_same_drop() -> None:
    same = Difference(0.4, 0.4, 0.0, 0.0, 0.0, 0.95, 50, 1000, 0)
    (row,) = gain_verdict(same).rows
    assert -row.clause.limit == QuantiseOptions().gate.drop == LIMITS["int8"].drop
    assert QuantiseOptions().gate.shift == LIMITS["int8"].shift


def test_losses_are_judged_on_a_thousand_draws_that_can_be_repeated() -> None:
    limits = LossLimits()
    assert (limits.samples, limits.seed) == (1000, 0)
