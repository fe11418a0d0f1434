"""Loss of a child against its parent, and the clauses on it that all gates share."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from seatrial.accuracy.compare import Comparison
from seatrial.accuracy.limits import ChildLimits, LossLimits
from seatrial.gate import Clause, DecidedBy, Interval, Row, Verdict, judge, rule


class Loss(msgspec.Struct, frozen=True):
    """Loss of a child in one figure with its interval; see `Comparison` for all figures.

    Attributes:
        metric: ``ap``; or ``agreement``: boxes that both see, as a share of all (F1).
        parent: AP of the parent; its agreement with itself, 1.
        child: AP of the child; its agreement with the parent.
        drop: Parent less child.
        low: Lower end of the drop's interval.
        high: Upper end.
        level: Level of the interval.
        images: Number of images.
        mean_shift: Mean of child less parent confidence over matched boxes; None without any.
        mean_abs_shift: Mean size of that shift.
        matched: Boxes that both see, see `seatrial.accuracy.compare`.
        lost: Boxes of the parent that the child has not.
        gained: Boxes of the child that the parent has not.
        parent_boxes: Boxes that the parent sees; 0 in reports that were written without it.
    """

    metric: Literal["ap", "agreement"]
    parent: float
    child: float
    drop: float
    low: float
    high: float
    level: float
    images: int
    mean_shift: float | None
    mean_abs_shift: float | None
    matched: int
    lost: int
    gained: int
    parent_boxes: int = 0

    @classmethod
    def of(cls, found: Comparison) -> Loss:
        """The loss of AP where there are labels, else of agreement (all of it without boxes)."""
        if found.ap is not None:
            ap = found.ap
            parent, child, level = ap.a, ap.b, ap.level
            # 0.0 - x and not -x: there is no drop of -0.0.
            drop, low, high = 0.0 - ap.difference, 0.0 - ap.high, 0.0 - ap.low
        elif found.agreement is not None:
            share = found.agreement
            parent, child, level = 1.0, share.share, share.level
            drop, low, high = 1 - share.share, 1 - share.high, 1 - share.low
        else:
            parent, child, level = 1.0, 0.0, 0.95
            drop = low = high = 1.0
        return cls(
            metric="agreement" if found.ap is None else "ap",
            parent=parent,
            child=child,
            drop=drop,
            low=low,
            high=high,
            level=level,
            images=found.images if found.ap is None else found.ap.images,
            mean_shift=found.mean_shift,
            mean_abs_shift=found.mean_abs_shift,
            matched=found.matched,
            lost=found.lost,
            gained=found.gained,
            parent_boxes=found.parent_boxes,
        )


def drop_row(
    loss: Loss, limits: ChildLimits | LossLimits, *, decided_by: DecidedBy = "interval"
) -> Row:
    """The clause on the drop of AP or agreement. A rise is no loss, however large."""
    what = "AP" if loss.metric == "ap" else "agreement with the parent"
    moves = "drops" if loss.drop >= 0 else "rises"
    return rule(
        Clause(f"{loss.metric}_drop", limits.drop, label=f"drop of {what}", decided_by=decided_by),
        loss.drop,
        Interval(loss.low, loss.high, loss.level, loss.images),
        text=f"{what} {moves} by {abs(loss.drop):.4f} ({loss.level:.0%} interval of the "
        f"drop {loss.low:+.4f} to {loss.high:+.4f}, {loss.images} images; a drop of "
        f"{limits.drop:g} is allowed)",
    )


def box_rows(found: Loss | Comparison, limits: ChildLimits | LossLimits) -> list[Row]:
    """The clauses on boxes that only one of the two sees, as shares of the parent's boxes."""
    boxes = found.parent_boxes or found.matched + found.lost
    rows = []
    for name, count, limit, words in (
        ("lost", found.lost, limits.lost, "of the parent have no partner in the child"),
        ("gained", found.gained, limits.gained, "of the child have no partner in the parent"),
    ):
        share = count / boxes if boxes else math.inf if count else 0.0
        of_all = f"{share:.1%} of the parent's {boxes}" if boxes else "the parent sees none"
        rows.append(
            rule(
                Clause(f"boxes.{name}", limit, label=f"boxes {name}", unit="%", decided_by="value"),
                share,
                text=f"{count} boxes {words} ({of_all}, at most {limit:.1%} allowed)",
            )
        )
    return rows


def judge_loss(loss: Loss, limits: LossLimits, *, finetuned: bool = False) -> Verdict:
    """The verdict on a loss: of the drop by its interval, of boxes and the shift by value.

    Args:
        loss: What the child lost.
        limits: What it may lose.
        finetuned: The child was trained to give other boxes and confidences than its parent: the
            drop alone is judged.
    """
    drop = drop_row(loss, limits)
    if finetuned:
        return judge([drop])
    moved = "no box of the parent has a partner in the child"
    if loss.mean_shift is not None:
        moved = f"confidences move by {loss.mean_shift:+.4f} on average"
    shift = rule(
        Clause("confidence_shift", limits.shift, label="shift of confidence", missing="fails"),
        None if loss.mean_shift is None else abs(loss.mean_shift),
        text=f"{moved} ({limits.shift:g} is allowed)",
    )
    return judge([drop, *box_rows(loss, limits), shift])
