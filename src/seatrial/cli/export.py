"""``seatrial export``: another format or precision of a model, proven against it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
from rich.table import Table

from seatrial.cli.console import err, out, print_json, progress, store
from seatrial.deployment import Precision
from seatrial.errors import Diverged, InvalidConfig

if TYPE_CHECKING:
    from seatrial.artifact import Artifact
    from seatrial.export.report import ExportReport
    from seatrial.graphs.first_difference import FirstDifference

SIZE = re.compile(r"(\d+)(?:x(\d+))?")


def export(
    artifact: str,
    /,
    *,
    to: Literal["onnx", "openvino", "tensorrt", "torch"],
    images: Path,
    annotations: Path | None = None,
    precision: Precision = "f32",
    dynamic_batch: bool = False,
    imgsz: str | None = None,
    fuse_nms: bool = False,
    name: str | None = None,
    replace: bool = False,
    allow_pickle: bool = False,
    json: bool = False,
) -> None:
    """Make another format or precision of a model, and prove that it answers as the model does.

    Parent and export see the same pictures. Where outputs, boxes or accuracy are out of tolerance
    nothing is written, and the layers are named where the two part; the exit code is 3.

    Args:
        artifact: Name in the store, an artifact folder, a model file, or the folder of a
            Hugging Face checkpoint.
        to: Format.
        images: Folder of real pictures to compare on: 16 of them, spread over it.
        annotations: Their labels, COCO's JSON or a data.yaml: accuracy is compared too, on all.
        precision: f32; f16: weights in half precision (onnx, openvino, tensorrt); bf16: float32
            weights, proven as computed in bf16 (openvino, torch).
        dynamic_batch: Take any number of pictures at once.
        imgsz: Canvas in pixels, 640 or 480x640 (height x width) [default: the model's own].
        fuse_nms: Put the postprocessing into the graph.
        name: Of the artifact [default: the model's, with format and precision].
        replace: Replace another artifact of that name.
        allow_pickle: Read a .pt file, which may run code that is in it.
        json: Print the report as JSON.
    """
    from seatrial.export.formats import check_here
    from seatrial.export.options import ExportOptions, check
    from seatrial.export.run import export as run
    from seatrial.models.resolve import resolve

    options = ExportOptions(to, precision, dynamic_batch, _size_hw(imgsz), fuse_nms)
    check(options)  # before a model file is imported for nothing
    check_here(to)
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
        _show(error.report, json=json)
        raise
    _announce(made, json=json)


def _announce(made: Artifact, *, json: bool) -> None:
    from seatrial.export.report import REPORT_FILE, ExportReport

    _show(msgspec.json.decode((made.path / REPORT_FILE).read_bytes(), type=ExportReport), json=json)
    err.print(f"wrote {made.path}", highlight=False, soft_wrap=True)
    proven = made.manifest.step.config.get("proven_in")
    if proven == "bf16":
        err.print("serve it with --precision bf16: its weights are float32", highlight=False)


def _show(report: object, *, json: bool) -> None:
    from seatrial.export.report import ExportReport

    if not isinstance(report, ExportReport):
        return
    if json:
        print_json(report)
        return
    out.print(_table(report))
    if report.blame is not None:
        out.print(_blame_table(report.blame))
    err.print(
        f"{report.images} pictures; parent on {report.parent.engine}, {report.parent.precision}; "
        f"export on {report.child.engine}, {report.child.precision}",
        highlight=False,
    )


def _table(report: ExportReport) -> Table:
    table = Table("compared", "found", "allowed")
    limits, boxes = report.tolerance, report.boxes
    allowed = "-" if limits.output is None else f"{limits.output:g} of the largest"
    for kind, errors in (("output", report.outputs), ("batch of pictures, output", report.batch)):
        for one in errors:
            worst = f"worst {one.worst:.3g}, {one.within:.2%} within"
            table.add_row(f"{kind} {one.name}", worst, allowed)
    table.add_row(
        f"boxes from confidence {boxes.floor:.3g}",
        f"{boxes.matched} of {boxes.parent} matched, {boxes.gained} gained",
        f"{limits.unmatched:.1%} without a partner",
    )
    if report.restless is not None:
        own = report.restless
        table.add_row(
            "the parent against itself, canvas moved by 2 grey levels",
            f"{own.matched} of {own.parent} matched, IoU {_number(own.iou_mean)}, "
            f"size of a shift {_number(own.shift_mean_abs)}",
            "-",
        )
    table.add_row("mean IoU of pairs", _number(boxes.iou_mean), f"{limits.iou:.4g}")
    table.add_row("mean shift of confidence", _number(boxes.shift_mean), "-")
    table.add_row("mean size of a shift", _number(boxes.shift_mean_abs), f"{limits.shift:.4g}")
    if report.accuracy is not None:
        found = report.accuracy
        change = (
            f"{found.parent:.4f} -> {found.child:.4f} ({found.difference:+.4f}, 95 % interval "
            f"{found.low:+.4f} to {found.high:+.4f})"
        )
        table.add_row(f"AP on {found.images} pictures", change, f"{limits.ap:g}")
    if report.tensorrt is not None:
        said = "; ".join(report.tensorrt.problems) or "takes the graph: ready for TensorRT"
        table.add_row(report.tensorrt.tried_in, said, "-")
    return table


def _blame_table(blame: FirstDifference) -> Table:
    table = Table("where they part", "operator", "node", "relative error")
    for what, found in (
        ("last that agrees", blame.before),
        ("first that does not", blame.first),
        *(("steepest rise", one) for one in blame.steepest),
    ):
        if found is not None:
            table.add_row(what, found.operator, found.node, f"{found.error:.3g}")
    return table


def _size_hw(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = SIZE.fullmatch(text)
    if found is None:
        raise InvalidConfig(f"--imgsz {text!r} is not a size", hint="write 640, or 480x640")
    return int(found[1]), int(found[2] or found[1])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5f}"
