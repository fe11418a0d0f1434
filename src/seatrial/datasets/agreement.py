"""The one check that images and labels agree, for all that reads a labelled set.

`seatrial data check` reports what it finds; `convert`, `split`, `evaluate`, `finetune` refuse it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.datasets.inspection import InspectedImage, inspect_images
from seatrial.datasets.issues import ISSUE_KINDS, LabelIssue, OnIssue
from seatrial.datasets.labels import Category, LabelledImage, LabelledSet
from seatrial.progress import Progress, silent

FRACTION = 1.01  # a box that ends before it is no box in pixels: labels are rounded


def agreed(
    sets: Mapping[str, LabelledSet], seen: Mapping[Path, InspectedImage], on_issue: OnIssue
) -> dict[str, LabelledSet]:
    """The sets with the sizes of their images, without what does not agree.

    Images that are not there stay, and are an issue. Classes of one name become one. What was
    changed without an error is in the notes of the sets.

    Args:
        sets: Split -> its set.
        seen: The image files that were looked at: see `inspect_sets`.
        on_issue: Called with each issue: classes of one name, images with labels in two places,
            label files of two images, images that are not there, cannot be decoded or have another
            size than their labels say, boxes that are fractions of their image.

    Raises:
        InvalidDataset: `on_issue` refuses an issue.
    """
    merged = _one_class_for_each_name(sets, on_issue)
    return {split: _agreed(labelled, seen, on_issue) for split, labelled in merged.items()}


def inspect_sets(
    sets: Mapping[str, LabelledSet], on_progress: Progress = silent, *, pixels: bool
) -> dict[Path, InspectedImage]:
    """Look at the image files of some sets; see `inspect_images`.

    Without pixels, only files are read whose size is not known to be that of the file.
    """
    return inspect_images(present_paths(sets, measured=pixels), on_progress, pixels=pixels)


def present_paths(sets: Mapping[str, LabelledSet], *, measured: bool = True) -> list[Path]:
    """The image files of some sets that are there, sorted, each once.

    Args:
        sets: Split -> its set.
        measured: Whether files are included whose size was read from them already.
    """
    images = (image for labelled in sets.values() for image in labelled.images)
    paths = {image.path for image in images if measured or not image.measured}
    return sorted(path for path in paths if path.is_file())


def image_place(image: LabelledImage) -> str:
    """Where the labels name an image, for a message."""
    if image.labels is not None and image.labels.suffix == ".json":
        return f"{image.labels}, image {image.id}"
    return str(image.labels)


def _agreed(
    labelled: LabelledSet, seen: Mapping[Path, InspectedImage], on_issue: OnIssue
) -> LabelledSet:
    left_out: set[int] = set()
    for index, issue in _labelled_twice(labelled):
        on_issue(issue)
        left_out.add(index)
    images: list[LabelledImage] = []
    odd: Counter[str] = Counter()
    for index, image in enumerate(labelled.images):
        found = seen.get(image.path)
        if found is None and not image.path.is_file():
            dead = "a link to a file that is " if image.path.is_symlink() else ""
            message = f"{image.path} is {dead}not there"
            on_issue(LabelIssue("missing-image", image_place(image), message))
        fault = None if found is None else _image_issue(image, found)
        if fault is not None:
            on_issue(fault)
            left_out.add(index)
        if found is not None and not found.error:
            width, height = found.size
            image = msgspec.structs.replace(image, width=width, height=height, measured=True)
        for kind, message in found.warnings if found is not None else ():
            on_issue(LabelIssue(kind, str(image.path), message))
            odd[kind] += 1
        images.append(image)
    notes = [f"{ISSUE_KINDS[kind].title}: {number}" for kind, number in odd.items()]
    whole = replace(labelled, images=tuple(images), notes=(*labelled.notes, *notes))
    kept = np.ones(len(images), np.bool_)
    kept[list(left_out)] = False
    usable = np.ones(len(whole.truth), np.bool_)
    for row in _fractions(whole, kept).tolist():
        on_issue(_fraction_issue(whole, row))
        usable[row] = False
    return whole.select(kept, usable)


def _image_issue(image: LabelledImage, found: InspectedImage) -> LabelIssue | None:
    if found.error:
        return LabelIssue("broken-image", str(image.path), found.error)
    if not image.width or not image.height or found.size == (image.width, image.height):
        return None
    shown = f"{found.size[0]} x {found.size[1]}"
    message = f"{image.path} is {shown}, labelled as {image.width} x {image.height}"
    if found.size == (image.height, image.width):
        message += ": turned by its EXIF orientation"
    return LabelIssue("size-differs", image_place(image), message)


def _labelled_twice(labelled: LabelledSet) -> Iterator[tuple[int, LabelIssue]]:
    """Images that are labelled in two places, and images that share their label file."""
    by_path: dict[Path, list[int]] = defaultdict(list)
    by_file: dict[Path, list[int]] = defaultdict(list)
    for index, image in enumerate(labelled.images):
        by_path[image.path].append(index)
        if image.labels is not None and image.labels.suffix != ".json" and image.labels.is_file():
            by_file[image.labels].append(index)
    for path, own in by_path.items():
        for index in own if len(own) > 1 else ():
            others = [image_place(labelled.images[i]) for i in own[:3] if i != index][:2]
            more = f" and {len(own) - 3} more" if len(own) > 3 else ""
            message = f"labels {path}, which is labelled by {', '.join(others)}{more} too"
            yield index, LabelIssue("image-twice", image_place(labelled.images[index]), message)
    for file, own in by_file.items():
        names = {labelled.images[index].path for index in own}
        for index in own[1:] if len(names) > 1 else ():
            first, image = labelled.images[own[0]], labelled.images[index]
            message = f"holds the labels of {first.path} and of {image.path}"
            yield index, LabelIssue("labels-shared", str(file), message)


def _fractions(labelled: LabelledSet, kept: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Rows of boxes that end in the first pixel of their image: they are fractions of it.

    A whole number is one only where other boxes of the set are fractions: 0, 0, 1, 1 can be the
    first pixel. VOC's pixels count from 1, so that its fractions begin below 0.
    """
    xywh = labelled.truth.xywh
    sides = np.array([min(i.width or 0, i.height or 0) for i in labelled.images], np.int64)
    ends = xywh[:, :2] + xywh[:, 2:]
    image = labelled.truth.image
    tiny = (xywh[:, :2] >= -1).all(1) & (ends <= FRACTION).all(1) & (ends > 0).all(1)
    tiny &= (sides[image] > 2) & kept[image]
    parts = tiny & (ends % 1 != 0).any(1)
    return np.flatnonzero(tiny if parts.any() else parts)


