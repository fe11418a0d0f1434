"""Labelled pictures, whatever the format of their labels."""

from __future__ import annotations

import difflib
import hashlib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.errors import InvalidDataset, InvalidInput

FORMATS = {
    "coco": "seatrial.lifecycle.data.coco:read",
    "yolo": "seatrial.lifecycle.data.yolo:read",
}
SPLITS = ("train", "val", "test")
# Models with gaps in their class numbers fill them with these; they are never detected.
PLACEHOLDERS = frozenset({"", "n/a", "background"})

Unmatched = Literal["error", "ignore"]


class Category(msgspec.Struct, frozen=True):
    """A class of objects: the dataset's own number for it, and its name."""

    id: int
    name: str


class LabelledImage(msgspec.Struct, frozen=True):
    """One picture.

    Attributes:
        id: The dataset's own number for it.
        name: As the dataset names it.
        path: The file.
        width: Upright, pixels; None where the labels do not say.
        height: The same.
    """

    id: int
    name: str
    path: Path
    width: int | None
    height: int | None


@dataclass(frozen=True, slots=True)
class Truth:
    """The labelled objects, in the order of the labels.

    Attributes:
        image: (G,) int64, index into the set's images.
        category: (G,) int64, index into the set's categories.
        xywh: (G, 4) float64: left, top, width, height, pixels of the upright source image.
        area: (G,) float64, pixels; in COCO's files the area of the outline, not of the box.
        crowd: (G,) bool: a region of many objects. What is found in it counts neither way.
    """

    image: NDArray[np.int64]
    category: NDArray[np.int64]
    xywh: NDArray[np.float64]
    area: NDArray[np.float64]
    crowd: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.image)

    def take(self, kept: NDArray[np.intp]) -> Truth:
        """The objects of these indices."""
        return Truth(
            self.image[kept],
            self.category[kept],
            self.xywh[kept],
            self.area[kept],
            self.crowd[kept],
        )


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Pictures and the objects in them.

    Attributes:
        source: What was read, as it was named.
        images: By ascending id; those without an object count too.
        categories: By ascending id.
        truth: The objects.
        skipped: Names of pictures that the labels name and that are not there.
        notes: What was mended while reading, one sentence each.
    """

    source: str
    images: tuple[LabelledImage, ...]
    categories: tuple[Category, ...]
    truth: Truth
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def digest(self) -> str:
        """sha256 over names and labels: two figures with equal digests had equal labels."""
        digest = hashlib.sha256()
        for image in self.images:
            digest.update(f"{image.id} {image.name}\0".encode("utf-8", "surrogateescape"))
        for category in self.categories:
            digest.update(f"{category.id} {category.name}\0".encode())
        for array in (self.truth.image, self.truth.category, self.truth.xywh, self.truth.crowd):
            digest.update(np.ascontiguousarray(array).tobytes())
        return f"sha256:{digest.hexdigest()}"


class Reader(Protocol):
    """What the table of formats points to."""

    def __call__(self, folder: Path, annotations: Path | None, split: str) -> LabelledSet:
        """Read labels; pictures that are not there are left for the caller to judge.

        Raises:
            InvalidDataset: The labels are missing, damaged or contradict themselves.
        """


def read_labelled(
    spec: str,
    annotations: Path | None = None,
    *,
    split: str = "val",
    skip_missing: bool = False,
) -> LabelledSet:
    """Read a labelled set.

    Args:
        spec: ``coco:FOLDER`` or ``yolo:FOLDER``.
        annotations: COCO: the JSON file. YOLO: the YAML file, ``FOLDER/data.yaml`` by default.
        split: YOLO: which entry of the YAML file.
        skip_missing: Leave out pictures that are not there, and name them in ``skipped``.

    Raises:
        InvalidInput: The spec names no format that is known.
        InvalidDataset: No such folder, labels that cannot be used, or pictures missing.
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
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise InvalidDataset(f"{folder} {what}", hint=f"give the folder of pictures: {kind}:FOLDER")
    module, _, attribute = FORMATS[kind].partition(":")
    reader = cast(Reader, getattr(importlib.import_module(module), attribute))
    found = reader(folder, annotations, split)
    if not found.images:
        raise InvalidDataset(f"the labels of {spec} name no pictures")
    return _without_missing(found, folder, skip_missing=skip_missing)


