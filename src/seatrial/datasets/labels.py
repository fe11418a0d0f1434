"""Labelled images: the arrays that every format is read into, and class names compared."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from seatrial.errors import InvalidDataset
from seatrial.system.text import plain

SPLITS = ("train", "val", "test")
WHOLE = ""  # the name of the one set of a folder without splits
# Names that tools give to the splits.
_SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val", "devel": "val",
    "development": "val", "eval": "val", "evaluation": "val",
    "test": "test", "testing": "test", "test-dev": "test", "testdev": "test",
}  # fmt: skip
_YEAR = re.compile(r"[-_ ]?(?:19|20)\d\d")  # COCO and Pascal VOC write it behind: val2017
MOST_PX = 2**31 - 1  # of a side of an image, or of a number of a box
COMPARED = 20_000  # pairs of names that are compared to find the nearest
# Names with which models fill gaps in their class numbers; they are never detected.
PLACEHOLDERS = frozenset({"", "n/a", "background"})

Unmatched = Literal["error", "ignore"]


class Category(msgspec.Struct, frozen=True):
    """A class of objects.

    Attributes:
        id: Number in the dataset.
        name: Name of the class.
    """

    id: int
    name: str


class LabelledImage(msgspec.Struct, frozen=True):
    """One image.

    Attributes:
        id: Number in the dataset.
        name: Name in the dataset.
        path: The file.
        width: Upright width, pixels; None where the labels do not say it.
        height: Upright height, pixels; None where the labels do not say it.
        labels: File with the labels, which is that of all images for COCO. None where there is no
            file.
        measured: Whether the size was read from the file, and not from the labels.
    """

    id: int
    name: str
    path: Path
    width: int | None
    height: int | None
    labels: Path | None = None
    measured: bool = False


@dataclass(frozen=True, slots=True)
class Truth:
    """The labelled objects, in the order of the labels.

    Attributes:
        image: (G,) int64, index into the set's images.
        category: (G,) int64, index into the set's categories.
        xywh: (G, 4) float64: left, top, width, height, pixels of the upright source image.
        area: (G,) float64, square pixels; in COCO's files the area of the outline, not of the box.
        crowd: (G,) bool: a region of many objects, or an object that is difficult to see (VOC). A
            detection there counts neither as right nor as wrong.
        mark: (G,) int64, place of the label: the annotation's id (COCO), the line (YOLO, VOC); 0
            for a crowd of ``details.json``.
    """

    image: NDArray[np.int64]
    category: NDArray[np.int64]
    xywh: NDArray[np.float64]
    area: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    mark: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.image)

    @classmethod
    def of(
        cls,
        image: ArrayLike,
        category: ArrayLike,
        xywh: ArrayLike,
        *,
        area: ArrayLike | None = None,
        crowd: ArrayLike | None = None,
        mark: ArrayLike | None = None,
    ) -> Truth:
        """Objects from any sequences of numbers.

        By default the area is that of the box, no object is a crowd, and marks count from 1.
        """
        boxes = np.asarray(xywh, np.float64).reshape(-1, 4)
        count = len(boxes)
        return cls(
            image=np.asarray(image, np.int64),
            category=np.asarray(category, np.int64),
            xywh=boxes,
            area=boxes[:, 2] * boxes[:, 3] if area is None else np.asarray(area, np.float64),
            crowd=np.zeros(count, np.bool_) if crowd is None else np.asarray(crowd, np.bool_),
            mark=np.arange(1, count + 1) if mark is None else np.asarray(mark, np.int64),
        )

    def take(self, kept: NDArray[np.intp]) -> Truth:
        """The objects of some indices."""
        return Truth(
            image=self.image[kept],
            category=self.category[kept],
            xywh=self.xywh[kept],
            area=self.area[kept],
            crowd=self.crowd[kept],
            mark=self.mark[kept],
        )


@dataclass(frozen=True, slots=True)
class Details:
    """Facts of labels beyond boxes, by COCO's keys; kept so that they can be written again.

    Attributes:
        images: Keys of each image.
        objects: Keys of each object; ``segmentation`` is an outline: a list of polygons
            ``[x1, y1, x2, y2, ...]`` in pixels, or COCO's run lengths.
        file: Keys of the file, for example ``licenses``.
    """

    images: tuple[dict[str, Any], ...]
    objects: tuple[dict[str, Any], ...]
    file: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Images and the objects in them.

    Attributes:
        source: Name of what was read, for messages.
        images: All images by ascending id, also those without an object.
        categories: The classes by ascending id.
        truth: The objects.
        skipped: Names of images that the labels name and that are not there.
        notes: What was mended while reading, one sentence each.
        details: What labels say beyond boxes; None unless it was asked for.
    """

    source: str
    images: tuple[LabelledImage, ...]
    categories: tuple[Category, ...]
    truth: Truth
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    details: Details | None = None

    def files(self) -> Iterator[Path]:
        """The files of images and labels."""
        for image in self.images:
            yield image.path
            if image.labels is not None:
                yield image.labels

    def select(self, images: NDArray[np.bool_], objects: NDArray[np.bool_]) -> LabelledSet:
        """The set with fewer images and objects.

        Args:
            images: (len(self.images),) bool, the images that stay.
            objects: (len(self.truth),) bool, the objects that stay if their image does.
        """
        objects = objects & images[self.truth.image]
        kept = self.truth.take(np.flatnonzero(objects))
        number = np.cumsum(images) - 1
        details = self.details
        if details is not None:
            details = Details(
                tuple(itertools.compress(details.images, images)),
                tuple(itertools.compress(details.objects, objects)),
                details.file,
            )
        return replace(
            self,
            images=tuple(itertools.compress(self.images, images)),
            truth=replace(kept, image=number[kept.image].astype(np.int64)),
            details=details,
        )

    def counts(self) -> dict[str, int]:
        """Class name -> number of objects."""
        numbers = np.bincount(self.truth.category, minlength=len(self.categories))
        return {c.name: n for c, n in zip(self.categories, numbers.tolist(), strict=True)}

    def where(self, index: int) -> str:
        """File and place of an object's label, for a message."""
        image, mark = self.images[self.truth.image[index]], self.truth.mark[index]
        if image.labels is None or image.labels.suffix == ".json":
            return f"{image.labels or self.source}, annotation {mark} of {image.name}"
        return f"{image.labels}, line {mark}" if mark else f"{image.labels}, {image.name}"

    def digest(self, *, areas: bool = False) -> str:
        """sha256 over names, classes, boxes and crowds: equal digests mean the same labels.

        Args:
            areas: Whether areas count too, by which figures of small, medium and large objects
                differ. They do not by default: artifacts know by the digest what they were trained
                on, and the areas of the same labels differ with the tool that wrote them.
        """
        digest = hashlib.sha256()
        for image in self.images:
            digest.update(f"{image.id} {image.name}\0".encode("utf-8", "surrogateescape"))
        for category in self.categories:
            digest.update(f"{category.id} {category.name}\0".encode())
        for array in (self.truth.image, self.truth.category, self.truth.xywh, self.truth.crowd):
            digest.update(np.ascontiguousarray(array).tobytes())
        if areas:
            digest.update(self.truth.area.tobytes())
        return f"sha256:{digest.hexdigest()}"


