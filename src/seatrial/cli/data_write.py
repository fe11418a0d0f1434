"""``seatrial data convert``, ``split`` and ``preview``: datasets written anew, and looked at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from seatrial.cli.console import err, out, print_json, progress_display
from seatrial.cli.data_check import FormatName

if TYPE_CHECKING:
    from seatrial.datasets.convert import Written

Output = Annotated[Path, Parameter(name=["--output", "-o"])]


def convert(
    folder: Path,
    /,
    *,
    to: FormatName,
    output: Output,
    format: FormatName | None = None,  # noqa: A002 - the option's name
    annotations: Path | None = None,
    mend: bool = False,
    link: bool = False,
    json: bool = False,
) -> None:
    """Write a dataset in another format: boxes stay as they are to the last digit.

    What the format cannot hold is told (outlines in YOLO and VOC, crowds in YOLO). A dataset with
    errors is refused and nothing is written, unless they are to be mended.

    Args:
        folder: COCO JSON, YOLO folders or Pascal VOC.
        to: Format to write.
        output: Folder to make.
        format: Of the labels [default: told by looking].
        annotations: COCO's JSON file, another data.yaml, or VOC's list of classes.
        mend: Clip boxes to their picture; leave out labels and pictures that cannot be used.
        link: Hard links to the pictures in place of copies.
        json: Print what was written as JSON.
    """
    from seatrial.datasets.convert import convert as convert_dataset

    with progress_display() as on_progress:
        written = convert_dataset(
            folder, output, to, kind=format, annotations=annotations, mend=mend, link=link,
            on_progress=on_progress,
        )  # fmt: skip
    _show(written, json=json)


def split(
    folder: Path,
    /,
    *,
    output: Output,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    group: str = "frames",
    block: int = 0,
    alike: bool = True,
    seed: int = 0,
    to: FormatName | None = None,
    format: FormatName | None = None,  # noqa: A002 - the option's name
    annotations: Path | None = None,
    mend: bool = False,
    link: bool = False,
    json: bool = False,
) -> None:
    """Split a dataset into train, val and test, so that no frame of a video is on both sides.

    Groups stay together; every class is shared out as evenly as the groups allow. Splits that the
    folder has already are joined first. The same seed gives the same split.

    Args:
        folder: COCO JSON, YOLO folders or Pascal VOC.
        output: Folder to make.
        fractions: Of train, val and test; 0 for none.
        group: What belongs together: frames (names that differ in the number at the end), folder,
            none, or a regular expression whose first group in the name counts.
        block: Cut each group into runs of so many pictures: for a single long video.
        alike: Keep pictures together that are the same or nearly so.
        seed: Of the draw.
        to: Format to write [default: the one it has].
        format: Of the labels [default: told by looking].
        annotations: COCO's JSON file, another data.yaml, or VOC's list of classes.
        mend: Clip boxes to their picture; leave out labels and pictures that cannot be used.
        link: Hard links to the pictures in place of copies.
        json: Print what was written as JSON.
    """
    from seatrial.datasets.convert import Plan
    from seatrial.datasets.convert import split as split_dataset

    plan = Plan(fractions, group, block, alike, seed)
    with progress_display() as on_progress:
        written = split_dataset(
            folder, output, plan, to=to, kind=format, annotations=annotations, mend=mend,
            link=link, on_progress=on_progress,
        )  # fmt: skip
    _show(written, json=json)


def _show(written: Written, *, json: bool) -> None:
    if json:
        print_json(written)
        return
    parts = written.parts
    table = Table("", *(part.split or "all" for part in parts))
    table.add_row("pictures", *(str(part.images) for part in parts))
    if any(part.groups is not None for part in parts):
        table.add_row("groups", *(str(part.groups) for part in parts))
    table.add_row("objects", *(str(part.objects) for part in parts))
    for name in parts[0].classes:
        table.add_row(f"  {name}", *(str(part.classes.get(name, 0)) for part in parts))
    err.print(table)
    for note in written.notes:
        err.print(note, highlight=False)
    out.print(written.folder, soft_wrap=True, highlight=False)


def preview(
    folder: Path,
    /,
    *,
    output: Output = Path("preview.jpg"),
    split: str | None = None,
    only: str | None = None,
    count: int = 24,
    columns: int = 6,
    tile: int = 240,
    seed: int = 0,
    format: FormatName | None = None,  # noqa: A002 - the option's name
    annotations: Path | None = None,
    json: bool = False,
) -> None:
    """Draw a contact sheet: pictures with the boxes that their labels say.

    Args:
        folder: COCO JSON, YOLO folders or Pascal VOC.
        output: JPEG or PNG file to write.
        split: One split [default: all].
        only: Pictures with an object of this class.
        count: Pictures, drawn at random; 0 for all.
        columns: Pictures in a row.
        tile: Side of each, pixels.
        seed: Of the draw.
        format: Of the labels [default: told by looking].
        annotations: COCO's JSON file, another data.yaml, or VOC's list of classes.
        json: Print the file and the number of pictures as JSON.
    """
    from seatrial.datasets.preview import preview as draw_sheet

    number = draw_sheet(
        folder, output, kind=format, annotations=annotations, split=split, only=only, count=count,
        columns=columns, tile_px=tile, seed=seed,
    )  # fmt: skip
    if json:
        print_json({"file": str(output), "pictures": number})
        return
    err.print(f"{number} pictures", highlight=False)
    out.print(str(output), soft_wrap=True, highlight=False)
