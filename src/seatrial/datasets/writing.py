"""A dataset written in any of the formats. The folder appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Protocol, cast

import msgspec
import numpy as np

from seatrial.datasets import voc
from seatrial.datasets.findings import refuse
from seatrial.datasets.label_rules import numbering_findings
from seatrial.datasets.labels import Category, LabelledImage, LabelledSet, format_of
from seatrial.errors import InvalidDataset
from seatrial.progress import Progress, silent
from seatrial.system.files import staged_folder

# Keys of COCO's that are written as boxes and names, or told of one by one.
STRUCTURE = frozenset(
    {"annotations", "area", "bbox", "categories", "category_id", "file_name", "height", "id",
     "image_id", "images", "iscrowd", "segmentation", "width"}
)  # fmt: skip
PICTURES = {"coco": "images", "yolo": "images", "voc": "JPEGImages"}

"""Called with the pictures done and the pictures in all."""


class Writer(Protocol):
    """What the modules in the table of formats have for this."""

    def write(self, folder: Path, sets: Mapping[str, LabelledSet]) -> list[str]:
        """Write the labels of pictures that lie in the folder already, under their names.

        Args:
            folder: New; it holds nothing but the pictures.
            sets: Split, or ``""``, and its set; all have the same categories, and sizes.

        Returns:
            What the format cannot hold and was lost, one sentence each.
        """


def write_dataset(
    folder: Path,
    sets: Mapping[str, LabelledSet],
    kind: str,
    *,
    link: bool = False,
    on_progress: Progress = silent,
) -> list[str]:
    """Write pictures and labels.

    Args:
        folder: Not there, or empty.
        sets: Split, or ``""``, and its set, all pictures there and with sizes.
        kind: Format of the labels.
        link: Hard links to the pictures in place of copies, where the file system allows.
        on_progress: Told after each picture.

    Returns:
        What was lost, one sentence each.

    Raises:
        InvalidDataset: The folder holds something, two pictures would have one name, or the
            splits number their classes differently.
        NotWritable: The folder cannot be written.
    """
    named = _named(one_numbering(sets), kind)
    total = sum(len(labelled.images) for labelled in named.values())
    done = 0
    with staged_folder(folder) as staged:
        for split, labelled in named.items():
            home = staged / picture_home(kind, split)
            home.mkdir(parents=True, exist_ok=True)
            for image in labelled.images:
                _place(image.path, home / image.name, link=link)
                done += 1
                on_progress("writing images", done, total)
        notes = cast(Writer, format_of(kind)).write(staged, named)
    return [*notes, *_keys_lost(named.values(), kind)]


def _keys_lost(sets: Iterable[LabelledSet], kind: str) -> list[str]:
    """What labels say by keys that the format has no place for, in one sentence."""
    if kind == "coco":
        return []
    kept = STRUCTURE | (voc.KEPT if kind == "voc" else set())
    lost: dict[str, None] = {}
    for details in (labelled.details for labelled in sets):
        for row in (details.file, *details.images, *details.objects) if details else ():
            lost |= dict.fromkeys(key for key in row if key not in kept)
    return [f"left out, without a place in {kind.upper()}: {', '.join(lost)}"] if lost else []


def picture_home(kind: str, split: str) -> str:
    """Folder of a split's pictures, in the dataset."""
    if kind == "voc":
        return PICTURES[kind]
    own = split or ("train" if kind == "yolo" else "")
    return f"{PICTURES[kind]}/{own}" if own else PICTURES[kind]


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
    """The sets with file names that are safe, and unique where labels are told by them."""
    named = {
        split: _renamed(labelled, lambda image: _safe(image.name))
        for split, labelled in sets.items()
    }
    if kind == "voc":  # one folder for all
        flat = [_flat(image) for labelled in named.values() for image in labelled.images]
        if max(Counter(flat).values(), default=0) > 1 and len(named) > 1:
            named = {
                split: _renamed(labelled, lambda image, split=split: f"{split}_{_flat(image)}")  # type: ignore[misc]
                for split, labelled in named.items()
            }
        else:
            named = {split: _renamed(labelled, _flat) for split, labelled in named.items()}
    for labelled in named.values():
        _check_names(labelled, kind)
    return named


def _renamed(labelled: LabelledSet, name: Callable[[LabelledImage], str]) -> LabelledSet:
    images = (msgspec.structs.replace(image, name=name(image)) for image in labelled.images)
    return replace(labelled, images=tuple(images))


def _safe(name: str) -> str:
    """A path below the folder, whatever the labels say."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in "/.."]
    return str(PurePosixPath(*parts))


def _flat(image: LabelledImage) -> str:
    return image.name.replace("/", "_")


def _check_names(labelled: LabelledSet, kind: str) -> None:
    """COCO tells pictures by name; the others have a label file of the same stem."""
    known: dict[str, LabelledImage] = {}
    for image in labelled.images:
        key = image.name if kind == "coco" else str(PurePosixPath(image.name).with_suffix(""))
        other = known.setdefault(key, image)
        if other is not image:
            raise InvalidDataset(
                f"{other.path} and {image.path} would both be labelled as {key}",
                hint="rename one of them",
            )


def one_numbering(sets: Mapping[str, LabelledSet]) -> dict[str, LabelledSet]:
    """The sets with one list of categories: of all of them, by their numbers."""
    for finding in numbering_findings(sets):
        refuse(finding)
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
