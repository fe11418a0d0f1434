"""Rules that labels must follow, whatever their images show; and labels after mending."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from seatrial.datasets.agreement import agreed, present_paths
from seatrial.datasets.inspection import InspectedImage, inspect_images
from seatrial.datasets.issues import ISSUE_KINDS, LabelIssue, refuse
from seatrial.datasets.labels import LabelledSet, some
from seatrial.datasets.splits import Dataset, read_dataset
from seatrial.errors import InvalidDataset
from seatrial.progress import Progress, silent

Look = Callable[[Sequence[Path], Progress], Mapping[Path, InspectedImage]]
"""Looks at image files; called with their paths, and the progress."""
TOLERANCE_PX = 1.0  # a box may reach this far over the border: labels are rounded


def read_sound(
    folder: Path,
    kind: str | None = None,
    annotations: Path | None = None,
    *,
    mend: bool = False,
    look: Look = inspect_images,
    on_progress: Progress = silent,
) -> tuple[Dataset, list[str]]:
    """Read a dataset that is to be written again, and decode its images.

    Args:
        folder: Folder of the dataset.
        kind: Name of the format; None finds it by the files.
        annotations: See `seatrial.datasets.read.Format.read`.
        mend: Whether to clip boxes to their image, and to leave out labels and images that cannot
            be used, in place of an error.
        look: What looks at the image files.
        on_progress: Called after each image.

    Returns:
        The dataset, in which every image is there, can be decoded and has its size; and what was
        mended or left out, one sentence each.

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
    seen = look(present_paths(dataset.sets), on_progress)
    sets = agreed(dataset.sets, seen, on_issue)
    for labelled in sets.values():
        for issue in box_issues(labelled):
            on_issue(issue)
    if mend:
        sets = {split: _mended(labelled) for split, labelled in sets.items()}
    if not any(labelled.images for labelled in sets.values()):
        raise InvalidDataset(f"{folder} has no image that can be used")
    notes = [f"mended, {ISSUE_KINDS[k].title}: {number}" for k, number in counts.items() if number]
    if dataset.left_out:
        names = some([str(path.relative_to(folder)) for path in dataset.left_out])
        notes.append(f"left out, since they belong to no split: {names}")
    notes += dict.fromkeys(note for labelled in sets.values() for note in labelled.notes)
    return replace(dataset, sets=sets), notes


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


def leaks(
    sets: Mapping[str, LabelledSet], seen: Mapping[Path, InspectedImage]
) -> Iterator[LabelIssue]:
    """Issues of images that are in two splits, by the bytes of their files.

    Args:
        sets: Split -> its set.
        seen: The images, of which pixels were decoded.
    """
    first: dict[bytes, tuple[str, Path]] = {}
    for split, labelled in sets.items():
        for path in dict.fromkeys(image.path for image in labelled.images):
            one = seen.get(path)
            if one is None or one.error or not one.sha256:
                continue
            other, place = first.setdefault(one.sha256, (split, path))
            if other != split:
                yield LabelIssue("leak", str(path), f"in {split}, is in {other} too: {place}")


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
