"""How far a child may differ from its parent: the one table that every gate on a child reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec
from cyclopts import Parameter


class ChildLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of what a child may lose, by the precision that it computes in.

    Attributes:
        drop: Largest loss of AP, 0-1; where no labels are, of agreement with the parent.
        lost: Largest number of the parent's boxes without a partner, as a share of all of them.
        gained: Largest number of the child's boxes without a partner, as a share of the parent's.
        shift: Largest shift of the confidence of matched boxes: of its mean, either way, for a
            child that is to be as good as its parent; of its mean size for one that is to be the
            same.
        iou: Least mean IoU of matched boxes, for a child that is to be the same.
    """

    drop: float
    lost: float
    gained: float
    shift: float
    iou: float


LIMITS = {
    "f32": ChildLimits(drop=0.002, lost=0.005, gained=0.005, shift=0.002, iou=0.995),
    "f16": ChildLimits(drop=0.005, lost=0.02, gained=0.02, shift=0.01, iou=0.98),
    "bf16": ChildLimits(drop=0.005, lost=0.05, gained=0.05, shift=0.03, iou=0.95),
    "int8": ChildLimits(drop=0.005, lost=0.05, gained=0.05, shift=0.03, iou=0.95),
}


@dataclass(frozen=True)
class LossLimits:
    """Limits for an INT8 version or a finetuned model: it is to be as good as its parent.

    Attributes:
        drop: Largest loss of AP on labelled images, 0-1; without labels, of agreement with the
            parent.
        shift: Largest mean shift of the confidence of matched boxes, either way.
        samples: Draws of the bootstrap.
        seed: Seed of the draws.
    """

    drop: Annotated[float, Parameter(name="--gate")] = LIMITS["int8"].drop
    shift: Annotated[float, Parameter(name="--max-shift")] = LIMITS["int8"].shift
    samples: Annotated[int, Parameter(parse=False)] = 1000
    seed: Annotated[int, Parameter(parse=False)] = 0

    @property
    def lost(self) -> float:
        """Largest share of lost boxes: the table's, or the drop where that is larger."""
        return max(LIMITS["int8"].lost, self.drop)

    @property
    def gained(self) -> float:
        """Largest share of gained boxes: the table's, or the drop where that is larger."""
        return max(LIMITS["int8"].gained, self.drop)