def _without_missing(found: LabelledSet, folder: Path, *, skip_missing: bool) -> LabelledSet:
    present = np.array([image.path.is_file() for image in found.images])
    missing = [image.name for image, here in zip(found.images, present, strict=True) if not here]
    if not missing:
        return found
    if len(missing) == len(found.images):
        raise InvalidDataset(
            f"none of the {len(missing)} pictures that the labels name is in {folder}",
            hint=f"looked for {missing[0]} there and in its folder images/",
        )
    if not skip_missing:
        raise InvalidDataset(
            f"{len(missing)} of {len(found.images)} pictures that the labels name are not in "
            f"{folder}: {some(missing)}",
            hint="complete the folder, or leave them out of the figure with --skip-missing",
        )
    kept = found.truth.take(np.flatnonzero(present[found.truth.image]))
    new_index = np.cumsum(present) - 1
    return replace(
        found,
        images=tuple(i for i, here in zip(found.images, present, strict=True) if here),
        truth=replace(kept, image=new_index[kept.image].astype(np.int64)),
        skipped=tuple(missing),
    )


def match_labels(
    labels: Sequence[str], dataset: LabelledSet, *, unmatched: Unmatched = "error"
) -> NDArray[np.int64]:
    """Which category each class of a model is, told by name; case does not count.

    Numbers would mislead: COCO's 80 classes carry ids from 1 to 90.

    Args:
        labels: Of the model; the index is ``class_id``.
        dataset: Its categories are looked up.
        unmatched: ``ignore`` measures on what both know; see `known_categories`.

    Returns:
        (len(labels),) int64 index into the dataset's categories, -1 for none.

    Raises:
        InvalidDataset: Nothing matches, two classes or categories share a name, or (unless
            ignored) one side has a class that the other does not know.
    """
    index = _by_name([category.name for category in dataset.categories], "categories")
    own = _by_name([x for x in labels if _plain(x) not in PLACEHOLDERS], "labels of the model")
    matched = np.array([index.get(_plain(label), -1) for label in labels], np.int64)
    matched[[_plain(label) in PLACEHOLDERS for label in labels]] = -1
    strangers = [x for x in labels if _plain(x) in own and _plain(x) not in index]
    labelled = np.unique(dataset.truth.category)
    unknown = [dataset.categories[c].name for c in labelled if c not in set(matched.tolist())]
    if (matched < 0).all():
        raise _mismatch("no label of the model is a category of the dataset", strangers, index)
    if unmatched == "error" and unknown:
        raise _mismatch("the dataset labels objects that the model does not know", unknown, own)
    if unmatched == "error" and strangers:
        raise _mismatch("the dataset does not know labels of the model", strangers, index)
    return matched


def known_categories(matched: NDArray[np.int64], dataset: LabelledSet) -> LabelledSet:
    """The set without the objects that a model has no class for."""
    kept = np.flatnonzero(np.isin(dataset.truth.category, matched))
    return replace(dataset, truth=dataset.truth.take(kept))


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())


def _by_name(names: Sequence[str], what: str) -> dict[str, int]:
    index: dict[str, int] = {}
    for number, name in enumerate(names):
        if _plain(name) in index:
            raise InvalidDataset(f"two {what} are named {name!r}: they cannot be told apart")
        index[_plain(name)] = number
    return index


def _mismatch(what: str, names: Sequence[str], others: dict[str, int]) -> InvalidDataset:
    near = []
    for name in names:
        close = difflib.get_close_matches(_plain(name), others, n=1, cutoff=0.6)
        near += [f"{name!r} and {close[0]!r}"] if close else []
    hint = "name the classes alike"
    hint += f" (perhaps the same: {some(near)})" if near else ""
    return InvalidDataset(
        f"{what}: {some([repr(name) for name in names])}",
        hint=f"{hint}, or measure on what both know with --unmatched ignore",
    )


def some(names: Sequence[str], limit: int = 5) -> str:
    """The first few of a list, and how many more there are."""
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
