"""Labels in COCO's ``instances_*.json``.

Format: https://cocodataset.org/#format-data, "Object Detection".

A folder holds either one such file, or one for each split, at the places of COCO itself
(``annotations/instances_val2017.json``) or of Roboflow (``valid/_annotations.coco.json``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from seatrial.config import UNDECODABLE
from seatrial.datasets.issues import LabelIssue, OnIssue, refuse
from seatrial.datasets.labels import (
    SPLITS,
    Category,
    Details,
    LabelledImage,
    LabelledSet,
    Truth,
    some,
)
from seatrial.errors import InvalidDataset

# Names of the JSON file that this project, FiftyOne, others and Roboflow write.
USUAL_NAMES = ("instances.json", "labels.json", "annotations.json", "_annotations.coco.json")
PREFIX = "instances_"
SPLIT_NAMES = (
    "annotations/instances_{0}.json",
    "annotations/instances_{0}2017.json",
    "{0}/_annotations.coco.json",
)
SPLIT_SYNONYMS = {"val": ("val", "valid")}
SECTIONS = (b'"images"', b'"annotations"', b'"categories"')
_BYTE = re.compile(r"\(byte (\d+)\)")

Row = TypeVar("Row", "_Image", "_Annotation", "_Category")


class _Image(msgspec.Struct, frozen=True, gc=False):
    id: int
    file_name: str
    width: int | None = None
    height: int | None = None


class _Annotation(msgspec.Struct, frozen=True, gc=False):
    # Without the outline, which is the bulk of the file and is not decoded so.
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    id: int | None = None
    area: float | None = None
    iscrowd: int | bool = 0


class _Category(msgspec.Struct, frozen=True, gc=False):
    id: int
    name: str


class _Document(msgspec.Struct, frozen=True):
    """The file with its rows undecoded, so that a bad row does not spoil the others."""

    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[msgspec.Raw]


class _Named(msgspec.Struct, frozen=True):
    id: int


_KINDS: dict[str, type[Any]] = {"image": _Image, "annotation": _Annotation, "category": _Category}


def holds(folder: Path) -> bool:
    """See `seatrial.datasets.read.Format.holds`."""
    return bool(splits(folder, None)) or bool(_single(folder))


def splits(folder: Path, annotations: Path | None) -> tuple[str, ...]:
    """See `seatrial.datasets.read.Format.splits`."""
    if annotations is not None:
        return ()
    return tuple(split for split in SPLITS if _of_split(folder, split) is not None)


def read(
    folder: Path,
    annotations: Path | None,
    split: str,
    *,
    on_issue: OnIssue = refuse,
    details: bool = False,
) -> LabelledSet:
    """See `seatrial.datasets.read.Format.read`.

    Images are looked for in the folder, in its folder ``images``, in the folders of the split in
    both, and beside the annotation file.
    """
    path = annotations or _usual(folder, split)
    document = _document(path)
    categories = sorted(_rows(document.categories, _Category, "category", path, on_issue), key=_id)
    images = sorted(_rows(document.images, _Image, "image", path, on_issue), key=_id)
    rows, kept = _annotations(document, images, categories, path, on_issue)
    image_index = {image.id: index for index, image in enumerate(images)}
    category_index = {category.id: index for index, category in enumerate(categories)}
    homes = _homes(folder, path)
    return LabelledSet(
        source=f"coco:{folder} {path.name}",
        images=tuple(
            LabelledImage(i.id, i.file_name, _locate(homes, i.file_name), i.width, i.height, path)
            for i in images
        ),
        categories=tuple(Category(c.id, c.name) for c in categories),
        truth=Truth.of(
            [image_index[row.image_id] for row in rows],
            [category_index[row.category_id] for row in rows],
            [row.bbox for row in rows],
            area=[row.bbox[2] * row.bbox[3] if row.area is None else row.area for row in rows],
            crowd=[bool(row.iscrowd) for row in rows],
            mark=[
                number + 1 if row.id is None else row.id
                for row, number in zip(rows, kept, strict=True)
            ],
        ),
        details=_details(path, images, kept) if details else None,
    )


def _of_split(folder: Path, split: str) -> Path | None:
    names = [name.format(s) for s in SPLIT_SYNONYMS.get(split, (split,)) for name in SPLIT_NAMES]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _single(folder: Path) -> list[Path]:
    """The file with a usual name; without one, every file that has COCO's sections."""
    usual = [folder / name for name in USUAL_NAMES if (folder / name).is_file()]
    if usual:
        return usual[:1]
    found = [*folder.glob("*.json"), *(folder / "annotations").glob("*.json")]
    return [
        path
        for path in sorted(found)
        if path.is_file() and all(section in path.read_bytes() for section in SECTIONS)
    ]


