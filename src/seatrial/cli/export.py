"""``seatrial export``: another format or precision of a model, proven against it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from seatrial.cli.console import command_line, err, out, print_json, progress, store
from seatrial.cli.page import check_page, write_page
from seatrial.conditions import conditions
from seatrial.errors import Diverged
from seatrial.export.options import ExportOptions
from seatrial.export.report import REPORT_FILE, ExportReport, read_report
from seatrial.export.rows import compared_rows, layer_rows
from seatrial.report.numbers import counted
from seatrial.report.table import Table


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
    report: Path | None = None,
    json: bool = False,
) -> None:
    """Make another format or precision of a model, and prove that it answers as the model does.

    The model and its export get the same images. Where outputs, boxes or accuracy are out of
    tolerance nothing is written, the first layer that differs is named, and the exit code is 8.

    Args:
        artifact: Name in the store, an artifact folder, a model file, or the folder of a
            Hugging Face checkpoint.
        options: What to make.
        images: Folder of real images to compare on: 16 of them, spread over it.
        annotations: Their labels, COCO's JSON or a data.yaml: accuracy is compared too, on all.
        name: Name of the artifact [default: the model's, with format and precision].
        replace: Replace another artifact of that name.
        allow_pickle: Read a .pt file, which may run code that is in it.
        report: Write the report as an HTML page too, whatever the verdict.
        json: Print the report as JSON.
    """
    from seatrial.export.formats import check_here
    from seatrial.export.options import check
    from seatrial.export.run import TOOLS
    from seatrial.export.run import export as run
    from seatrial.models.resolve import read_by, resolve

    check(options)  # before a model file is imported for nothing
    check_here(options.to)
    read = [*read_by(store(), artifact), *([] if annotations is None else [annotations])]
    check_page(report, inputs=read)
    here = conditions(command_line(), *TOOLS)

    def complete(found: ExportReport) -> ExportReport:
        """The report with what may differ between two runs: it is not in the artifact."""
        return msgspec.structs.replace(found, folder=str(images), conditions=here)

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
            _show(complete(error.report), json=json, page=report)
        raise
    _show(complete(read_report(made.path / REPORT_FILE)), json=json, page=report)
    err.print(f"wrote {made.path}", highlight=False, soft_wrap=True)
    if made.manifest.step.config.get("proven_in") == "bf16":
        err.print("serve it with --precision bf16: its weights are float32", highlight=False)


def _show(report: ExportReport, *, json: bool, page: Path | None) -> None:
    """Print the report, then write its page: a full disk loses no finding."""
    _print(report, json=json)
    if page is not None:
        from seatrial.export import html_report

        write_page(page, html_report.page(report))


def _print(report: ExportReport, *, json: bool) -> None:
    if json:
        print_json(report)
        return
    compared = Table("compared", "found", "allowed")
    for row in compared_rows(report):
        compared.add_row(*row)
    out.print(compared)
    if report.first_difference is not None:
        layers = Table("layers", "operator", "node", "relative error")
        for layer in layer_rows(report.first_difference):
            layers.add_row(*layer)
        out.print(layers)
    for note in report.notes:
        err.print(f"note: {note}", highlight=False)
    err.print(
        f"{counted(report.images, 'image')}; parent on {report.parent.engine}, "
        f"{report.parent.precision}; export on {report.child.engine}, {report.child.precision}",
        highlight=False,
    )
