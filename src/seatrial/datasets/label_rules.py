"""Rules that labels must follow, checked without decoding images; and labels after mending."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from seatrial.datasets.issues import ISSUE_KINDS, LabelIssue, OnIssue, refuse, size_or_issue
from seatrial.datasets.labels import LabelledImage, LabelledSet
from seatrial.datasets.splits import Dataset, read_dataset
from seatrial.errors import InvalidDataset

TOLERANCE_PX = 1.0  # a box may reach this far over the border: labels are rounded


def read_sound(
    folder: Path, kind: str | None = None, annotations: Path | None = None, *, mend: bool = False
) -> tuple[Dataset, list[str]]:
    """Read a dataset that is to be written again.

    Args:
        folder: Folder of the dataset.
        kind: Name of the format; None finds it by the files.
        annotations: See `seatrial.datasets.read.Format.read`.
        mend: Whether to clip boxes to their image, and to leave out labels and images that cannot
            be used, in place of an error.

    Returns:
        The dataset, in which every image is there and has a size; and what was mended, one
        sentence each.

    Raises:
        InvalidDataset: There is an error that was not to be mended, or no image is left.
    """
    counts: Counter[str] = Counter()
    broken: set[str] = set()

    def count(issue: LabelIssue) -> None:
        if issue.kind == "broken-image":  # reported each time that the file is opened
            if issue.where in broken:
                return
            broken.add(issue.where)
        counts[issue.kind] += issue.severity == "error"

    on_issue = count if mend else refuse
    dataset = read_dataset(folder, kind, annotations, on_issue=on_issue, details=True)
    sets = {split: with_sizes(labelled, on_issue) for split, labelled in dataset.sets.items()}
    for labelled in sets.values():
        for issue in (*missing_images(labelled), *box_issues(labelled)):
            on_issue(issue)
    if mend:
        sets = {split: _mended(labelled) for split, labelled in sets.items()}
    if not any(labelled.images for labelled in sets.values()):
        raise InvalidDataset(f"{folder} has no image that can be used")
    notes = [f"mended, {ISSUE_KINDS[k].title}: {number}" for k, number in counts.items() if number]
    notes += [note for labelled in sets.values() for note in labelled.notes]
    return replace(dataset, sets=sets), notes


def with_sizes(labelled: LabelledSet, on_issue: OnIssue) -> LabelledSet:
    """The set with the sizes of all images whose file can be read."""

    def sized(image: LabelledImage) -> LabelledImage:
        if image.width and image.height:
            return image
        width, height = size_or_issue(image.path, on_issue)
        return (
            image if width is None else msgspec.structs.replace(image, width=width, height=height)
        )

    return replace(labelled, images=tuple(sized(image) for image in labelled.images))


def image_place(image: LabelledImage) -> str:
    """Where the labels name an image, for a message."""
    if image.labels is not None and image.labels.suffix == ".json":
        return f"{image.labels}, image {image.id}"
    return str(image.labels)


def missing_images(labelled: LabelledSet) -> Iterator[LabelIssue]:
    """Issues of images that the labels name and that are not there."""
    for image in labelled.images:
        if not image.path.is_file():
            yield LabelIssue("missing-image", image_place(image), f"{image.path} is not there")


def box_issues(labelled: LabelledSet) -> Iterator[LabelIssue]:
    """Issues of boxes: without an area, outside their image, or there twice."""
    truth = labelled.truth
    known: set[tuple[float, ...]] = set()
    rows = zip(truth.image.tolist(), truth.category.tolist(), truth.xywh.tolist(), strict=True)
    for index, (number, category, (left, top, width, height)) in enumerate(rows):
        image, name = labelled.images[number], labelled.categories[category].name
        shown = f"{name}, {left:g}, {top:g} to {left + width:g}, {top + height:g}"
        if width <= 0 or height <= 0:
            message = f"{shown} in {image.name}: {width:g} x {height:g} pixels"
            yield LabelIssue("box-empty", labelled.where(index), message)
            continue
        if (number, category, left, top, width, height) in known:
            yield LabelIssue("duplicate-box", labelled.where(index), f"{shown}: is there twice")
        known.add((number, category, left, top, width, height))
        if not image.width or not image.height:
            continue
        over = max(-left, -top, left + width - image.width, top + height - image.height)
        if over > TOLERANCE_PX:
            size = f"{image.name} ({image.width} x {image.height})"
            message = f"{shown}: {over:.4g} px over the border of {size}"
            yield LabelIssue("box-outside", labelled.where(index), message)


def numbering_issues(sets: Mapping[str, LabelledSet]) -> Iterator[LabelIssue]:
    """Issues of class numbers that have two names in two splits."""
    names: dict[int, tuple[str, str]] = {}
    for labelled in sets.values():
        for category in labelled.categories:
            name, source = names.setdefault(category.id, (category.name, labelled.source))
            if name != category.name:
                message = f"class {category.id} is {category.name!r} here, {name!r} in {source}"
                yield LabelIssue("classes-differ", labelled.source, message)


def _mended(labelled: LabelledSet) -> LabelledSet:
    """The set with clipped boxes; empty boxes and images that cannot be used are left out."""
    truth = labelled.truth
    usable = np.array(
        [bool(i.width and i.height) and i.path.is_file() for i in labelled.images], np.bool_
    )
    sizes = np.array([(i.width or 1, i.height or 1) for i in labelled.images], np.float64)
    limit = sizes.reshape(-1, 2)[truth.image]  # (G, 2)
    low = np.clip(truth.xywh[:, :2], 0, limit)
    high = np.clip(truth.xywh[:, :2] + truth.xywh[:, 2:], 0, limit)
    clipped = np.column_stack([low, high - low])
    # A box within the tolerance stays as it was labelled.
    moved = np.abs(clipped - truth.xywh).max(1, initial=0) > TOLERANCE_PX
    xywh = np.where(moved[:, None], clipped, truth.xywh)
    area = np.where(moved, np.minimum(truth.area, xywh[:, 2] * xywh[:, 3]), truth.area)
    whole = replace(labelled, truth=replace(truth, xywh=xywh, area=area))
    return whole.select(usable, np.asarray((xywh[:, 2:] > 0).all(1), np.bool_))
