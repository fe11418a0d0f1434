"""Labels as COCO's ``instances_*.json`` has them.

Format: https://cocodataset.org/#format-data, "Object Detection".

A folder holds either one such file, or one for each split. Those are looked for where COCO itself
(``annotations/instances_val2017.json``) and Roboflow (``valid/_annotations.coco.json``) put them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from seatrial.errors import InvalidDataset
from seatrial.lifecycle.data.labelled import Category, LabelledImage, LabelledSet, Truth, some

# Where the JSON lies when it is not named: this project's, FiftyOne's and Roboflow's habits.
USUAL_NAMES = ("instances.json", "labels.json", "annotations.json", "_annotations.coco.json")
PREFIX = "instances_"
SPLIT_NAMES = (
    "annotations/instances_{0}.json",
    "annotations/instances_{0}2017.json",
    "{0}/_annotations.coco.json",
)
SPLIT_SYNONYMS = {"val": ("val", "valid")}


class _Image(msgspec.Struct, frozen=True, gc=False):
    id: int
    file_name: str
    width: int | None = None
    height: int | None = None


class _Annotation(msgspec.Struct, frozen=True, gc=False):
    # The outline, the bulk of the file, is not named here and so never built.
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    id: int | None = None
    area: float | None = None
    iscrowd: int | bool = 0


class _Category(msgspec.Struct, frozen=True, gc=False):
    id: int
    name: str


class _Instances(msgspec.Struct, frozen=True):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def read(folder: Path, annotations: Path | None, split: str) -> LabelledSet:
    """See `seatrial.lifecycle.data.labelled.Reader`.

    Pictures are looked for in the folder, in its folder ``images``, and in the folders of the
    split in both; beside the annotation file too.
    """
    path = annotations or _usual(folder, split)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidDataset(
            f"the annotation file {path} cannot be read: {error.strerror}",
            hint="--annotations FILE, for example instances_val2017.json",
        ) from error
    try:
        found = msgspec.json.decode(data, type=_Instances)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidDataset(
            f"{path} is not a COCO annotation file for boxes: {error}",
            hint="it needs images, categories, and annotations with image_id, category_id, bbox",
        ) from error
    _check(found, path)
    categories = sorted(found.categories, key=lambda category: category.id)
    images = sorted(found.images, key=lambda image: image.id)
    homes = _homes(folder, path)
    return LabelledSet(
        source=f"coco:{folder} {path.name}",
        images=tuple(
            LabelledImage(i.id, i.file_name, _locate(homes, i.file_name), i.width, i.height)
            for i in images
        ),
        categories=tuple(Category(c.id, c.name) for c in categories),
        truth=_truth(found.annotations, images, categories),
    )


def _usual(folder: Path, split: str) -> Path:
    names = [name.format(s) for s in SPLIT_SYNONYMS.get(split, (split,)) for name in SPLIT_NAMES]
    names += USUAL_NAMES
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise InvalidDataset(
            f"no annotation file named, and none of {', '.join(USUAL_NAMES)} is in {folder}, "
            f"and no {names[0]}",
            hint="--annotations FILE, for example instances_val2017.json",
        )
    return found


def _homes(folder: Path, annotations: Path) -> list[Path]:
    """Folders that pictures may be named from, the likeliest first."""
    split = annotations.stem.removeprefix(PREFIX)
    inside = [folder, folder / "images", folder / "images" / split, folder / split]
    return [home for home in dict.fromkeys([*inside, annotations.parent]) if home.is_dir()]


def _locate(homes: Sequence[Path], name: str) -> Path:
    found = (home / name for home in homes if (home / name).is_file())
    return next(found, homes[0] / name)


def _check(found: _Instances, path: Path) -> None:
    """See that ids are unique, that they refer to something, and that boxes are boxes."""
    for what, ids in (
        ("image", [image.id for image in found.images]),
        ("category", [category.id for category in found.categories]),
        ("annotation", [a.id for a in found.annotations if a.id is not None]),
    ):
        twice = [str(i) for i, count in Counter(ids).items() if count > 1]
        if twice:
            raise InvalidDataset(f"{path}: {what} ids are used more than once: {some(twice)}")
    if not found.annotations:
        raise InvalidDataset(
            f"{path} has no annotations: nothing to measure against",
            hint="COCO's image_info_test files come without labels; use instances_val2017.json",
        )
    images = {image.id for image in found.images}
    categories = {category.id for category in found.categories}
    for what, known, used in (
        ("images", images, {a.image_id for a in found.annotations}),
        ("categories", categories, {a.category_id for a in found.annotations}),
    ):
        lost = sorted(used - known)
        if lost:
            raise InvalidDataset(
                f"{path}: annotations refer to {len(lost)} {what} that the file does not list: "
                f"{some([str(i) for i in lost])}",
                hint="the file was cut or merged badly; export it again",
            )
    for row in found.annotations:
        if min(row.bbox[2:]) < 0 or not all(map(math.isfinite, row.bbox)):
            raise InvalidDataset(
                f"{path}: annotation {row.id} of image {row.image_id} has the box "
                f"{list(row.bbox)}; COCO's are [left, top, width, height]"
            )


def _truth(
    rows: Sequence[_Annotation], images: Sequence[_Image], categories: Sequence[_Category]
) -> Truth:
    image_index = {image.id: index for index, image in enumerate(images)}
    category_index = {category.id: index for index, category in enumerate(categories)}
    return Truth(
        image=np.array([image_index[row.image_id] for row in rows], np.int64),
        category=np.array([category_index[row.category_id] for row in rows], np.int64),
        xywh=np.array([row.bbox for row in rows], np.float64).reshape(-1, 4),
        area=np.array(
            [row.bbox[2] * row.bbox[3] if row.area is None else row.area for row in rows],
            np.float64,
        ),
        crowd=np.array([bool(row.iscrowd) for row in rows], np.bool_),
    )


def encode(labelled: LabelledSet, info: Mapping[str, Any]) -> bytes:
    """The annotation file of a set.

    Args:
        labelled: Its pictures have sizes.
        info: What the file says of itself.
    """
    truth = labelled.truth
    document = {
        "info": info,
        "images": [
            {"id": i.id, "file_name": i.name, "width": i.width, "height": i.height}
            for i in labelled.images
        ],
        "annotations": [
            {
                "id": number,
                "image_id": labelled.images[image].id,
                "category_id": labelled.categories[category].id,
                "bbox": box,
                "area": area,
                "iscrowd": int(crowd),
            }
            for number, (image, category, box, area, crowd) in enumerate(
                zip(
                    truth.image.tolist(),
                    truth.category.tolist(),
                    truth.xywh.tolist(),
                    truth.area.tolist(),
                    truth.crowd.tolist(),
                    strict=True,
                ),
                1,  # pycocotools takes an annotation with the id 0 for none
            )
        ],
        "categories": [{"id": c.id, "name": c.name} for c in labelled.categories],
    }
    return msgspec.json.encode(document) + b"\n"