def _usual(folder: Path, split: str) -> Path:
    found = _of_split(folder, split)
    if found is not None:
        return found
    single = _single(folder)
    if len(single) == 1:
        return single[0]
    hint = "--annotations FILE, for example instances_val2017.json"
    if single:
        names = some([str(path.relative_to(folder)) for path in single])
        raise InvalidDataset(f"{folder} has several annotation files: {names}", hint=hint)
    raise InvalidDataset(
        f"no annotation file named, and none of {', '.join(USUAL_NAMES)} is in {folder}, "
        f"and no {SPLIT_NAMES[0].format(split)}",
        hint=hint,
    )


def _homes(folder: Path, annotations: Path) -> list[Path]:
    """Folders that image names can be relative to, the likeliest first."""
    split = annotations.stem.removeprefix(PREFIX)
    inside = [folder, folder / "images", folder / "images" / split, folder / split]
    return [home for home in dict.fromkeys([*inside, annotations.parent]) if home.is_dir()]


def _locate(homes: Sequence[Path], name: str) -> Path:
    found = (home / name for home in homes if (home / name).is_file())
    return next(found, homes[0] / name)


def _document(path: Path) -> _Document:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidDataset(
            f"the annotation file {path} cannot be read: {error.strerror}",
            hint="--annotations FILE, for example instances_val2017.json",
        ) from error
    try:
        return msgspec.json.decode(data, type=_Document)
    except UNDECODABLE as error:
        place = _BYTE.search(str(error))  # without a place, the file is cut off
        line = f", line {data[: int(place[1]) if place else len(data)].count(10) + 1}"
        if isinstance(error, msgspec.ValidationError):  # valid JSON of something else
            line = ""
        raise InvalidDataset(
            f"{path}{line}: not a COCO annotation file for boxes: {error}",
            hint="it needs images, categories, and annotations with image_id, category_id, bbox",
        ) from error


def _id(row: _Image | _Category) -> int:
    return row.id


def _rows(
    raw: Sequence[msgspec.Raw], kind: type[Row], what: str, path: Path, on_issue: OnIssue
) -> list[Row]:
    """The usable rows of a section, one for each id."""
    decoder = msgspec.json.Decoder(kind)
    found: dict[int, Row] = {}
    for number, item in enumerate(raw, 1):
        try:
            row = decoder.decode(item)
        except UNDECODABLE as error:
            on_issue(LabelIssue("labels-unreadable", _place(path, what, item, number), str(error)))
            continue
        own = number if row.id is None else row.id
        if own in found:
            on_issue(LabelIssue("id-twice", f"{path}, {what} {own}", f"the id {own} is used twice"))
        found.setdefault(own, row)
    return list(found.values())


def _place(path: Path, what: str, item: msgspec.Raw, number: int) -> str:
    try:
        return f"{path}, {what} {msgspec.json.decode(item, type=_Named).id}"
    except UNDECODABLE:
        return f"{path}, {what} number {number} in the list"


