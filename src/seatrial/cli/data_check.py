"""``seatrial data check``: what is wrong with a dataset; nothing is written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
from rich.markup import escape
from rich.table import Table

from seatrial.cli.console import err, out, print_json, progress_display
from seatrial.cli.verdict import BROKEN

if TYPE_CHECKING:
    from seatrial.datasets.check import Checked

FormatName = Literal["coco", "yolo", "voc"]


def check(
    folder: Path,
    /,
    *,
    format: FormatName | None = None,  # noqa: A002 - the option's name
    annotations: Path | None = None,
    examples: int = 3,
    strict: bool = False,
    json: bool = False,
) -> None:
    """Look at every label and every picture of a dataset, and tell what is wrong.

    Broken pictures, boxes outside their picture or without an area, unknown and empty classes,
    labels without pictures and pictures without labels, and pictures that are in two splits: the
    same or nearly so. Exits with 8 if there are errors; warnings may be meant so.

    Args:
        folder: COCO JSON, YOLO folders or Pascal VOC.
        format: Of the labels [default: told by looking; if there are several, all are checked].
        annotations: COCO's JSON file, another data.yaml, or VOC's list of classes.
        examples: Findings of each kind to show; 0 for all.
        strict: Exit with 8 for warnings too.
        json: Print all findings as JSON.
    """
    from seatrial.datasets.check import check as check_dataset

    with progress_display() as on_progress:
        found = check_dataset(folder, format, annotations, on_progress)
    if json:
        rows = [{"severity": f.severity, **msgspec.to_builtins(f)} for f in found.findings]
        print_json({**msgspec.to_builtins(found), "findings": rows})
    else:
        _show(found, examples)
    if found.count("error") or (strict and found.findings):
        sys.exit(BROKEN)


def _show(found: Checked, examples: int) -> None:
    from seatrial.datasets.findings import KINDS

    table = Table("", "what is wrong", "number", "where")
    for name, kind in KINDS.items():
        own = [finding for finding in found.findings if finding.kind == name]
        if not own:
            continue
        shown = own[:examples] if examples else own
        lines = [f"{escape(f.where)}: {escape(f.message)}" for f in shown]
        if len(own) > len(shown):
            lines.append(f"[dim]and {len(own) - len(shown)} more (--examples 0, --json)[/dim]")
        lines.append(f"[dim]-> {kind.remedy}[/dim]")
        colour = "red" if kind.severity == "error" else "yellow"
        what = f"[{colour}]{kind.severity}[/{colour}]"
        table.add_row(what, kind.title, str(len(own)), "\n".join(lines))
    if found.findings:
        out.print(table)
    for facts in found.splits:
        name = f"{facts.format} {facts.split}".strip()
        told = f"{facts.images} pictures, {facts.objects} objects, {len(facts.classes)} classes"
        err.print(f"{name}: {told}", highlight=False)
    errors, warnings = found.count("error"), found.count("warning")
    verdict = f"{errors} errors, {warnings} warnings" if found.findings else "nothing is wrong"
    err.print(f"{found.pictures} pictures decoded; {verdict}", highlight=False)
