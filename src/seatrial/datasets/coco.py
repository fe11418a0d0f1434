"""Labels in COCO's ``instances_*.json``.

Format: https://cocodataset.org/#format-data, "Object Detection".

A folder holds one such file or one for each split: `seatrial.datasets.coco_files` finds them.
Their rows are read by `seatrial.datasets.coco_rows`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from seatrial.datasets.coco_files import (
    PREFIX,
    USUAL_NAMES,
    annotation_file,
    by_split,
    image_homes,
    single,
    unused_files,
)
from seatrial.datasets.coco_rows import (
    DIGITS,
    CategoryRow,
    ImageRow,
    Key,
    area_of,
    id_key,
    is_crowd,
    is_rotated,
    mark_of,
    numbers_of,
    read_document,
    usable_annotations,
    usable_rows,
)
from seatrial.datasets.issues import OnIssue, refuse
from seatrial.datasets.labels import (
    SPLITS,
    Category,
    Details,
    LabelledImage,
    LabelledSet,
    Truth,
)
from seatrial.datasets.locate import Locator


def holds(folder: Path) -> bool:
    """See `seatrial.datasets.read.Format.holds`."""
    return bool(splits(folder, None)) or bool(single(folder))


def splits(folder: Path, annotations: Path | None) -> tuple[str, ...]:
    """See `seatrial.datasets.read.Format.splits`."""
    if annotations is not None:
        return ()
    return tuple(split for split in SPLITS if split in by_split(folder))


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
    path = annotations or annotation_file(folder, split)
    document, data, notes = read_document(path)
    categories = usable_rows(document.categories, CategoryRow, "category", path, on_issue)
    images = usable_rows(document.images, ImageRow, "image", path, on_issue)
    image_ids, category_ids = numbers_of(images), numbers_of(categories)
    for what, ids in (("image", image_ids), ("category", category_ids)):
        if any(key != number for key, number in ids.items()):
            notes.append(f"{what} ids that are text, or over 64 bits, were numbered from 1")
    images = dict(sorted(images.items(), key=lambda item: image_ids[item[0]]))
    categories = dict(sorted(categories.items(), key=lambda item: category_ids[item[0]]))
    rows, kept = usable_annotations(document, images, categories, path, on_issue)
    image_index = {key: index for index, key in enumerate(images)}
    category_index = {key: index for index, key in enumerate(categories)}
    locator = Locator(image_homes(folder, path))
    areas = [area_of(row) for row in rows]
    pairs = zip(rows, areas, strict=True)
    if unknown := sum(area is None and row.area is not None for row, area in pairs):
        notes.append(f"areas that are not numbers, for which those of boxes count: {unknown}")
    pairs = zip(rows, areas, strict=True)
    if empty := sum(area == 0 and min(row.bbox[2:]) > 0 for row, area in pairs):
        notes.append(f"objects of area 0, which count as small whatever their box is: {empty}")
    if turned := sum(map(is_rotated, rows)):
        notes.append(
            f"boxes that CVAT turned about their centre, read as they were before: {turned}"
        )
    return LabelledSet(
        source=f"coco:{folder} {path.name}",
        images=tuple(
            LabelledImage(
                image_ids[key],
                i.file_name,
                locator.find(i.file_name),
                int(i.width) if i.width else None,
                int(i.height) if i.height else None,
                path,
            )
            for key, i in images.items()
        ),
        categories=tuple(Category(category_ids[key], c.name) for key, c in categories.items()),
        truth=Truth.of(
            [image_index[id_key(row.image_id)] for row in rows],
            [category_index[id_key(row.category_id)] for row in rows],
            [row.bbox for row in rows],
            area=[
                row.bbox[2] * row.bbox[3] if area is None else area
                for row, area in zip(rows, areas, strict=True)
            ],
            crowd=[is_crowd(row) for row in rows],
            mark=[mark_of(row, number + 1) for row, number in zip(rows, kept, strict=True)],
        ),
        notes=tuple(notes),
        details=_details(data, images, category_ids, kept) if details else None,
    )


def left_out(folder: Path, sets: Mapping[str, LabelledSet]) -> list[Path]:
    """See `seatrial.datasets.read.Format.left_out`."""
    return unused_files(folder)


def _details(
    data: bytes, images: Mapping[Key, ImageRow], categories: Mapping[Key, int], kept: Sequence[int]
) -> Details:
    """All keys of the file, so that it can be written as it was."""
    try:
        whole = msgspec.json.decode(data)
    except msgspec.ValidationError:  # a number beyond float64, in a key that nothing uses
        whole = json.loads(data, parse_int=lambda text: int(text) if len(text) < DIGITS else text)
    by_id: dict[Key, dict[str, Any]] = {}
    for key, item in _by_key(whole.pop("images")):
        by_id.setdefault(key, item)
    annotations = whole.pop("annotations")
    rows = [
        {**item, "id": categories[key]}
        for key, item in _by_key(whole.pop("categories"))
        if key in categories
    ]
    return Details(
        images=tuple(by_id[key] for key in images),
        objects=tuple(annotations[number] for number in kept),
        file={**whole, "categories": rows},
    )


def _by_key(rows: Sequence[object]) -> Iterator[tuple[Key, dict[str, Any]]]:
    """The rows that are tables and have an id."""
    for row in rows:
        if isinstance(row, dict):
            with contextlib.suppress(ValueError):
                yield id_key(row.get("id")), row


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
    taken = {str(row["id"]) for row in of_objects if "id" in row}
    # Not 0: pycocotools takes an annotation with the id 0 for none.
    fresh = (number for number in itertools.count(1) if str(number) not in taken)
    document = {
        **of_file,
        **({"info": info} if info else {}),
        "images": [
            {**extra, "id": i.id, "file_name": i.name, "width": i.width, "height": i.height}
            for i, extra in zip(labelled.images, of_images, strict=True)
        ],
        "annotations": [
            {
                "id": extra["id"] if "id" in extra else next(fresh),
                **extra,
                "iscrowd": int(crowd),
                "area": area,
                "image_id": labelled.images[image].id,
                "category_id": labelled.categories[category].id,
                "bbox": box,
            }
            for image, category, box, area, crowd, extra in zip(
                truth.image.tolist(),
                truth.category.tolist(),
                truth.xywh.tolist(),
                truth.area.tolist(),
                truth.crowd.tolist(),
                of_objects,
                strict=True,
            )
        ],
        "categories": [
            {**of_categories.get(c.id, {}), "id": c.id, "name": c.name} for c in labelled.categories
        ],
    }
    return msgspec.json.encode(document) + b"\n"