def _annotations(
    document: _Document,
    images: Sequence[_Image],
    categories: Sequence[_Category],
    path: Path,
    on_issue: OnIssue,
) -> tuple[list[_Annotation], list[int]]:
    """The usable annotations, and their indices in the file."""
    if not document.annotations:
        on_issue(
            LabelIssue(
                "no-labels",
                str(path),
                "has no annotations (COCO's image_info_test files come without labels)",
            )
        )
    known = {image.id: image.file_name for image in images}
    classes = {category.id for category in categories}
    decoder = msgspec.json.Decoder(_Annotation)
    ids: set[int] = set()
    rows, kept = [], []
    for number, item in enumerate(document.annotations):
        try:
            row = decoder.decode(item)
        except UNDECODABLE as error:
            place = _place(path, "annotation", item, number + 1)
            on_issue(LabelIssue("labels-unreadable", place, str(error)))
            continue
        fault = _fault(row, known, classes)
        if fault is not None:
            where = f"{path}, annotation {number + 1 if row.id is None else row.id}"
            on_issue(LabelIssue(fault[0], where, fault[1]))
            continue
        if row.id is not None and row.id in ids:
            where = f"{path}, annotation {row.id}"
            on_issue(LabelIssue("id-twice", where, "two annotations have this id"))
        ids.add(-1 if row.id is None else row.id)
        rows.append(row)
        kept.append(number)
    return rows, kept


def _fault(
    row: _Annotation, images: Mapping[int, str], classes: set[int]
) -> tuple[str, str] | None:
    """Kind of issue and message, if the annotation cannot be used."""
    if row.image_id not in images:
        return "orphaned-labels", f"refers to image {row.image_id}, which the file does not list"
    name = images[row.image_id]
    if row.category_id not in classes:
        return "unknown-class", (
            f"has category {row.category_id}, which the file does not list (image {name})"
        )
    if not all(map(math.isfinite, row.bbox)):
        return "labels-unreadable", f"box {list(row.bbox)} has no numbers (image {name})"
    if min(row.bbox[2:]) < 0:
        return "box-empty", (
            f"box {list(row.bbox)} of {name} has a negative side; COCO's boxes are "
            "[left, top, width, height]"
        )
    return None


def _details(path: Path, images: Sequence[_Image], kept: Sequence[int]) -> Details:
    """All keys of the file, so that it can be written as it was."""
    whole = msgspec.json.decode(path.read_bytes())
    by_id: dict[Any, dict[str, Any]] = {}
    for item in whole.pop("images"):
        by_id.setdefault(item.get("id"), item)
    annotations = whole.pop("annotations")
    return Details(
        images=tuple(by_id[image.id] for image in images),
        objects=tuple(annotations[number] for number in kept),
        file=whole,
    )


def write(folder: Path, sets: Mapping[str, LabelledSet]) -> list[str]:
    """See `seatrial.datasets.read.Format.write`."""
    for split, labelled in sets.items():
        file = (
            folder / "annotations" / f"{PREFIX}{split}.json" if split else folder / USUAL_NAMES[0]
        )
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(encode(labelled))
    return []


def encode(labelled: LabelledSet, info: Mapping[str, Any] | None = None) -> bytes:
    """The annotation file of a set, with all keys of its details.

    Args:
        labelled: The set; its images have sizes.
        info: COCO's section ``info``.
    """
    truth, details = labelled.truth, labelled.details
    of_images = details.images if details else ({},) * len(labelled.images)
    of_objects = details.objects if details else ({},) * len(truth)
    of_file = dict(details.file) if details else {}
    of_categories = {row.get("id"): row for row in of_file.pop("categories", [])}
    document = {
        **of_file,
        **({"info": info} if info else {}),
        "images": [
            {**extra, "id": i.id, "file_name": i.name, "width": i.width, "height": i.height}
            for i, extra in zip(labelled.images, of_images, strict=True)
        ],
        "annotations": [
            {
                "id": number,  # not 0: pycocotools takes an annotation with the id 0 for none
                **extra,
                "iscrowd": int(crowd),
                "area": area,
                "image_id": labelled.images[image].id,
                "category_id": labelled.categories[category].id,
                "bbox": box,
            }
            for number, (image, category, box, area, crowd, extra) in enumerate(
                zip(
                    truth.image.tolist(),
                    truth.category.tolist(),
                    truth.xywh.tolist(),
                    truth.area.tolist(),
                    truth.crowd.tolist(),
                    of_objects,
                    strict=True,
                ),
                1,
            )
        ],
        "categories": [
            {**of_categories.get(c.id, {}), "id": c.id, "name": c.name} for c in labelled.categories
        ],
    }
    return msgspec.json.encode(document) + b"\n"
