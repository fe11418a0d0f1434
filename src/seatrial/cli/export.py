"""``seatrial export``: another format or precision of a model, proven against it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from seatrial.cli.console import err, out, print_json, progress, store
from seatrial.errors import Diverged
from seatrial.export.options import ExportOptions
from seatrial.export.report import REPORT_FILE, ExportReport, read_report
from seatrial.graphs.first_difference import FirstDifference


def export(
    artifact: str,
    /,
    *,
    options: Annotated[ExportOptions, Parameter(name="*")],
    images: Path,
    annotations: Path | None = None,
    name: str | None = None,
    replace: bool = False,
    allow_pickle: bool = False,
    json: bool = False,
) -> None:
    """Make another format or precision of a model, and prove that it answers as the model does.

    The model and its export get the same images. Where outputs, boxes or accuracy are out of
    tolerance nothing is written, the first layer that differs is named, and the exit code is 3.

    Args:
        artifact: Name in the store, an artifact folder, a model file, or the folder of a
            Hugging Face checkpoint.
        options: What to make.
        images: Folder of real images to compare on: 16 of them, spread over it.
        annotations: Their labels, COCO's JSON or a data.yaml: accuracy is compared too, on all.
        name: Name of the artifact [default: the model's, with format and precision].
        replace: Replace another artifact of that name.
        allow_pickle: Read a .pt file, which may run code that is in it.
        json: Print the report as JSON.
    """
    from seatrial.export.formats import check_here
    from seatrial.export.options import check
    from seatrial.export.run import export as run
    from seatrial.models.resolve import resolve

    check(options)  # before a model file is imported for nothing
    check_here(options.to)
    parent = resolve(store(), artifact, allow_pickle=allow_pickle)
    try:
        made = run(
            store(),
            parent,
            options,
            images=images,
            annotations=annotations,
            name=name,
            replace=replace,
            on_progress=progress,
        )
    except Diverged as error:
        if isinstance(error.report, ExportReport):
            _show(error.report, json=json)
        raise
    _show(read_report(made.path / REPORT_FILE), json=json)
    err.print(f"wrote {made.path}", highlight=False, soft_wrap=True)
    if made.manifest.step.config.get("proven_in") == "bf16":
        err.print("serve it with --precision bf16: its weights are float32", highlight=False)


def _show(report: ExportReport, *, json: bool) -> None:
    if json:
        print_json(report)
        return
    out.print(_table(report))
    if report.first_difference is not None:
        out.print(_layers(report.first_difference))
    for note in report.notes:
        err.print(f"note: {note}", highlight=False)
    err.print(
        f"{report.images} images; parent on {report.parent.engine}, {report.parent.precision}; "
        f"export on {report.child.engine}, {report.child.precision}",
        highlight=False,
    )


def _table(report: ExportReport) -> Table:
    table = Table("compared", "found", "allowed")
    boxes, noise, ap = report.boxes, report.parent_noise, report.accuracy
    allowed = {row.clause.metric: row.clause.wanted for row in report.verdict.rows}
    for kind, errors in (("output", report.outputs), ("batch", report.batch)):
        for one in errors:
            table.add_row(
                f"{'a batch of images, ' if kind == 'batch' else ''}output {one.name}",
                f"worst {one.worst:.3g}, {one.within:.2%} within tolerance",
                allowed.get(f"{kind}.{one.name}", "-"),
            )
    table.add_row(
        f"boxes from confidence {boxes.floor:.3g}",
        f"{boxes.matched} matched; of {boxes.parent_boxes} lost {boxes.lost}; "
        f"{boxes.gained} gained",
        f"lost: {allowed.get('boxes.lost', '-')}; gained: {allowed.get('boxes.gained', '-')}",
    )
    if noise is not None:
        table.add_row(
            "the parent against itself, canvas moved by 2 grey levels",
            f"of {noise.parent_boxes} lost {noise.lost}, gained {noise.gained}, "
            f"IoU {_number(noise.iou_mean)}, size of a shift {_number(noise.mean_abs_shift)}",
            "-",
        )
    table.add_row("mean IoU of pairs", _number(boxes.iou_mean), allowed.get("boxes.iou_mean", "-"))
    table.add_row("mean shift of confidence", _number(boxes.mean_shift), "-")
    table.add_row(
        "mean size of a shift",
        _number(boxes.mean_abs_shift),
        allowed.get("boxes.shift_mean_abs", "-"),
    )
    if ap is not None:
        change = (
            f"{ap.a:.4f} -> {ap.b:.4f} ({ap.difference:+.4f}, {ap.level:.0%} interval "
            f"{ap.low:+.4f} to {ap.high:+.4f})"
        )
        table.add_row(f"AP on {ap.images} images", change, f"drop: {allowed.get('ap_drop', '-')}")
    if report.tensorrt is not None:
        found = "; ".join(report.tensorrt.problems) or "takes the graph: ready for TensorRT"
        table.add_row(report.tensorrt.tried_in, found, "-")
    return table


def _layers(found: FirstDifference) -> Table:
    table = Table("layers", "operator", "node", "relative error")
    for what, one in (
        ("last that agrees", found.before),
        ("first that differs", found.first),
        *(("steepest rise", one) for one in found.steepest),
    ):
        if one is not None:
            table.add_row(what, one.operator, one.node, f"{one.error:.3g}")
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5f}"
