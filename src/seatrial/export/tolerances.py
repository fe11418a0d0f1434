"""The gate of an export: the shared limits on a child, and those on what is to be the same."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from seatrial.accuracy.bootstrap import Difference
from seatrial.accuracy.compare import Comparison
from seatrial.accuracy.limits import LIMITS, ChildLimits
from seatrial.accuracy.loss import Loss, box_rows, drop_row
from seatrial.export.report import OutputError
from seatrial.gate import Clause, Row, rule

# Largest error of a value of an output, as a share of its largest value (at least 1).
OUTPUT_ERROR = 1e-3
# Least share of values within that; of rows, where they have no fixed order and ties swap them.
VALUES_WITHIN, ROWS_WITHIN = 1.0, 0.99
# Precisions whose raw outputs are judged; of the others they are only shown.
OUTPUTS_JUDGED = frozenset({"f32"})
WIDEST = LIMITS["bf16"]


def widened(limits: ChildLimits, noise: Comparison) -> ChildLimits:
    """Allow boxes to differ as much as the parent's own do when its images hardly change.

    Never by more than `WIDEST`.

    Args:
        limits: Limits of the precision.
        noise: The parent against itself, see `ExportReport.parent_noise`.
    """
    boxes = max(1, noise.parent_boxes)
    return msgspec.structs.replace(
        limits,
        lost=min(WIDEST.lost, max(limits.lost, noise.lost / boxes)),
        gained=min(WIDEST.gained, max(limits.gained, noise.gained / boxes)),
        shift=min(WIDEST.shift, max(limits.shift, noise.mean_abs_shift or 0.0)),
        iou=max(WIDEST.iou, min(limits.iou, noise.iou_mean or 0.0)),
    )


def rows(
    limits: ChildLimits,
    *,
    outputs: Sequence[OutputError],
    batch: Sequence[OutputError],
    boxes: Comparison,
    accuracy: Difference | None,
) -> list[Row]:
    """Compare everything that was measured with its limit.

    The images are the whole population of the comparison, not a sample of one: the measured value
    decides, and intervals are only shown.

    Args:
        limits: Limits of the precision.
        outputs: Errors of raw outputs, where they are judged.
        batch: The same of a batch.
        boxes: Child against parent.
        accuracy: Their difference in AP; None without labels.
    """
    found: list[Row] = []
    for kind, errors in (("output", outputs), ("batch", batch)):
        for one in errors:
            least = VALUES_WITHIN if one.ordered else ROWS_WITHIN
            clause = Clause(f"{kind}.{one.name}", least, "at_least", unit="%", decided_by="value")
            of = "" if kind == "output" else " of a batch"
            text = (
                f"output {one.name}{of}: {one.within:.2%} within {OUTPUT_ERROR:g}, worst "
                f"{one.worst:.4g} where values reach {one.scale:.4g}"
            )
            found.append(rule(clause, one.within, text=text))
    found += box_rows(boxes, limits)
    if boxes.iou_mean is not None and boxes.mean_abs_shift is not None:
        iou = Clause("boxes.iou_mean", limits.iou, "at_least", decided_by="value")
        words = f"mean IoU of boxes {boxes.iou_mean:.4f}, {iou.wanted} allowed"
        found.append(rule(iou, boxes.iou_mean, text=words))
        shift = Clause("boxes.shift_mean_abs", limits.shift, decided_by="value")
        words = (
            f"mean size of a shift of confidence {boxes.mean_abs_shift:.4f}, {shift.wanted} allowed"
        )
        found.append(rule(shift, boxes.mean_abs_shift, text=words))
    if accuracy is not None:
        loss = Loss.of(msgspec.structs.replace(boxes, ap=accuracy))
        found.append(drop_row(loss, limits, decided_by="value"))
    return found
