"""Labels in Pascal VOC's format: an XML file for each image.

Format: "The PASCAL Visual Object Classes Challenge 2012 (VOC2012) Development Kit", section 8.1.
The folder has ``Annotations/``, ``JPEGImages/`` and ``ImageSets/Main/train.txt``, or XML files and
images side by side, in one folder or in one for each split (Roboflow).

The kit counts pixels from 1 and includes the last: a box from 1 to the width spans a whole row.
Labelling tools often count from 0. If any box of a set begins at 0, the whole set is read so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, unescape

import numpy as np

from seatrial.datasets.issues import LabelIssue, OnIssue, refuse, size_or_issue
from seatrial.datasets.labels import (
    SPLITS,
    Category,
    Details,
    LabelledImage,
    LabelledSet,
    Truth,
)
from seatrial.datasets.voc_xml import CORNERS, Annotation, Element, parse
from seatrial.errors import InvalidDataset
from seatrial.system.images import SUFFIXES

ANNOTATIONS = ("Annotations", "annotations")
IMAGE_FOLDERS = ("JPEGImages", "images", "Images")
LISTS = Path("ImageSets") / "Main"
SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}
CLASS_FILES = ("labelmap.txt", "classes.txt")
ATTRIBUTES = ("pose", "truncated", "occluded")
KEPT = frozenset({*ATTRIBUTES, "segmented"})  # keys beyond boxes that are written
_NAME = re.compile(rb"<object>.*?<name>\s*(.*?)\s*</name>", re.DOTALL)
_FROM_ZERO = re.compile(rb"<[xy]min>\s*[-+]?0+(\.0*)?\s*</[xy]min>")


@dataclass(frozen=True, slots=True)
class _SetLayout:
    """Where the files of one set are.

    Attributes:
        annotations: Folder of the XML files.
        images: Folders that images are looked for in.
        listed: File with the names of the set's images; None if all XML files belong to it.
    """

    annotations: Path
    images: tuple[Path, ...]
    listed: Path | None


def holds(folder: Path) -> bool:
    """See `seatrial.datasets.read.Format.holds`."""
    return bool(splits(folder, None)) or _has_xml(_annotations(folder))


def splits(folder: Path, annotations: Path | None) -> tuple[str, ...]:
    """See `seatrial.datasets.read.Format.splits`."""
    lists = tuple(split for split in SPLITS if (folder / LISTS / f"{split}.txt").is_file())
    return lists or tuple(split for split in SPLITS if _split_folder(folder, split))


def read(
    folder: Path,
    annotations: Path | None,
    split: str,
    *,
    on_issue: OnIssue = refuse,
    details: bool = False,
) -> LabelledSet:
    """See `seatrial.datasets.read.Format.read`.

    Classes are numbered in the order of their names, over all splits, unless a ``labelmap.txt``,
    a ``classes.txt`` or ``annotations`` lists them.
    """
    layout = _layout(folder, split)
    sources = _all_xml(folder)
    base = 0 if any(_FROM_ZERO.search(data) for data in sources.values()) else 1
    listed = _listed_classes(folder, annotations)
    found_names = {name for data in sources.values() for name in _NAME.findall(data) if name}
    names = listed or sorted({unescape(name.decode("utf-8", "replace")) for name in found_names})
    images: list[LabelledImage] = []
    extras: list[dict[str, Any]] = []
    objects: list[tuple[int, int, list[float], Element]] = []  # image, class, box, element
    for path, where in _files(layout, on_issue):
        found = _parsed(path, where, on_issue)
        if found is None:
            continue
        image = _image(len(images) + 1, found, path, layout, on_issue)
        for element in found.objects:
            box = _object(element, path, names, base, on_issue)
            if box is not None:
                objects.append((len(images), names.index(element.text("name")), box, element))
        images.append(image)
        extras.append({"segmented": found.segmented} if found.segmented else {})
    if not objects:
        on_issue(
            LabelIssue("no-labels", str(layout.listed or layout.annotations), "has no objects")
        )
    return LabelledSet(
        source=f"voc:{folder}{f' {split}' if layout.listed else ''}",
        images=tuple(images),
        categories=tuple(Category(number, name) for number, name in enumerate(names)),
        truth=Truth.of(
            [image for image, *_ in objects],
            [category for _, category, *_ in objects],
            [box for _, _, box, _ in objects],
            crowd=[element.text("difficult") == "1" for *_, element in objects],
            mark=[element.line for *_, element in objects],
        ),
        notes=("a box begins at 0: pixels were counted from 0",) if base == 0 else (),
        details=Details(tuple(extras), tuple(_attributes(e) for *_, e in objects), {})
        if details
        else None,
    )


def _annotations(folder: Path) -> Path:
    return next((folder / name for name in ANNOTATIONS if (folder / name).is_dir()), folder)


def _has_xml(folder: Path) -> bool:
    """Whether the first XML file is an annotation: other XML files can lie beside images."""
    first = next(iter(sorted(folder.glob("*.xml"))), None)
    return first is not None and b"<annotation" in first.read_bytes()


def _split_folder(folder: Path, split: str) -> Path | None:
    found = (folder / name for name in SPLIT_FOLDERS[split])
    return next((path for path in found if path.is_dir() and _has_xml(_annotations(path))), None)


def _layout(folder: Path, split: str) -> _SetLayout:
    listed = folder / LISTS / f"{split}.txt"
    has_lists = any((folder / LISTS / f"{name}.txt").is_file() for name in SPLITS)
    own = _split_folder(folder, split) if split in SPLIT_FOLDERS else None
    if has_lists and not listed.is_file():
        raise InvalidDataset(f"{folder / LISTS} has no {split}.txt", hint="choose another --split")
    if not has_lists and own is None and any(_split_folder(folder, name) for name in SPLITS):
        raise InvalidDataset(f"{folder} has no folder {split}", hint="choose another --split")
    home = own if own is not None and not has_lists else folder
    annotations = _annotations(home)
    if not _has_xml(annotations):
        raise InvalidDataset(
            f"{annotations} holds no XML files", hint="Pascal VOC has one for each image"
        )
    images = [home / name for name in IMAGE_FOLDERS if (home / name).is_dir()]
    return _SetLayout(annotations, (*images, annotations), listed if has_lists else None)


def _all_xml(folder: Path) -> dict[Path, bytes]:
    """Every XML file of a dataset, in all splits."""
    homes = {_annotations(folder)}
    homes |= {_annotations(own) for split in SPLITS if (own := _split_folder(folder, split))}
    return {
        path: path.read_bytes() for home in sorted(homes) for path in sorted(home.glob("*.xml"))
    }


def _listed_classes(folder: Path, annotations: Path | None) -> list[str]:
    """The classes in CVAT's ``labelmap.txt`` (``name:colour:parts:actions``) or in a list."""
    places = [annotations] if annotations else [folder / name for name in CLASS_FILES]
    path = next((place for place in places if place.is_file() or annotations), None)
    if path is None:
        return []
    try:
        lines = [line.strip() for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidDataset(f"{path} is not a list of classes: {error}") from error
    names = [line.split(":")[0] for line in lines if line and not line.startswith("#")]
    return [name for name in dict.fromkeys(names) if name != "background"]


def _files(layout: _SetLayout, on_issue: OnIssue) -> Iterator[tuple[Path, str]]:
    """XML files of the set, and the place where each is named."""
    if layout.listed is None:
        yield from ((path, str(path)) for path in sorted(layout.annotations.glob("*.xml")))
        return
    for number, line in enumerate(layout.listed.read_text().splitlines(), 1):
        if line.strip():
            stem = line.split()[0]
            yield layout.annotations / f"{stem}.xml", f"{layout.listed}, line {number}"


def _parsed(path: Path, where: str, on_issue: OnIssue) -> Annotation | None:
    if not path.is_file():
        on_issue(LabelIssue("missing-annotation", where, f"{path} is not there"))
        return None
    try:
        return parse(path.read_bytes())
    except ValueError as error:
        on_issue(
            LabelIssue("labels-unreadable", f"{path}, line {error.args[1]}", str(error.args[0]))
        )
        return None


def _image(
    number: int, found: Annotation, path: Path, layout: _SetLayout, on_issue: OnIssue
) -> LabelledImage:
    file = _image_file(found, path, layout)
    # Many tools leave the size at 0.
    width, height = found.size if min(found.size) >= 1 else size_or_issue(file, on_issue)
    return LabelledImage(number, file.name, file, width, height, path)


def _image_file(found: Annotation, path: Path, layout: _SetLayout) -> Path:
    names = [found.filename, *(path.stem + suffix for suffix in sorted(SUFFIXES))]
    tried = [home / Path(name).name for home in layout.images for name in names if name]
    return next((place for place in tried if place.is_file()), tried[0])


def _object(
    element: Element, path: Path, names: Sequence[str], base: int, on_issue: OnIssue
) -> list[float] | None:
    """Left, top, width, height; None if the object cannot be used."""
    where = f"{path}, line {element.line}"
    name = element.text("name")
    if name not in names:
        if name:
            message = f"class {name!r} is not in the list of classes"
            on_issue(LabelIssue("unknown-class", where, message))
        else:
            on_issue(LabelIssue("labels-unreadable", where, "has no <name>"))
        return None
    try:
        left, top, right, bottom = (float(element.text(f"bndbox/{corner}")) for corner in CORNERS)
        if not np.isfinite([left, top, right, bottom]).all():
            raise ValueError("not finite")
    except ValueError:
        on_issue(LabelIssue("labels-unreadable", where, f"{name} has no <bndbox> of four numbers"))
        return None
    box = [left - base, top - base, right - left + base, bottom - top + base]
    if right < left or bottom < top:
        corners = f"{left:g}, {top:g} to {right:g}, {bottom:g}"
        on_issue(
            LabelIssue(
                "box-empty", where, f"{name}: the box from {corners} has its corners swapped"
            )
        )
        return None
    return box


def _attributes(element: Element) -> dict[str, Any]:
    found = {name: element.text(name) for name in ATTRIBUTES}
    return {name: int(v) if v.isdigit() else v for name, v in found.items() if v}


def write(folder: Path, sets: Mapping[str, LabelledSet]) -> list[str]:
    """See `seatrial.datasets.read.Format.write`."""
    outlines = 0
    home = folder / ANNOTATIONS[0]
    home.mkdir()
    names: tuple[str, ...] = ()
    for split, labelled in sets.items():
        names = tuple(category.name for category in labelled.categories)
        outlines += sum("segmentation" in r for r in (labelled.details or _NOTHING).objects)
        for image, text in zip(labelled.images, _documents(labelled), strict=True):
            (home / image.name).with_suffix(".xml").write_text(text)
        if split:
            lists = folder / LISTS
            lists.mkdir(parents=True, exist_ok=True)
            stems = "".join(f"{Path(image.name).stem}\n" for image in labelled.images)
            (lists / f"{split}.txt").write_text(stems)
    # The list keeps the order of the classes, and classes without an object.
    (folder / CLASS_FILES[1]).write_text("".join(f"{name}\n" for name in names))
    return [f"{outlines} outlines were left out: VOC has boxes"] if outlines else []


_NOTHING = Details((), (), {})


def _documents(labelled: LabelledSet) -> Iterator[str]:
    truth, details = labelled.truth, labelled.details
    rows: list[list[int]] = [[] for _ in labelled.images]
    for index, image in enumerate(truth.image.tolist()):
        rows[image].append(index)
    for number, image in enumerate(labelled.images):
        objects = []
        for index in rows[number]:
            extra = details.objects[index] if details else {}
            name = labelled.categories[int(truth.category[index])].name
            objects.append(
                _object_text(name, truth.xywh[index].tolist(), bool(truth.crowd[index]), extra)
            )
        segmented = details.images[number].get("segmented", 0) if details else 0
        yield (
            f"<annotation>\n  <filename>{escape(image.name)}</filename>\n"
            f"  <size><width>{image.width}</width><height>{image.height}</height>"
            f"<depth>3</depth></size>\n  <segmented>{segmented}</segmented>\n"
            f"{''.join(objects)}</annotation>\n"
        )


def _object_text(name: str, xywh: Sequence[float], crowd: bool, extra: Mapping[str, Any]) -> str:
    left, top, width, height = xywh
    corners = (left + 1, top + 1, left + width, top + height)
    box = "".join(
        f"<{corner}>{value:.10g}</{corner}>" for corner, value in zip(CORNERS, corners, strict=True)
    )
    attributes = "".join(
        f"<{key}>{escape(str(extra[key]))}</{key}>" for key in ATTRIBUTES if key in extra
    )
    return (
        f"  <object>\n    <name>{escape(name)}</name>{attributes}"
        f"<difficult>{int(crowd)}</difficult>\n    <bndbox>{box}</bndbox>\n  </object>\n"
    )