def _fraction_issue(labelled: LabelledSet, row: int) -> LabelIssue:
    truth = labelled.truth
    left, top, width, height = truth.xywh[row].tolist()
    name = labelled.categories[int(truth.category[row])].name
    image = labelled.images[int(truth.image[row])].name
    message = f"{name}, {left:g}, {top:g}, {width:g} x {height:g} in {image}: less than a pixel"
    return LabelIssue("box-fractions", labelled.where(row), message)


def _one_class_for_each_name(
    sets: Mapping[str, LabelledSet], on_issue: OnIssue
) -> dict[str, LabelledSet]:
    """The sets with one class of each name.

    Roboflow lists the name of a project as a class without objects, beside a class of that name:
    such a class is left out. Two classes of one name that both have objects are an issue.
    """
    counts: Counter[Category] = Counter()
    for labelled in sets.values():
        own = np.bincount(labelled.truth.category, minlength=len(labelled.categories)).tolist()
        counts.update(dict(zip(labelled.categories, own, strict=True)))
    return {split: _without_twins(labelled, counts, on_issue) for split, labelled in sets.items()}


def _without_twins(
    labelled: LabelledSet, counts: Mapping[Category, int], on_issue: OnIssue
) -> LabelledSet:
    """The set in which classes of one name are one: the first that has an object in any set."""
    named: dict[str, list[Category]] = defaultdict(list)
    for category in labelled.categories:
        named[category.name].append(category)
    becomes: dict[Category, Category] = {}
    notes: list[str] = []
    for name, own in named.items():
        first = next((category for category in own if counts[category]), own[0])
        for category in own:
            becomes[category] = first
            if category == first:
                continue
            if counts[category]:
                message = f"classes {first.id} and {category.id} are both named {name!r}"
                on_issue(LabelIssue("class-twice", labelled.source, message))
                continue
            message = f"class {category.id} has no object, and class {first.id} has its name"
            on_issue(LabelIssue("class-unused", labelled.source, f"{message}: {name!r}"))
            notes.append(f"{message}, {name!r}: it was left out")
    kept = tuple(category for category in labelled.categories if becomes[category] == category)
    if len(kept) == len(labelled.categories):
        return labelled
    place = {category: index for index, category in enumerate(kept)}
    index = np.array([place[becomes[category]] for category in labelled.categories], np.int64)
    truth = replace(labelled.truth, category=index[labelled.truth.category])
    return replace(labelled, categories=kept, truth=truth, notes=(*labelled.notes, *notes))
