"""A dataset: all the splits in a folder, in one format."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from seatrial.datasets.foreign import described
from seatrial.datasets.issues import LabelIssue, OnIssue, refuse
from seatrial.datasets.labels import WHOLE, LabelledSet
from seatrial.datasets.read import FORMATS, format_of, read_split
from seatrial.errors import InvalidDataset
from seatrial.system.files import check_folder

BY_SUFFIX = {
    ".json": "coco", ".yaml": "yolo", ".yml": "yolo", ".data": "yolo", ".names": "yolo"
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dataset:
    """The content of a folder.

    Attributes:
        folder: The folder.
        kind: Name of the format.
        sets: Split, or `WHOLE`, -> its images and labels.
        left_out: Files and folders of labels that are in no set.
    """

    folder: Path
    kind: str
    sets: dict[str, LabelledSet]
    left_out: tuple[Path, ...] = ()


def kinds_of(folder: Path, annotations: Path | None = None) -> list[str]:
    """Names of the formats whose files are in a folder.

    Args:
        folder: Folder of the dataset.
        annotations: A file of labels; its suffix decides the format. A list of classes is one of
            Pascal VOC where the folder has such annotations, else of YOLO.

    Raises:
        InvalidDataset: There is no such folder, or no known format in it.
    """
    check_folder(folder, hint="give the folder of a dataset")
    if annotations is not None and annotations.suffix.lower() in BY_SUFFIX:
        return [BY_SUFFIX[annotations.suffix.lower()]]
    if annotations is not None and annotations.suffix.lower() == ".txt":  # a list of classes
        voc, yolo = format_of("voc"), format_of("yolo")
        return ["yolo" if yolo.holds(folder) and not voc.holds(folder) else "voc"]
    found = [kind for kind in FORMATS if format_of(kind).holds(folder)]
    if not found:
        what, remedy = described(folder)
        raise InvalidDataset(
            f"{folder} holds no dataset of a known format: no COCO JSON, no data.yaml or "
            f"classes.txt (YOLO), no XML files of Pascal VOC{f'; {what}' if what else ''}",
            hint=remedy or "give the folder that holds them, or a file of labels: --annotations",
        )
    return found


def read_dataset(
    folder: Path,
    kind: str | None = None,
    annotations: Path | None = None,
    *,
    on_issue: OnIssue = refuse,
    details: bool = False,
) -> Dataset:
    """Read all splits of a folder.

    Args:
        folder: Folder of the dataset.
        kind: Name of the format; None finds it by the files. Of several formats, the first in
            `FORMATS` is read.
        annotations: See `seatrial.datasets.read.Format.read`.
        on_issue: Called with every label that cannot be used. If it does not raise, it is also
            called for a split that cannot be read at all, and the split is left out. It is called
            for labels that belong to no split too.
        details: Whether to keep what labels say beyond boxes.

    Raises:
        InvalidDataset: There is nothing to read, or `on_issue` refuses something.
    """
    chosen = kind or kinds_of(folder, annotations)[0]
    check_folder(folder, hint="give the folder of a dataset")
    sets: dict[str, LabelledSet] = {}
    told: set[str] = set()

    def note(issue: LabelIssue) -> None:
        told.add(issue.where.partition(", line ")[0])
        on_issue(issue)

    with _errors_as_issues(on_issue, folder):
        for split in format_of(chosen).splits(folder, annotations) or (WHOLE,):
            with _errors_as_issues(on_issue, folder):
                sets[split] = read_split(
                    chosen, folder, annotations, split, on_issue=note, details=details
                )
    beside = format_of(chosen).left_out(folder, sets) if sets and annotations is None else []
    strange = [path for path in beside if str(path) not in told]
    for path in strange:
        on_issue(LabelIssue("unlisted-labels", str(path), "belongs to no split"))
    return Dataset(folder, chosen, sets, tuple(strange))


@contextlib.contextmanager
def _errors_as_issues(on_issue: OnIssue, folder: Path) -> Iterator[None]:
    """Hand errors of the block to `on_issue`, unless it is the strict one."""
    try:
        yield
    except InvalidDataset as error:
        if on_issue is refuse:
            raise
        on_issue(LabelIssue("labels-unreadable", str(folder), error.message, error.hint))
