"""What is wrong with labels, seen without decoding a picture; and what is left after mending."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.datasets.findings import KINDS, LabelIssue, Report, refuse
from seatrial.datasets.labels import LabelledImage, LabelledSet
from seatrial.datasets.splits import Dataset, read_dataset
from seatrial.errors import InvalidDataset
from seatrial.system.images import upright_size

TOLERANCE_PX = 1.0  # rounding of a label may take it so far over the border


def read_sound(
    folder: Path, kind: str | None = None, annotations: Path | None = None, *, mend: bool = False
) -> tuple[Dataset, list[str]]:
    """Read a dataset that is to be written again.

    Args:
        folder: See `read_dataset`; so are the next two.
        kind: Its format.
        annotations: The file to read in place of the usual one.
        mend: Clip boxes to their picture, and leave out labels and pictures that cannot be used.

    Returns:
        The dataset, all pictures there and with sizes; and what was mended, one sentence each.

    Raises:
        InvalidDataset: Something is wrong, and is not to be mended.
    """
    counts: Counter[str] = Counter()
    broken: set[str] = set()

    def count(finding: LabelIssue) -> None:
        if finding.kind == "broken-image":  # told again by whoever opens it next
            if finding.where in broken:
                return
            broken.add(finding.where)
        counts[finding.kind] += finding.severity == "error"

    report = count if mend else refuse
    dataset = read_dataset(folder, kind, annotations, report=report, details=True)
    sets = {split: sized(labelled, report) for split, labelled in dataset.sets.items()}
    for labelled in sets.values():
        for finding in (*missing_pictures(labelled), *box_findings(labelled)):
            report(finding)
    if mend:
        sets = {split: _mended(labelled) for split, labelled in sets.items()}
    if not any(labelled.images for labelled in sets.values()):
        raise InvalidDataset(f"{folder} has no picture that can be used")
    notes = [f"mended, {KINDS[name].title}: {number}" for name, number in counts.items() if number]
    notes += [note for labelled in sets.values() for note in labelled.notes]
    return replace(dataset, sets=sets), notes


def sized(labelled: LabelledSet, report: Report) -> LabelledSet:
    """The set with the sizes of all pictures that have one."""

    def of(image: LabelledImage) -> LabelledImage:
        if (image.width and image.height) or not image.path.is_file():
            return image
        try:
            width, height = upright_size(image.path)
        except InvalidDataset as error:
            report(LabelIssue("broken-image", str(image.path), error.message))
            return image
        return msgspec.structs.replace(image, width=width, height=height)

    return replace(labelled, images=tuple(of(image) for image in labelled.images))


def place_of(image: LabelledImage) -> str:
    """Where a picture is named, for a message."""
    if image.labels is not None and image.labels.suffix == ".json":
        return f"{image.labels}, image {image.id}"
    return str(image.labels)


def missing_pictures(labelled: LabelledSet) -> Iterator[LabelIssue]:
    """Pictures that are named and not there."""
    for image in labelled.images:
        if not image.path.is_file():
            yield LabelIssue("missing-image", place_of(image), f"{image.path} is not there")


def box_findings(labelled: LabelledSet) -> Iterator[LabelIssue]:
    """Boxes without an area, outside their picture, or there twice."""
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


def numbering_findings(sets: Mapping[str, LabelledSet]) -> Iterator[LabelIssue]:
    """Classes that have one number and two names."""
    names: dict[int, tuple[str, str]] = {}
    for labelled in sets.values():
        for category in labelled.categories:
            name, source = names.setdefault(category.id, (category.name, labelled.source))
            if name != category.name:
                message = f"class {category.id} is {category.name!r} here, {name!r} in {source}"
                yield LabelIssue("classes-differ", labelled.source, message)


def _mended(labelled: LabelledSet) -> LabelledSet:
    images = np.array(
        [bool(i.width and i.height) and i.path.is_file() for i in labelled.images], np.bool_
    )
    truth = labelled.truth
    clipped = _clipped(labelled)
    # A box that was no wider than the tolerance outside stays as it was labelled.
    moved = np.abs(clipped - truth.xywh).max(1, initial=0) > TOLERANCE_PX
    xywh = np.where(moved[:, None], clipped, truth.xywh)
    area = np.where(moved, np.minimum(truth.area, xywh[:, 2] * xywh[:, 3]), truth.area)
    whole = replace(labelled, truth=replace(truth, xywh=xywh, area=area))
    return whole.select(images, np.asarray((xywh[:, 2:] > 0).all(1), np.bool_))


def _clipped(labelled: LabelledSet) -> NDArray[np.float64]:
    """(G, 4): boxes cut at the border of their picture."""
    xywh = labelled.truth.xywh
    sizes = np.array([(i.width or 1, i.height or 1) for i in labelled.images], np.float64)
    limit = sizes.reshape(-1, 2)[labelled.truth.image]
    low = np.clip(xywh[:, :2], 0, limit)
    high = np.clip(xywh[:, :2] + xywh[:, 2:], 0, limit)
    return np.column_stack([low, high - low])
