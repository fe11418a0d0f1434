"""A dataset: all the splits that a folder holds, in one format."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from seatrial.datasets.findings import LabelIssue, Report, refuse
from seatrial.datasets.labels import FORMATS, LabelledSet, format_of
from seatrial.errors import InvalidDataset

BY_SUFFIX = {".json": "coco", ".yaml": "yolo", ".yml": "yolo", ".txt": "voc"}
WHOLE = ""  # the name of the one set of a folder without splits


@dataclass(frozen=True, slots=True)
class Dataset:
    """What a folder holds.

    Attributes:
        folder: Where it lies.
        kind: Name of the format.
        sets: Split, or `WHOLE`, and its pictures and labels.
    """

    folder: Path
    kind: str
    sets: dict[str, LabelledSet]


def kinds_of(folder: Path, annotations: Path | None = None) -> list[str]:
    """Formats that a folder looks like.

    Args:
        folder: Of the dataset.
        annotations: A file of labels that was named: tells the format by itself.

    Raises:
        InvalidDataset: It is no folder, or looks like none.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise InvalidDataset(f"{folder} {what}", hint="give the folder of a dataset")
    if annotations is not None and annotations.suffix.lower() in BY_SUFFIX:
        return [BY_SUFFIX[annotations.suffix.lower()]]
    found = [kind for kind in FORMATS if format_of(kind).holds(folder)]
    if not found:
        raise InvalidDataset(
            f"{folder} holds no dataset that is known: no COCO JSON, no data.yaml (YOLO), no XML "
            "files of Pascal VOC",
            hint="give the folder that holds them, or force a format with --format",
        )
    return found


def read_dataset(
    folder: Path,
    kind: str | None = None,
    annotations: Path | None = None,
    *,
    report: Report = refuse,
    details: bool = False,
) -> Dataset:
    """Read all splits of a folder.

    Args:
        folder: Of the dataset.
        kind: Its format; told by looking if None. Of several, the first of the table counts.
        annotations: See `seatrial.datasets.labels.Format.read`.
        report: Told of every label that cannot be used. If it does not raise, a split that cannot
            be read at all is told too, and left out.
        details: Keep what labels say beyond boxes.

    Raises:
        InvalidDataset: There is nothing to read, or (as `report` decides) something is wrong.
    """
    chosen = kind or kinds_of(folder, annotations)[0]
    module = format_of(chosen)
    if not folder.is_dir():
        raise InvalidDataset(f"{folder} is not a folder", hint="give the folder of a dataset")
    sets: dict[str, LabelledSet] = {}
    with _telling(report, folder):
        for split in module.splits(folder, annotations) or (WHOLE,):
            with _telling(report, folder):
                sets[split] = module.read(
                    folder, annotations, split, report=report, details=details
                )
    return Dataset(folder, chosen, sets)


@contextlib.contextmanager
def _telling(report: Report, folder: Path) -> Iterator[None]:
    """What cannot be read at all is a finding to those who want to know of all."""
    try:
        yield
    except InvalidDataset as error:
        if report is refuse:
            raise
        report(LabelIssue("labels-unreadable", str(folder), error.message))
