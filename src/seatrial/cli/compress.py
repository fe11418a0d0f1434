"""``seatrial compress``: smaller arithmetic, proven against the model that it was made of."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import App, Parameter

from seatrial.accuracy.loss import Loss
from seatrial.cli.console import command_line, err, out, print_json, progress_display, store
from seatrial.cli.page import check_page, write_page
from seatrial.cli.verdict import UNDECIDED
from seatrial.conditions import conditions
from seatrial.errors import Diverged
from seatrial.quantise.options import QuantiseOptions
from seatrial.quantise.report import QuantiseReport, Speed
from seatrial.report.numbers import counted
from seatrial.report.table import Table

app = App(
    help_format="markdown",
    name="compress",
    help="Make a model faster, and prove that it stays right.",
)


@app.command
def int8(
    artifact: str,
    /,
    *,
    calibration: Path,
    options: Annotated[QuantiseOptions, Parameter(name="*")] = QuantiseOptions(),  # noqa: B008  frozen
    dataset: str | None = None,
    annotations: Path | None = None,
    split: Literal["train", "val", "test"] = "val",
    skip_missing: bool = False,
    name: str | None = None,
    replace: bool = False,
    report: Path | None = None,
    json: bool = False,
) -> None:
    """Quantise a model to INT8; layers that cost too much accuracy stay float.

    Exit code 0: the gate holds. 9: written, but the set is too small to decide. 8: the gate
    fails; nothing was written. A run that was ended continues when it is started again.

    Args:
        artifact: Name in the store, an artifact folder or a model file; float32.
        calibration: Folder of images like those that the service will see; no labels needed.
        options: How to quantise, and what may be lost.
        dataset: coco:FOLDER of images, or yolo:FOLDER with a data.yaml: the gate is measured on
            it. Without it, on images that calibration left over, else on those it took.
        annotations: COCO's JSON file, another data.yaml, or a list of classes [default: found].
        split: Which set, where the folder has several.
        skip_missing: Leave out images that the labels name and that are not there.
        name: Name of the artifact [default: the model's, with int8 and the target].
        replace: Replace an artifact of that name.
        report: Write the report as an HTML page too, whatever the verdict.
        json: Print the report as JSON.
    """
    from seatrial.datasets.read import read_labelled
    from seatrial.models.resolve import read_by, resolve
    from seatrial.quantise.options import check
    from seatrial.quantise.run import compress_int8

    check(options)
    read = [*read_by(store(), artifact), *([] if annotations is None else [annotations])]
    check_page(report, inputs=read)
    labelled = None
    if dataset is not None:
        labelled = read_labelled(dataset, annotations, split=split, skip_missing=skip_missing)
    here = conditions(command_line())
    parent = resolve(store(), artifact)
    try:
        with progress_display() as on_progress:
            made, found = compress_int8(
                store(),
                parent,
                options,
                calibration=calibration,
                labelled=labelled,
                name=name,
                replace=replace,
                on_progress=on_progress,
            )
    except Diverged as error:
        if isinstance(error.report, QuantiseReport):
            shown = msgspec.structs.replace(error.report, conditions=here)
            _show(shown, json=json, page=report)
        raise
    _show(msgspec.structs.replace(found, conditions=here), json=json, page=report)
    err.print(f"wrote {made.path}", highlight=False, soft_wrap=True)
    if found.verdict.outcome == "undecided":
        sys.exit(UNDECIDED)


def _show(report: QuantiseReport, *, json: bool, page: Path | None) -> None:
    """Print the report, then write its page: a full disk loses no finding."""
    _print(report, json=json)
    if page is not None:
        from seatrial.quantise import html_report

        write_page(page, html_report.page(report))


def _print(report: QuantiseReport, *, json: bool) -> None:
    if json:
        print_json(report)
    else:
        out.print(_candidates(report))
        if report.restored:
            out.print(_restored(report))
        out.print(_result(report))
    for one in report.skipped:
        err.print(f"skipped: {one.file}: {one.reason}", highlight=False)
    for note in report.notes:
        err.print(f"note: {note}", highlight=False)
    err.print(report.verdict.statement, highlight=False)


def _candidates(report: QuantiseReport) -> Table:
    what = _metric(report.finding)
    table = Table(
        "recipe", "INT8 layers", what, "drop", "interval", "shift", "mean |shift|", "kept"
    )
    for one in report.candidates:
        kept = "*" if one.recipe == report.recipe else ""
        table.add_row(one.recipe, str(one.quantised), *_figures(one.finding), kept)
    return table


def _restored(report: QuantiseReport) -> Table:
    what = _metric(report.finding)
    table = Table("layer in float", "part of error", what, "drop", "regained", "interval", "shift",
                  "speed")  # fmt: skip
    for one, regained in zip(report.restored, report.regained(), strict=True):
        shown, drop, interval, shift, _ = _figures(one.finding)
        table.add_row(one.layer, f"{one.error:.1%}", shown, drop, f"{regained:+.4f}", interval,
                      shift, _times(one.speed))  # fmt: skip
    return table


def _result(report: QuantiseReport) -> Table:
    table = Table("result", report.to)
    table.add_row("verdict", report.verdict.outcome)
    table.add_row("INT8 layers", f"{report.quantised} of {report.convolutions}")
    table.add_row("operators of the head, float", str(len(report.head)))
    table.add_row(f"{_metric(report.finding)} of the parent", f"{report.finding.parent:.4f}")
    table.add_row(f"{_metric(report.finding)} in INT8", f"{report.finding.child:.4f}")
    table.add_row("judged on", report.judged_on)
    ran = report.engine
    table.add_row("compared in", f"{ran['engine']} on {ran['device']}, {ran['precision']}")
    if report.speed is not None:
        speed = report.speed
        rates = f"{speed.parent_hz:.1f} -> {speed.child_hz:.1f} images/s"
        table.add_row(
            "speed", f"{_times(speed)} ({rates}, {counted(speed.lanes, 'lane')} of one thread)"
        )
    return table


def _figures(finding: Loss) -> tuple[str, str, str, str, str]:
    return (
        f"{finding.child:.4f}",
        f"{finding.drop:+.4f}",
        f"{finding.low:+.4f} to {finding.high:+.4f}",
        "-" if finding.mean_shift is None else f"{finding.mean_shift:+.4f}",
        "-" if finding.mean_abs_shift is None else f"{finding.mean_abs_shift:.4f}",
    )


def _metric(finding: Loss) -> str:
    return "AP" if finding.metric == "ap" else "agreement"


def _times(speed: Speed) -> str:
    return f"{speed.ratio:.2f}x"
