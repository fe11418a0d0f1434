"""The report of an export as rows of text, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Iterator

from seatrial.export.report import ExportReport
from seatrial.graphs.first_difference import FirstDifference
from seatrial.report.numbers import counted


def compared_rows(report: ExportReport) -> Iterator[tuple[str, str, str]]:
    """Rows of name, finding and limit for all that was compared."""
    boxes, noise, ap = report.boxes, report.parent_noise, report.accuracy
    allowed = {row.clause.metric: row.clause.wanted for row in report.verdict.rows}
    for kind, errors in (("output", report.outputs), ("batch", report.batch)):
        for one in errors:
            yield (
                f"{'a batch of images, ' if kind == 'batch' else ''}output {one.name}",
                f"worst {one.worst:.3g}, {one.within:.2%} within tolerance",
                allowed.get(f"{kind}.{one.name}", "-"),
            )
    yield (
        f"boxes from confidence {boxes.floor:.3g}",
        f"{boxes.matched} matched; of {boxes.parent_boxes} lost {boxes.lost}"
        f"{_share(boxes.lost, boxes.parent_boxes)}, gained {boxes.gained}"
        f"{_share(boxes.gained, boxes.parent_boxes)}",
        f"lost: {allowed.get('boxes.lost', '-')}; gained: {allowed.get('boxes.gained', '-')}",
    )
    if noise is not None:
        yield (
            "the parent against itself, canvas moved by 2 grey levels",
            f"of {noise.parent_boxes} lost {noise.lost}, gained {noise.gained}, "
            f"IoU {_number(noise.iou_mean)}, size of a shift {_number(noise.mean_abs_shift)}",
            "-",
        )
    yield "mean IoU of pairs", _number(boxes.iou_mean), allowed.get("boxes.iou_mean", "-")
    yield "mean shift of confidence", _number(boxes.mean_shift), "-"
    yield (
        "mean size of a shift",
        _number(boxes.mean_abs_shift),
        allowed.get("boxes.shift_mean_abs", "-"),
    )
    if ap is not None:
        change = (
            f"{ap.a:.4f} -> {ap.b:.4f} ({ap.difference:+.4f}, {ap.level:.0%} interval "
            f"{ap.low:+.4f} to {ap.high:+.4f})"
        )
        yield f"AP on {counted(ap.images, 'image')}", change, f"drop: {allowed.get('ap_drop', '-')}"
    if report.tensorrt is not None:
        found = "; ".join(report.tensorrt.problems) or "takes the graph: ready for TensorRT"
        yield report.tensorrt.tried_in, found, "-"


def layer_rows(found: FirstDifference) -> Iterator[tuple[str, str, str, str]]:
    """The layers around the first difference: role, operator, node, relative error."""
    for what, one in (
        ("last that agrees", found.before),
        ("first that differs", found.first),
        *(("steepest rise", one) for one in found.steepest),
    ):
        if one is not None:
            yield what, one.operator, one.node, f"{one.error:.3g}"


def _share(count: int, of: int) -> str:
    return f" ({count / of:.2%})" if of else ""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{round(value, 5) + 0.0:.5f}"  # never -0.00000
