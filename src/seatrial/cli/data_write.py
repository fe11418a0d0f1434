"""``seatrial data convert``, ``split`` and ``preview``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from seatrial.cli.console import err, out, print_json, progress_display
from seatrial.datasets.convert import FormatName, RewriteOptions, SplitOptions, WrittenDataset
from seatrial.datasets.preview import PreviewOptions
from seatrial.report.numbers import counted
from seatrial.report.table import Table

Output = Annotated[Path, Parameter(name=["--output", "-o"])]
MOST_CLASSES = 200  # rows of the table; some sets have 20,000
FLAT = Parameter(name="*")  # the fields of a struct are options of their own


def convert(
    folder: Path,
    /,
    *,
    to: FormatName,
    output: Output,
    options: Annotated[RewriteOptions, FLAT] = RewriteOptions(),  # noqa: B008 - frozen
    json: bool = False,
) -> None:
    """Write a dataset in another format; boxes stay the same to a millionth of a pixel.

    The command names what the format cannot hold (outlines in YOLO and VOC, crowds in YOLO). A
    dataset with errors is refused and nothing is written, unless --mend is given.

    Args:
        folder: COCO JSON, YOLO folders or Pascal VOC.
        to: Format to write.
        output: New folder.
        options: How to read and write.
        json: Print what was written as JSON.
    """
    from seatrial.datasets.convert import convert as convert_dataset

    with progress_display() as on_progress:
        written = convert_dataset(folder, output, to, options, on_progress)
    _show(written, json=json)


def split(
    folder: Path,
    /,
    *,
    output: Output,
    split: Annotated[SplitOptions, FLAT] = SplitOptions(),  # noqa: B008 - frozen
    to: FormatName | None = None,
    options: Annotated[RewriteOptions, FLAT] = RewriteOptions(),  # noqa: B008 - frozen
    json: bool = False,
) -> None:
    """Split a dataset into train, val and test, with all frames of a video in one of them.

    Groups stay together; the objects of every class are shared out as evenly as the groups allow.
    Splits that the folder has already are joined first. The same seed gives the same split.

    Args:
        folder: COCO JSON, YOLO folders or Pascal VOC.
        output: New folder.
        split: How to split.
        to: Format to write [default: the format of the folder].
        options: How to read and write.
        json: Print what was written as JSON.
    """
    from seatrial.datasets.convert import split as split_dataset

    with progress_display() as on_progress:
        written = split_dataset(folder, output, split, options, to=to, on_progress=on_progress)
    _show(written, json=json)


def _show(written: WrittenDataset, *, json: bool) -> None:
    if json:
        print_json(written)
        return
    splits = written.splits
    table = Table("", *(one.split or "all" for one in splits))
    table.add_row("images", *(str(one.images) for one in splits))
    if any(one.groups is not None for one in splits):
        table.add_row("groups", *(str(one.groups) for one in splits))
    table.add_row("objects", *(str(one.objects) for one in splits))
    classes = list(splits[0].classes)
    for name in classes[:MOST_CLASSES]:
        table.add_row(f"  {name}", *(str(one.classes.get(name, 0)) for one in splits))
    err.print(table)
    if len(classes) > MOST_CLASSES:
        more = counted(len(classes) - MOST_CLASSES, "class", "classes")
        err.print(f"and {more} more (--json)", highlight=False)
    for note in written.notes:
        err.print(note, highlight=False)
    out.print(written.folder, soft_wrap=True, highlight=False)


def preview(
    folder: Path,
    /,
    *,
    output: Output = Path("preview.jpg"),
    options: Annotated[PreviewOptions, FLAT] = PreviewOptions(),  # noqa: B008 - frozen
    json: bool = False,
) -> None:
    """Draw a contact sheet: images with the boxes of their labels.

    Args:
        folder: COCO JSON, YOLO folders or Pascal VOC.
        output: JPEG or PNG file to write.
        options: What is on the sheet.
        json: Print the file and the number of images as JSON.
    """
    from seatrial.datasets.preview import preview as draw_sheet

    number = draw_sheet(folder, output, options)
    if json:
        print_json({"file": str(output), "pictures": number})
        return
    err.print(counted(number, "image"))
    out.print(str(output), soft_wrap=True, highlight=False)