def match_labels(
    labels: Sequence[str], dataset: LabelledSet, *, unmatched: Unmatched = "error"
) -> NDArray[np.int64]:
    """The category of each class of a model, by name; case does not count.

    Numbers would mislead: COCO's 80 classes have ids from 1 to 90.

    Args:
        labels: Class names of the model; the index is ``class_id``.
        dataset: The set with the categories.
        unmatched: What to do with classes that only one side has; ``ignore`` measures on the
            classes that both have, see `known_categories`.

    Returns:
        (len(labels),) int64 index into the dataset's categories, -1 for none.

    Raises:
        InvalidDataset: No name matches, two classes or categories have the same name, or (unless
            ignored) one side has a class that the other one has not.
    """
    index = _by_name([category.name for category in dataset.categories], "categories")
    own = _by_name([x for x in labels if plain(x) not in PLACEHOLDERS], "labels of the model")
    matched = np.array([index.get(plain(label), -1) for label in labels], np.int64)
    matched[[plain(label) in PLACEHOLDERS for label in labels]] = -1
    strangers = [x for x in labels if plain(x) in own and plain(x) not in index]
    labelled = np.unique(dataset.truth.category)
    unknown = [dataset.categories[c].name for c in labelled if c not in set(matched.tolist())]
    if (matched < 0).all():
        what = "no label of the model is a category of the dataset"
        raise _mismatch(what, strangers, index, shared=False)
    if unmatched == "error" and unknown:
        raise _mismatch(
            "the dataset has objects of classes that the model does not have", unknown, own
        )
    if unmatched == "error" and strangers:
        raise _mismatch("the dataset does not have classes of the model", strangers, index)
    return matched


