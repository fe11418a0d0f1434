"""The gate of an export: how far a child may differ from its parent, as clauses by precision."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from seatrial.accuracy.bootstrap import Difference
from seatrial.accuracy.compare import Comparison
from seatrial.accuracy.gate import Clause, Row, rule
from seatrial.export.report import OutputError

# Largest error of a value of an output, as a share of its largest value (at least 1).
OUTPUT_ERROR = 1e-3
# Least share of values within that; of rows, where they have no fixed order and ties swap them.
VALUES_WITHIN, ROWS_WITHIN = 1.0, 0.99


class Tolerance(msgspec.Struct, frozen=True):
    """What may differ.

    The images are the whole population of the comparison, not a sample of one: the measured value
    decides, and intervals are only shown.

    Attributes:
        lost: Largest share of the parent's boxes without a partner.
        iou: Least mean IoU of matched boxes.
        shift: Largest mean size of a shift of confidence.
        ap: Largest difference in AP, either way.
        outputs: Whether raw outputs are judged; else they are only shown.
    """

    lost: Clause
    iou: Clause
    shift: Clause
    ap: Clause
    outputs: bool = False

    @classmethod
    def of(
        cls, *, lost: float, iou: float, shift: float, ap: float, outputs: bool = False
    ) -> Tolerance:
        """The clauses with these limits."""
        return cls(
            lost=Clause("boxes.lost", lost, decided_by="value"),
            iou=Clause("boxes.iou_mean", iou, "at_least", decided_by="value"),
            shift=Clause("boxes.shift_mean_abs", shift, decided_by="value"),
            ap=Clause("ap_difference", ap, decided_by="value"),
            outputs=outputs,
        )

    def widened(self, noise: Comparison) -> Tolerance:
        """Allow boxes to differ as much as the parent's own do when its images hardly change.

        Never by more than `WIDEST`.

        Args:
            noise: The parent against itself, see `ExportReport.parent_noise`.
        """
        lost = noise.lost / noise.parent_boxes if noise.parent_boxes else 0.0
        return Tolerance.of(
            lost=min(WIDEST.lost.limit, max(self.lost.limit, lost)),
            iou=max(WIDEST.iou.limit, min(self.iou.limit, noise.iou_mean or 0.0)),
            shift=min(WIDEST.shift.limit, max(self.shift.limit, noise.mean_abs_shift or 0.0)),
            ap=self.ap.limit,
            outputs=self.outputs,
        )


TOLERANCES = {
    "f32": Tolerance.of(lost=0.005, iou=0.995, shift=0.002, ap=0.002, outputs=True),
    "f16": Tolerance.of(lost=0.02, iou=0.98, shift=0.01, ap=0.005),
    "bf16": Tolerance.of(lost=0.05, iou=0.95, shift=0.03, ap=0.005),
    # One engine against another on the same quantised graph: steps that round the other way.
    "int8": Tolerance.of(lost=0.05, iou=0.95, shift=0.03, ap=0.005),
}
WIDEST = TOLERANCES["bf16"]


def rows(
    tolerance: Tolerance,
    *,
    outputs: Sequence[OutputError],
    batch: Sequence[OutputError],
    boxes: Comparison,
    accuracy: Difference | None,
) -> list[Row]:
    """Compare everything that was measured with its tolerance."""
    found: list[Row] = []
    for kind, errors in (("output", outputs), ("batch", batch)) if tolerance.outputs else ():
        for one in errors:
            least = VALUES_WITHIN if one.ordered else ROWS_WITHIN
            clause = Clause(f"{kind}.{one.name}", least, "at_least", decided_by="value")
            of = "" if kind == "output" else " of a batch"
            text = (
                f"output {one.name}{of}: {one.within:.2%} within {OUTPUT_ERROR:g}, worst "
                f"{one.worst:.4g} where values reach {one.scale:.4g}"
            )
            found.append(rule(clause, one.within, text=text))
    lost = boxes.lost / boxes.parent_boxes
    found.append(
        rule(
            tolerance.lost,
            lost,
            text=f"{boxes.lost} of {boxes.parent_boxes} boxes of the parent have no partner "
            f"({lost:.1%}, at most {tolerance.lost.limit:.1%} allowed)",
        )
    )
    if boxes.iou_mean is not None and boxes.mean_abs_shift is not None:
        found.append(
            rule(
                tolerance.iou,
                boxes.iou_mean,
                text=f"mean IoU of boxes {boxes.iou_mean:.4f}, {tolerance.iou.wanted} allowed",
            )
        )
        found.append(
            rule(
                tolerance.shift,
                boxes.mean_abs_shift,
                text=f"mean size of a shift of confidence {boxes.mean_abs_shift:.4f}, "
                f"{tolerance.shift.wanted} allowed",
            )
        )
    if accuracy is not None:
        found.append(
            rule(
                tolerance.ap,
                abs(accuracy.difference),
                text=f"AP {accuracy.a:.4f} became {accuracy.b:.4f} ({accuracy.difference:+.4f}, "
                f"{accuracy.level:.0%} interval {accuracy.low:+.4f} to {accuracy.high:+.4f}, "
                f"{accuracy.images} images; {tolerance.ap.wanted} allowed)",
            )
        )
    return found
