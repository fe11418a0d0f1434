"""What an export costs in accuracy: every format and precision, proven against its parent.

    python benchmarks/export.py [--model yolo11n.onnx|yolo11n.pt|ssd-mobilenet-v2]

Exports by the library that `seatrial export` calls and prints what it judged by, on coco-val: the
outputs of 16 pictures, their boxes from confidence 0.25 on, and AP on all 53 with the interval of
its difference (95 %, paired bootstrap over pictures). What is out of tolerance is told, too.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import measure

from seatrial.artifact import Artifact, Store
from seatrial.errors import DeviceUnavailable, Diverged, MissingExtra, SourceUnavailable
from seatrial.export.options import ExportOptions
from seatrial.export.report import REPORT_FILE, ExportReport, read_report
from seatrial.export.run import default_name, export
from seatrial.export.verify import ParentAnswers
from seatrial.models.resolve import resolve
from seatrial.models.sources.table import pull

STORE = Store(measure.ROOT / "run" / "benchmarks" / "artifacts")
LABELS = measure.SHARED / "data" / "coco-val" / "instances.json"
GRAPH = (
    ExportOptions("openvino"),
    ExportOptions("openvino", "f16"),
    ExportOptions("openvino", "bf16"),
    ExportOptions("onnx", "f16"),
    ExportOptions("onnx", fuse_nms=True),
)
CHECKPOINT = (
    ExportOptions("onnx"),
    ExportOptions("onnx", "f16", dynamic_batch=True),
    ExportOptions("openvino", "bf16"),
    ExportOptions("torch"),
    ExportOptions("torch", "bf16"),
)
EXPORTS = {
    "yolo11n.onnx": GRAPH,
    "yolo11n.pt": CHECKPOINT,
    "ssd-mobilenet-v2": GRAPH[:4],
}


def main() -> None:
    """Export, and save what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", choices=EXPORTS)
    measure.need_shared()
    figures: dict[str, Any] = {}
    for model in parser.parse_args().model or EXPORTS:
        try:
            parent = parent_of(model)
        except (MissingExtra, SourceUnavailable) as error:
            print(f"{model} skipped: {error.message}", file=sys.stderr)
            continue
        known = ParentAnswers()  # the parent answers once for all of its exports
        for options in EXPORTS[model]:
            name = default_name(parent, options).removeprefix(f"{parent.manifest.name}-")
            try:
                figures[f"{model}: {name}"] = row(report_of(parent, options, known))
            except (MissingExtra, DeviceUnavailable) as error:
                print(f"{model} to {name} skipped: {error.message}", file=sys.stderr)
    measure.save("export", figures)


def parent_of(model: str) -> Artifact:
    """The artifact that is exported."""
    if model == "ssd-mobilenet-v2":
        return pull(STORE, model, on_progress=measure.tell)
    return resolve(STORE, str(measure.SHARED / "models" / model), allow_pickle=True)


def report_of(parent: Artifact, options: ExportOptions, known: ParentAnswers) -> ExportReport:
    """What an export was judged by, whether it holds or not."""
    try:
        made = export(
            STORE,
            parent,
            options,
            images=measure.IMAGES,
            annotations=LABELS,
            replace=True,
            known=known,
            on_progress=measure.tell,
        )
    except Diverged as error:
        if not isinstance(error.report, ExportReport):
            raise
        return error.report
    return read_report(made.path / REPORT_FILE)


def row(report: ExportReport) -> dict[str, Any]:
    """The figures of one export."""
    boxes, ap = report.boxes, report.accuracy
    found: dict[str, Any] = {
        "parent": f"{report.parent.engine} {report.parent.precision}",
        "export": f"{report.child.engine} {report.child.precision}",
        "worst output error": max((one.worst for one in report.outputs), default=""),
        "matched": f"{boxes.matched} of {boxes.parent_boxes}",
        "mean IoU": boxes.iou_mean,
        "mean shift": boxes.mean_abs_shift,
    }
    if ap is not None:
        found |= {
            "AP parent": ap.a,
            "AP": ap.b,
            "difference": f"{ap.difference:+.4f} [{ap.low:+.4f}, {ap.high:+.4f}]",
        }
    ready = report.tensorrt
    found["TensorRT"] = "" if ready is None else "no" if ready.problems else "ready"
    return {**found, "holds": "no" if report.verdict.outcome == "fails" else "yes"}


if __name__ == "__main__":
    main()
