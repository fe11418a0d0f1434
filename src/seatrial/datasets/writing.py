"""A dataset written in any of the formats. The folder appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

import msgspec
import numpy as np

from seatrial.datasets import voc
from seatrial.datasets.issues import refuse
from seatrial.datasets.label_rules import numbering_issues
from seatrial.datasets.labels import Category, LabelledImage, LabelledSet
from seatrial.datasets.read import format_of
from seatrial.errors import InvalidDataset
from seatrial.progress import Progress, silent
from seatrial.system.files import staged_folder

# Keys of COCO that are written as boxes and names, or counted in a note of their own.
STRUCTURE = frozenset(
    {"annotations", "area", "bbox", "categories", "category_id", "file_name", "height", "id",
     "image_id", "images", "iscrowd", "segmentation", "width"}
)  # fmt: skip
IMAGE_FOLDERS = {"coco": "images", "yolo": "images", "voc": "JPEGImages"}


def write_dataset(
    folder: Path,
    sets: Mapping[str, LabelledSet],
    kind: str,
    *,
    link: bool = False,
    on_progress: Progress = silent,
) -> list[str]:
    """Write images and labels.

    Args:
        folder: New or empty.
        sets: Split, or ``""``, -> its set; all images are there and have sizes.
        kind: Format of the labels.
        link: Whether to make hard links to the images in place of copies, where the file system
            allows it.
        on_progress: Called after each image.

    Returns:
        What was lost, one sentence each.

    Raises:
        InvalidInput: The folder holds files.
        InvalidDataset: Two images would have the same name, or the splits number their classes
            differently.
        NotWritable: The folder cannot be written.
    """
    named = _named(one_numbering(sets), kind)
    total = sum(len(labelled.images) for labelled in named.values())
    done = 0
    with staged_folder(folder) as staged:
        for split, labelled in named.items():
            home = staged / image_home(kind, split)
            home.mkdir(parents=True, exist_ok=True)
            for image in labelled.images:
                _place(image.path, home / image.name, link=link)
                done += 1
                on_progress("writing images", done, total)
        notes = format_of(kind).write(staged, named)
    # Keys that the format has no place for.
    lost: dict[str, None] = {}
    if kind != "coco":
        kept = STRUCTURE | (voc.KEPT if kind == "voc" else set())
        for details in (labelled.details for labelled in named.values()):
            for row in (details.file, *details.images, *details.objects) if details else ():
                lost |= dict.fromkeys(key for key in row if key not in kept)
    if lost:
        notes = [*notes, f"left out, without a place in {kind.upper()}: {', '.join(lost)}"]
    return notes


def image_home(kind: str, split: str) -> str:
    """Folder of a split's images, in the dataset."""
    if kind == "voc":
        return IMAGE_FOLDERS[kind]
    own = split or ("train" if kind == "yolo" else "")
    return f"{IMAGE_FOLDERS[kind]}/{own}" if own else IMAGE_FOLDERS[kind]


def _place(source: Path, target: Path, *, link: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        try:
            os.link(source.resolve(), target)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, target)
    else:
        shutil.copyfile(source, target)


def _named(sets: Mapping[str, LabelledSet], kind: str) -> dict[str, LabelledSet]:
    """The sets with safe file names, which are unique where they name the label file."""
    named = {
        split: _renamed(labelled, lambda image: _safe(image.name))
        for split, labelled in sets.items()
    }
    if kind == "voc":  # one folder for all splits
        flat = [_flat(image) for labelled in named.values() for image in labelled.images]
        if max(Counter(flat).values(), default=0) > 1 and len(named) > 1:
            named = {
                split: _renamed(labelled, lambda image, split=split: f"{split}_{_flat(image)}")  # type: ignore[misc]
                for split, labelled in named.items()
            }
        else:
            named = {split: _renamed(labelled, _flat) for split, labelled in named.items()}
    for labelled in named.values():
        known: dict[str, LabelledImage] = {}
        for image in labelled.images:
            # COCO refers to an image by name; the others have a label file of the same stem.
            key = image.name if kind == "coco" else str(PurePosixPath(image.name).with_suffix(""))
            other = known.setdefault(key, image)
            if other is not image:
                raise InvalidDataset(
                    f"{other.path} and {image.path} would both be labelled as {key}",
                    hint="rename one of them",
                )
    return named


def _renamed(labelled: LabelledSet, name: Callable[[LabelledImage], str]) -> LabelledSet:
    images = (msgspec.structs.replace(image, name=name(image)) for image in labelled.images)
    return replace(labelled, images=tuple(images))


def _safe(name: str) -> str:
    """A path below the folder, whatever the labels say."""
    parts = [
        part
        for part in PurePosixPath(name.replace("\\", "/")).parts
        if part not in ("/", ".", "..")
    ]
    return str(PurePosixPath(*parts))


def _flat(image: LabelledImage) -> str:
    return image.name.replace("/", "_")


def one_numbering(sets: Mapping[str, LabelledSet]) -> dict[str, LabelledSet]:
    """The sets with one list of categories: those of all sets, by their numbers.

    Raises:
        InvalidDataset: Two sets give one number to two classes.
    """
    for issue in numbering_issues(sets):
        refuse(issue)
    names = {c.id: c.name for labelled in sets.values() for c in labelled.categories}
    categories = tuple(Category(number, names[number]) for number in sorted(names))
    index = {category.id: place for place, category in enumerate(categories)}
    return {
        split: replace(
            labelled,
            categories=categories,
            truth=replace(
                labelled.truth,
                category=np.array([index[c.id] for c in labelled.categories], np.int64)[
                    labelled.truth.category
                ],
            ),
        )
        for split, labelled in sets.items()
    }
