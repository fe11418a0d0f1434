"""``seatrial data check``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from seatrial.cli.console import err, out, print_json, progress_display
from seatrial.cli.verdict import BROKEN

if TYPE_CHECKING:
    from seatrial.datasets.check import DatasetCheck


def check(
    folder: Path,
    /,
    *,
    format: Literal["coco", "yolo", "voc"] | None = None,  # noqa: A002 - the option's name
    annotations: Path | None = None,
    examples: int = 3,
    strict: bool = False,
    json: bool = False,
) -> None:
    """Read every label and decode every image of a dataset, and list what is wrong.

    The check finds damaged images, boxes outside their image or without an area, unknown and
    empty classes, labels without images and images without labels, and images that are in two
    splits or nearly so. It writes nothing. The exit code is 8 if there are errors.

    Args:
        folder: COCO JSON, YOLO folders or Pascal VOC.
        format: Format of the labels [default: found by the files; of several, all are checked].
        annotations: COCO's JSON file, another data.yaml, or VOC's list of classes.
        examples: Number of cases to show of each kind; 0 for all.
        strict: Exit with code 8 for warnings too.
        json: Print all cases as JSON.
    """
    from seatrial.datasets.check import check as check_dataset

    with progress_display() as on_progress:
        found = check_dataset(folder, format, annotations, on_progress)
    if json:
        rows = [{"severity": i.severity, **msgspec.to_builtins(i)} for i in found.issues]
        print_json({**msgspec.to_builtins(found), "findings": rows})
    else:
        _show(found, examples)
    if found.count("error") or (strict and found.issues):
        sys.exit(BROKEN)


def _show(found: DatasetCheck, examples: int) -> None:
    from seatrial.datasets.issues import ISSUE_KINDS

    table = Table("", "what is wrong", "number", "where")
    for name, kind in ISSUE_KINDS.items():
        own = [issue for issue in found.issues if issue.kind == name]
        if not own:
            continue
        shown = own[:examples] if examples else own
        lines = [f"{escape(i.where)}: {escape(i.message)}" for i in shown]
        if len(own) > len(shown):
            lines.append(f"[dim]and {len(own) - len(shown)} more (--examples 0, --json)[/dim]")
        lines.append(f"[dim]-> {kind.remedy}[/dim]")
        colour = "red" if kind.severity == "error" else "yellow"
        severity = f"[{colour}]{kind.severity}[/{colour}]"
        table.add_row(
            Text.from_markup(severity),
            kind.title,
            str(len(own)),
            Text.from_markup("\n".join(lines)),
        )
    if found.issues:
        out.print(table)
    for split in found.splits:
        name = f"{split.format} {split.split}".strip()
        numbers = f"{split.images} images, {split.objects} objects, {len(split.classes)} classes"
        err.print(f"{name}: {numbers}", highlight=False)
    errors, warnings = found.count("error"), found.count("warning")
    verdict = f"{errors} errors, {warnings} warnings" if found.issues else "nothing is wrong"
    err.print(f"{found.decoded} images decoded; {verdict}", highlight=False)
