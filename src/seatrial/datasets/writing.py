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

from seatrial.datasets import details
from seatrial.datasets.issues import refuse
from seatrial.datasets.label_rules import numbering_issues
from seatrial.datasets.labels import Category, LabelledImage, LabelledSet, some
from seatrial.datasets.locate import LONGEST_NAME, possible
from seatrial.datasets.read import format_of
from seatrial.datasets.yolo_label_files import label_file_of
from seatrial.detect import decode
from seatrial.errors import InvalidDataset, shown
from seatrial.progress import Progress, silent
from seatrial.report.numbers import counted
from seatrial.system.files import staged_folder
from seatrial.system.images import foreign_reason, is_macos_file, only_images, usual_suffix

LONGEST_PATH = 2000  # bytes of a path below the folder: Linux has 4,096 for the whole
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
        What the format has no place for, and what became of it, one sentence each.

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
        return [*_other_names(sets, kind), *notes, *details.write(staged, named, kind)]


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
        split: _renamed(labelled, lambda image: _readable(image, kind))
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
            if len(os.fsencode(image.name)) > LONGEST_PATH:
                raise InvalidDataset(
                    f"the image {shown(image.name)} has a name of {len(image.name):,} characters, "
                    "which no path can have",
                    hint="correct its file_name in the labels",
                )
            key = _labelled_as(image.name, kind)
            other = known.setdefault(key, image)
            if other is not image:
                raise InvalidDataset(
                    f"{other.path} and {image.path} would both be labelled as {key}",
                    hint="rename one of them",
                )
    return named


def _labelled_as(name: str, kind: str) -> str:
    """The name that a format knows an image by: its own in COCO, else that of its label file."""
    if kind == "coco":
        return name
    if kind == "voc":
        return str(PurePosixPath(name).with_suffix(""))
    file = label_file_of(Path(IMAGE_FOLDERS[kind], "train", name)).with_suffix("")
    home = Path("labels", "train")
    return str(file.relative_to(home) if file.is_relative_to(home) else file)


def _readable(image: LabelledImage, kind: str) -> str:
    """A path below the folder under which readers of the format find the image.

    YOLO finds images by their suffixes, and files that are named as those of macOS are skipped.
    """
    name = _safe(image.name)
    if kind == "coco":  # lists its images
        return name
    if is_macos_file(Path(name)):
        name = "/".join(part.lstrip("_.") or "x" if is_macos_file(Path(part)) else part
                        for part in name.split("/"))  # fmt: skip
    if kind == "yolo" and (not only_images([Path(name)]) or foreign_reason(Path(name))):
        with image.path.open("rb") as file:
            name += usual_suffix(decode.format_of(file.read(32)) or "")
    return name


def _other_names(sets: Mapping[str, LabelledSet], kind: str) -> list[str]:
    """A note of images whose names readers of the format would not take for those of images."""
    changed = [
        f"{shown(image.name)} is {shown(name)}"
        for labelled in sets.values()
        for image in labelled.images
        if (name := _readable(image, kind)) != _safe(image.name)
        or possible(image.name) != image.name
    ]
    what = f"other names, under which {kind.upper()}'s readers find images"
    return [f"{counted(len(changed), 'image')} got {what}: {some(changed)}"] if changed else []


def _renamed(labelled: LabelledSet, name: Callable[[LabelledImage], str]) -> LabelledSet:
    images = (msgspec.structs.replace(image, name=name(image)) for image in labelled.images)
    return replace(labelled, images=tuple(images))


def _safe(name: str) -> str:
    """A path below the folder, whatever the labels say."""
    parts = [
        part
        for part in PurePosixPath(possible(name.replace("\\", "/"))).parts
        if part not in ("/", ".", "..")
    ]
    return str(PurePosixPath(*parts))


def _flat(image: LabelledImage) -> str:
    """The name with its folders in it; the end of it where no file can have so long a name."""
    name = os.fsencode(image.name.replace("/", "_"))
    return name[-LONGEST_NAME + len("train_") :].decode("utf-8", "ignore")


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
