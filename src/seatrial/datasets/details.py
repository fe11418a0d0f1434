"""Labels beyond boxes, in a file beside the labels of a format that has no place for them.

YOLO has no crowds, and neither YOLO nor Pascal VOC has outlines, nor their areas, by which COCO
counts an object as small, medium or large. ``details.json`` keeps them; reading the folder puts
them back, so the figures of a converted set are those of the original. Other tools do not read it.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.config import UNDECODABLE, readable
from seatrial.datasets import voc
from seatrial.datasets.coco_files import DETAILS_FILE
from seatrial.datasets.labels import WHOLE, Details, LabelledSet, Truth
from seatrial.errors import InvalidDataset
from seatrial.report.numbers import counted, noun

FORMAT = "seatrial details 1"
# Keys of COCO that every format has a place for.
STRUCTURE = frozenset(
    {"annotations", "area", "bbox", "categories", "category_id", "file_name", "height", "id",
     "image_id", "images", "iscrowd", "width"}
)  # fmt: skip
KEPT = {"yolo": frozenset[str](), "voc": voc.KEPT}
TOLERANCE_PX = 0.01  # a box is that of a label if it is as near; labels are rounded to far less
NOTHING: tuple[Any, ...] = (None, "", [], {})  # values of keys that tools write for no value
CELL_PX = 4 * TOLERANCE_PX  # side of the cells in which objects are looked for
_Cell = tuple[int, ...]  # image, category, and the cell of a box
# Areas from which COCO counts an object as medium and as large, square pixels.
SIZES_PX = (32.0**2, 96.0**2)


class _Object(msgspec.Struct, frozen=True):
    """An object of which the labels do not say everything; the box tells which one it is."""

    category: str
    bbox: tuple[float, float, float, float]
    area: float
    crowd: bool
    keys: dict[str, Any]


class _Split(msgspec.Struct, frozen=True):
    """Labels of a split beyond boxes; images go by name."""

    file: dict[str, Any]
    categories: list[dict[str, Any]]
    images: dict[str, dict[str, Any]]
    objects: dict[str, list[_Object]]


class _Content(msgspec.Struct, frozen=True):
    format: str
    splits: dict[str, _Split]


def write(folder: Path, sets: Mapping[str, LabelledSet], kind: str) -> list[str]:
    """Write what the labels of a folder do not say; nothing where they say everything.

    Args:
        folder: Folder with the labels of the sets.
        sets: Split, or `WHOLE`, -> its set.
        kind: Format of the labels.

    Returns:
        What the file keeps, and what that means for other tools, one sentence each.
    """
    if kind == "coco":
        return []
    # YOLO has no set without a split.
    found = {
        split or ("train" if kind == "yolo" else WHOLE): _beyond(labelled, kind)
        for split, labelled in sets.items()
    }
    if not any(one.file or one.images or one.objects for one in found.values()):
        return []
    content = msgspec.json.encode(_Content(FORMAT, found))
    (folder / DETAILS_FILE).write_bytes(content + b"\n")
    return list(_notes(found, list(sets.values()), kind))


def _beyond(labelled: LabelledSet, kind: str) -> _Split:
    truth, details = labelled.truth, labelled.details
    known = STRUCTURE | KEPT[kind]
    objects: dict[str, list[_Object]] = defaultdict(list)
    for index, (image, category, box, area, crowd) in enumerate(
        zip(
            truth.image.tolist(),
            truth.category.tolist(),
            truth.xywh.tolist(),
            truth.area.tolist(),
            truth.crowd.tolist(),
            strict=True,
        )
    ):
        keys = details.objects[index] if details else {}
        more = any(value not in NOTHING for key, value in keys.items() if key not in known)
        of_box = box[2] * box[3]
        if more or (crowd and kind == "yolo") or abs(area - of_box) > 1e-6 * max(of_box, 1):
            own = {k: v for k, v in keys.items() if k not in STRUCTURE or k == "id"}
            name = labelled.categories[category].name
            objects[labelled.images[image].name].append(_Object(name, tuple(box), area, crowd, own))
    images = {
        image.name: own
        for image, keys in zip(labelled.images, details.images if details else (), strict=False)
        if (own := {k: v for k, v in keys.items() if k not in known and v not in NOTHING})
    }
    file = details.file if details else {}
    own_file = {k: v for k, v in file.items() if k not in STRUCTURE and v not in NOTHING}
    return _Split(own_file, file.get("categories", []), images, dict(objects))


def _notes(found: Mapping[str, _Split], sets: list[LabelledSet], kind: str) -> Iterator[str]:
    rows = [row for one in found.values() for own in one.objects.values() for row in own]
    outlines = sum(bool(row.keys.get("segmentation")) for row in rows)
    crowds = sum(row.crowd for row in rows) if kind == "yolo" else 0
    places = [one.file for one in found.values()]
    places += [keys for one in found.values() for keys in one.images.values()]
    keys = dict.fromkeys(key for place in (*places, *(r.keys for r in rows)) for key in place)
    keys = {key: None for key in keys if key not in {"id", "segmentation"} | KEPT[kind]}
    parts = [counted(outlines, "outline")] if outlines else []
    hidden = counted(crowds, "crowd or difficult object", "crowds or difficult objects")
    parts += [hidden] if crowds else []
    parts += [", ".join(keys)] if keys else []
    areas = sum(abs(row.area - row.bbox[2] * row.bbox[3]) > 1e-6 * max(row.area, 1) for row in rows)
    parts += [counted(areas, "area")] if areas else []
    yield (
        f"{DETAILS_FILE} keeps what {kind.upper()} has no place for, and seatrial reads it back: "
        f"{'; '.join(parts)}"
    )
    if crowds:
        yield f"for other tools {hidden} {noun(crowds, 'is', 'are')} background"
    truths = [labelled.truth for labelled in sets]
    moved = sum(
        int((_size_class(t.area) != _size_class(t.xywh[:, 2] * t.xywh[:, 3])).sum()) for t in truths
    )
    if moved:
        yield (
            f"for other tools an object is as large as its box: {moved} of "
            f"{sum(map(len, truths))} {noun(moved, 'changes', 'change')} between small, medium "
            "and large, which moves AP by size"
        )


def _size_class(area: NDArray[np.float64]) -> NDArray[np.intp]:
    return np.searchsorted(SIZES_PX, area)


def restored(found: LabelledSet, folder: Path, split: str, kind: str) -> LabelledSet:
    """The set with what ``details.json`` of its folder says beyond the labels.

    Objects that were moved, renamed or removed since are left out, and counted in a note.

    Args:
        found: The set as its labels say it; with or without details.
        folder: Folder of the dataset.
        split: Name of the set, where there are several.
        kind: Format of the labels.

    Raises:
        InvalidDataset: The file is damaged.
    """
    content = None if kind == "coco" else _content(folder / DETAILS_FILE)
    if content is None:
        return found
    own = content.splits.get(split) or content.splits.get(WHOLE)
    if own is None:
        return found
    truth = found.truth
    area = truth.area.copy()
    keys: dict[int, dict[str, Any]] = {}
    missing: list[tuple[int, int, _Object]] = []  # image, category, crowd that has no label
    stale = 0
    numbers = {category.name: number for number, category in enumerate(found.categories)}
    free: dict[_Cell, list[int]] = defaultdict(list)  # objects in reverse order
    rows = zip(truth.image.tolist(), truth.category.tolist(), truth.xywh.tolist(), strict=True)
    for index, (image, category, box) in reversed(list(enumerate(rows))):
        free[image, category, *(math.floor(value / CELL_PX) for value in box)].append(index)
    images = {image.name: number for number, image in enumerate(found.images)}
    for name, kept in own.objects.items():
        image = images.get(name, -1)
        for row in kept:
            category = numbers.get(row.category, -1)
            index = _taken(free, (image, category), row.bbox, truth.xywh)
            if index >= 0:
                area[index], keys[index] = row.area, row.keys
            elif row.crowd and kind == "yolo" and min(image, category) >= 0:
                missing.append((image, category, row))
            else:
                stale += 1
    gone = f"{counted(stale, 'object')} {noun(stale, 'is', 'are')} not in the labels any more"
    notes = [f"{DETAILS_FILE}: {gone}"] if stale else []
    return replace(
        found,
        truth=_with_crowds(replace(truth, area=area), missing),
        notes=(*found.notes, *notes),
        details=found.details
        and _merged(found, found.details, own, keys, [row for *_, row in missing]),
    )


def _content(path: Path) -> _Content | None:
    """The file; None where there is none, or one of another tool."""
    if not path.is_file():
        return None
    try:
        data = path.read_bytes()
        return msgspec.json.decode(data, type=_Content) if FORMAT.encode() in data else None
    except (OSError, *UNDECODABLE) as error:
        raise InvalidDataset(
            f"{path} cannot be read: {readable(error, _Content)}",
            hint="convert again, or remove the file: areas and outlines are lost then",
        ) from error


def _taken(
    free: dict[_Cell, list[int]],
    own: tuple[int, int],
    box: Sequence[float],
    xywh: NDArray[np.float64],
) -> int:
    """The first free object of an image and a category that a box is of; -1 for none.

    Objects lie in cells wider than the tolerance to both sides, so that of a box is in one of 16
    cells: an image can have thousands of objects.
    """
    low, high = (
        [math.floor((v + t) / CELL_PX) for v in box] for t in (-TOLERANCE_PX, TOLERANCE_PX)
    )
    near: list[tuple[int, list[int]]] = []
    for place in itertools.product(*map(set, zip(low, high, strict=True))):
        cell = free.get((*own, *place), [])
        fits = (i for i in reversed(cell) if np.abs(xywh[i] - box).max() <= TOLERANCE_PX)
        near += [(index, cell) for index in itertools.islice(fits, 1)]
    if not near:
        return -1
    index, cell = min(near)
    cell.remove(index)
    return index


def _with_crowds(truth: Truth, missing: list[tuple[int, int, _Object]]) -> Truth:
    """The objects, and crowds that have no label of their own: their mark is 0."""
    if not missing:
        return truth
    return Truth(
        image=np.append(truth.image, [image for image, *_ in missing]),
        category=np.append(truth.category, [category for _, category, _ in missing]),
        xywh=np.vstack([truth.xywh, [row.bbox for *_, row in missing]]),
        area=np.append(truth.area, [row.area for *_, row in missing]),
        crowd=np.append(truth.crowd, [True] * len(missing)),
        mark=np.append(truth.mark, [0] * len(missing)),
    )


def _merged(
    found: LabelledSet,
    details: Details,
    own: _Split,
    keys: Mapping[int, dict[str, Any]],
    missing: list[_Object],
) -> Details:
    """Details of the labels, and of the file where it has more."""
    ids = {category.name: category.id for category in found.categories}
    # Categories have other numbers in the labels.
    named = ((row.get("name"), row) for row in own.categories)
    rows = [{**row, "id": ids[n]} for n, row in named if isinstance(n, str) and n in ids]
    return Details(
        images=tuple(
            {**own.images.get(image.name, {}), **row}
            for image, row in zip(found.images, details.images, strict=True)
        ),
        objects=(
            *({**keys.get(i, {}), **row} for i, row in enumerate(details.objects)),
            *(row.keys for row in missing),
        ),
        file={**own.file, **({"categories": rows} if rows else {}), **details.file},
    )
