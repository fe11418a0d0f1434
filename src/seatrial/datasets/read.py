"""Reads labelled images of any known format; the table of formats."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from seatrial.datasets.issues import OnIssue, refuse
from seatrial.datasets.labels import SPLITS, LabelledSet, some
from seatrial.errors import InvalidDataset, InvalidInput
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

    def write(self, folder: Path, sets: Mapping[str, LabelledSet]) -> list[str]:
        """Write the labels of images that lie in the folder already, under their names.

        Args:
            folder: New; it holds nothing but the images.
            sets: Split, or ``""``, -> its set; all have the same categories, and sizes.

        Returns:
            What the format cannot hold and was lost, one sentence each.
        """


def format_of(kind: str) -> Format:
    """The module of a format.

    Raises:
        InvalidInput: The format is not in `FORMATS`.
    """
    if kind not in FORMATS:
        raise InvalidInput(f"unknown format {kind!r}", hint=f"known: {', '.join(FORMATS)}")
    return cast(Format, importlib.import_module(FORMATS[kind]))


def read_labelled(
    spec: str,
    annotations: Path | None = None,
    *,
    split: str = "val",
    skip_missing: bool = False,
) -> LabelledSet:
    """Read a labelled set.

    Args:
        spec: ``coco:FOLDER``, ``yolo:FOLDER`` or ``voc:FOLDER``.
        annotations: See `Format.read`.
        split: Name of the set, where the folder has several.
        skip_missing: Whether to leave out images that are not there, and to name them in
            ``skipped``.

    Raises:
        InvalidInput: The spec does not begin with a known format.
        InvalidDataset: There is no such folder, labels cannot be used, or images are missing.
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
    check_folder(folder, hint=f"give the folder of images: {kind}:FOLDER")
    found = format_of(kind).read(folder, annotations, split)
    if not found.images:
        raise InvalidDataset(f"the labels of {spec} name no images")
    return _without_missing(found, folder, skip_missing=skip_missing)


def _without_missing(found: LabelledSet, folder: Path, *, skip_missing: bool) -> LabelledSet:
    present = np.array([image.path.is_file() for image in found.images])
    missing = [image.name for image, here in zip(found.images, present, strict=True) if not here]
    if not missing:
        return found
    if len(missing) == len(found.images):
        raise InvalidDataset(
            f"none of the {len(missing)} images that the labels name is in {folder}",
            hint=f"looked for {missing[0]} there and in its folder images/",
        )
    if not skip_missing:
        raise InvalidDataset(
            f"{len(missing)} of {len(found.images)} images that the labels name are not in "
            f"{folder}: {some(missing)}",
            hint="add them to the folder, or leave them out of the figure with --skip-missing",
        )
    kept = found.select(present, np.ones(len(found.truth), np.bool_))
    return replace(kept, skipped=tuple(missing))