def known_categories(matched: NDArray[np.int64], dataset: LabelledSet) -> LabelledSet:
    """The set without objects of the classes that a model does not have."""
    kept = np.flatnonzero(np.isin(dataset.truth.category, matched))
    return replace(dataset, truth=dataset.truth.take(kept))


def split_named(name: str) -> str:
    """The one of `SPLITS` that a folder or key is named for: ``valid`` is val; empty for none.

    Args:
        name: The name in any case, perhaps with a year behind it: ``Validation``, ``val2017``.
    """
    plain_name = name.strip().casefold()
    year = _YEAR.fullmatch(plain_name[-5:]) or _YEAR.fullmatch(plain_name[-4:])
    bare = plain_name[: -len(year[0])] if year else plain_name
    return _SPLIT_NAMES.get(bare.replace("_", "-").replace(" ", "-"), "")


def folders_in(home: Path) -> list[Path]:
    """The folders in a folder, sorted; none where there is no such folder."""
    try:
        return sorted(home / entry.name for entry in os.scandir(home) if entry.is_dir())
    except OSError:
        return []


def only_one(paths: Sequence[Path], split: str) -> Path:
    """The only file or folder of a split.

    Raises:
        InvalidDataset: There are several, of which none can be left out without a word.
    """
    if len(paths) > 1:
        names = some([str(path) for path in paths])
        raise InvalidDataset(
            f"there are {len(paths)} places for the {split} set: {names}",
            hint="join them, or move all but one out of the dataset",
        )
    return paths[0]


def _by_name(names: Sequence[str], what: str) -> dict[str, int]:
    index: dict[str, int] = {}
    for number, name in enumerate(names):
        if plain(name) in index:
            raise InvalidDataset(f"two {what} are named {name!r}: they cannot be distinguished")
        index[plain(name)] = number
    return index


def _mismatch(
    what: str, names: Sequence[str], others: dict[str, int], *, shared: bool = True
) -> InvalidDataset:
    near = []
    # Names are compared letter by letter, one with all: more of them would take minutes.
    for name in names[: COMPARED // max(1, len(others))]:
        close = difflib.get_close_matches(plain(name), others, n=1, cutoff=0.6)
        near += [f"{name!r} and {close[0]!r}"] if close else []
    hint = "give the classes the same names"
    hint += f" (perhaps the same: {some(near)})" if near else ""
    hint += ", or measure on the classes that both have with --unmatched ignore" if shared else ""
    return InvalidDataset(f"{what}: {some([repr(name) for name in names])}", hint=hint)


def some(names: Sequence[str], limit: int = 5) -> str:
    """The first few names of a list, and the number of the others."""
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
