"""``seatrial data check``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
from rich.text import Text

from seatrial.cli.console import err, out, print_json, progress_display
from seatrial.cli.verdict import BROKEN
from seatrial.report.numbers import counted
from seatrial.report.table import Table

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
        rows = [
            {"severity": i.severity, **msgspec.to_builtins(i), "remedy": i.advice}
            for i in found.issues
        ]
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
        where = Text("\n".join(f"{issue.where}: {issue.message}" for issue in shown))
        if len(own) > len(shown):
            where.append(f"\nand {len(own) - len(shown)} more (--examples 0, --json)", "dim")
        for advice in dict.fromkeys(issue.advice for issue in shown):
            where.append(f"\n-> {advice}", "dim")
        severity = Text(kind.severity, "red" if kind.severity == "error" else "yellow")
        table.add_row(severity, kind.title, str(len(own)), where)
    if found.issues:
        out.print(table)
    for split in found.splits:
        name = f"{split.format} {split.split}".strip()
        found_in = (
            counted(split.images, "image"),
            counted(split.objects, "object"),
            counted(len(split.classes), "class", "classes"),
        )
        numbers = ", ".join(found_in)
        err.print(f"{name}: {numbers}", highlight=False)
        for note in split.notes:
            err.print(f"{name}: {note}")
    errors, warnings = found.count("error"), found.count("warning")
    verdict = (
        f"{counted(errors, 'error')}, {counted(warnings, 'warning')}"
        if found.issues
        else "nothing is wrong"
    )
    err.print(f"{counted(found.decoded, 'image')} decoded; {verdict}", highlight=False)
