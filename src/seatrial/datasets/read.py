"""Reads labelled images of any known format; the table of formats."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from seatrial.datasets.agreement import agreed, inspect_sets
from seatrial.datasets.details import restored
from seatrial.datasets.issues import LabelIssue, OnIssue, refuse
from seatrial.datasets.labels import SPLITS, LabelledSet, some
from seatrial.errors import InvalidDataset, InvalidInput
from seatrial.progress import Progress, silent
from seatrial.report.numbers import counted, noun
from seatrial.system.files import check_folder

FORMATS = {
    "coco": "seatrial.datasets.coco",
    "yolo": "seatrial.datasets.yolo",
    "voc": "seatrial.datasets.voc",
}


class Format(Protocol):
    """Functions of each module in `FORMATS`."""

    def holds(self, folder: Path) -> bool:
        """Whether a folder has the files of this format."""

    def splits(self, folder: Path, annotations: Path | None) -> tuple[str, ...]:
        """The `SPLITS` that a folder has; none if it is one set."""

    def read(
        self,
        folder: Path,
        annotations: Path | None,
        split: str,
        *,
        on_issue: OnIssue = refuse,
        details: bool = False,
    ) -> LabelledSet:
        """Read labels; images that are not there are for the caller to judge.

        Args:
            folder: Folder of the dataset.
            annotations: File to read in place of the usual one: COCO's JSON file, YOLO's YAML
                file, or VOC's list of classes.
            split: Name of the set, where there are several.
            on_issue: Called with every label that cannot be used; the label is left out.
            details: Whether to keep what labels say beyond boxes.

        Raises:
            InvalidDataset: The labels are missing, damaged or contradict themselves.
        """

    def left_out(self, folder: Path, sets: Mapping[str, LabelledSet]) -> list[Path]:
        """Files and folders of labels in the folder that are in none of its sets.

        Args:
            folder: Folder of the dataset, whose labels were found at their usual places.
            sets: Split, or ``""``, -> its set.
        """

    def write(self, folder: Path, sets: Mapping[str, LabelledSet]) -> list[str]:
        """Write the labels of images that lie in the folder already, under their names.

        Args:
            folder: New; it holds nothing but the images.
            sets: Split, or ``""``, -> its set; all have the same categories, and sizes.

        Returns:
            What a reader has to know, one sentence each.
        """


def format_of(kind: str) -> Format:
    """The module of a format.

    Raises:
        InvalidInput: The format is not in `FORMATS`.
    """
    if kind not in FORMATS:
        raise InvalidInput(f"unknown format {kind!r}", hint=f"known: {', '.join(FORMATS)}")
    return cast(Format, importlib.import_module(FORMATS[kind]))


def read_split(
    kind: str,
    folder: Path,
    annotations: Path | None,
    split: str,
    *,
    on_issue: OnIssue = refuse,
    details: bool = False,
) -> LabelledSet:
    """Read one set, with what the file beside its labels says, see `seatrial.datasets.details`.

    For the arguments and errors see `Format.read`.
    """
    without: list[LabelIssue] = []

    def later(issue: LabelIssue) -> None:
        if issue.kind == "no-labels":  # crowds are beside YOLO's labels
            without.append(issue)
        else:
            on_issue(issue)

    found = format_of(kind).read(folder, annotations, split, on_issue=later, details=details)
    found = restored(found, folder, split, kind)
    if without and not len(found.truth):
        on_issue(without[0])
    return found


def read_labelled(
    spec: str,
    annotations: Path | None = None,
    *,
    split: str = "val",
    skip_missing: bool = False,
    look: bool = True,
    on_progress: Progress = silent,
) -> LabelledSet:
    """Read a labelled set whose images and labels agree; see `seatrial.datasets.agreement`.

    Args:
        spec: ``coco:FOLDER``, ``yolo:FOLDER`` or ``voc:FOLDER``.
        annotations: See `Format.read`.
        split: Name of the set, where the folder has several.
        skip_missing: Whether to leave out images that are not there, and to name them in
            ``skipped``.
        look: Whether to read the headers of the images; not where this was done before.
        on_progress: Called after each image.

    Raises:
        InvalidInput: The spec does not begin with a known format.
        InvalidDataset: There is no such folder, labels cannot be used, images are missing, or
            images and labels do not agree.
    """
    kind, _, where = spec.partition(":")
    if kind not in FORMATS or not where:
        raise InvalidInput(
            f"{spec!r} does not name a labelled set",
            hint=f"write one of: {', '.join(f'{name}:FOLDER' for name in FORMATS)}",
        )
    if split not in SPLITS:
        raise InvalidInput(f"unknown split {split!r}", hint=f"known: {', '.join(SPLITS)}")
    folder = Path(where).expanduser()
    hint = f"give the folder of images: {kind}:FOLDER"
    if folder.is_file():  # data.yaml, as Ultralytics names a set, or COCO's JSON
        whose = folder.parent if kind == "yolo" else "FOLDER"
        hint = f"give the folder, and the file beside it: {kind}:{whose} --annotations {folder}"
    check_folder(folder, hint=hint)
    found = read_split(kind, folder, annotations, split)
    if not found.images:
        raise InvalidDataset(f"the labels of {spec} name no images")
    sets = {split: _without_missing(found, folder, skip_missing=skip_missing)}
    seen = inspect_sets(sets, on_progress, pixels=False) if look else {}
    return agreed(sets, seen, refuse)[split]


def _without_missing(found: LabelledSet, folder: Path, *, skip_missing: bool) -> LabelledSet:
    present = np.array([image.path.is_file() for image in found.images])
    missing = [image.name for image, here in zip(found.images, present, strict=True) if not here]
    if not missing:
        return found
    if len(missing) == len(found.images):
        raise InvalidDataset(
            f"the labels name {counted(len(missing), 'image')}, of which none is in {folder}",
            hint=f"looked for {missing[0]} there and in its folder images/",
        )
    if not skip_missing:
        raise InvalidDataset(
            f"of {len(found.images)} images that the labels name, {len(missing)} "
            f"{noun(len(missing), 'is', 'are')} not in {folder}: {some(missing)}",
            hint="add them to the folder, or leave them out of the figure with --skip-missing",
        )
    kept = found.select(present, np.ones(len(found.truth), np.bool_))
    return replace(kept, skipped=tuple(missing))
