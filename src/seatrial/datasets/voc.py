"""Labels in Pascal VOC's format: an XML file for each image.

Format: "The PASCAL Visual Object Classes Challenge 2012 (VOC2012) Development Kit", section 8.1.
For where the files lie see `seatrial.datasets.voc_files`.

The kit counts pixels from 1 and includes the last: a box from 1 to the width spans a whole row.
Labelling tools often count from 0. The whole set is read so if any of its boxes begins before 1, or
if CVAT wrote it with fractions of pixels.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from seatrial.datasets.issues import LabelIssue, OnIssue, refuse, size_or_issue
from seatrial.datasets.labels import (
    MOST_PX,
    SPLITS,
    Category,
    Details,
    LabelledImage,
    LabelledSet,
    Truth,
)
from seatrial.datasets.locate import bare, possible, spellings
from seatrial.datasets.voc_files import (
    ANNOTATIONS,
    LISTS,
    SetLayout,
    Unusable,
    all_files,
    annotations_home,
    has_annotation,
    is_annotation,
    layout_of,
    listed_files,
    split_folders,
    split_lists,
    unlisted,
)
from seatrial.datasets.voc_xml import CORNERS, ROOT, Annotation, Element
from seatrial.errors import InvalidDataset
from seatrial.report.numbers import counted
from seatrial.system.images import FILE_FORMATS, SUFFIXES
from seatrial.system.text import lines, read_text

CLASS_FILES = ("labelmap.txt", "classes.txt")
ATTRIBUTES = ("pose", "truncated", "occluded")
KEPT = frozenset({*ATTRIBUTES, "segmented"})  # keys beyond boxes that are written
OTHER_SHAPES = ("robndbox", "polygon", "segmentation")  # roLabelImg, LabelMe, Roboflow
# Elements of an object that are read, or say nothing about it.
READ = frozenset({"name", "bndbox", "difficult", "deleted", "verified", *ATTRIBUTES})
# A line of CVAT's labelmap.txt: name, colour, parts, actions.
_LABELMAP = re.compile(r"(?P<name>.*):(?P<colour>\d+,\s*\d+,\s*\d+)?:[^:]*:[^:]*")
_FEW_DIGITS = re.compile("[0-9]{1,9}")
_ZERO = re.compile(r"[-+]?0+(\.0*)?")
_BEFORE_ONE = re.compile(r"[-+]?0+(\.\d*)?|[-+]?\.\d+")
_FRACTION = re.compile(r"[-+]?\d*\.\d*[1-9]\d*")
# Characters that XML 1.0 does not have (section 2.2), and line ends, which a list cannot hold.
_NO_NAME = re.compile("[^\t\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def holds(folder: Path) -> bool:
    """See `seatrial.datasets.read.Format.holds`."""
    return bool(splits(folder, None)) or has_annotation(annotations_home(folder))


def splits(folder: Path, annotations: Path | None) -> tuple[str, ...]:
    """See `seatrial.datasets.read.Format.splits`."""
    found = split_lists(folder) or split_folders(folder)
    return tuple(split for split in SPLITS if split in found)


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
    layout = layout_of(folder, split)
    # A file that cannot be used is an issue of its own split.
    contents = all_files(folder)
    everything = [one for one in contents.values() if is_annotation(one)]
    used = {e.text("name") for one in everything for e in one.objects} - {""}
    base, why = _first_pixel(folder, [e for one in everything for e in one.objects])
    names = _listed_classes(folder, annotations, used) or sorted(used)
    numbers = {name: number for number, name in enumerate(names)}
    images: list[LabelledImage] = []
    extras: list[dict[str, Any]] = []
    objects: list[tuple[int, int, list[float], Element]] = []  # image, class, box, element
    for path, where in listed_files(layout):
        found = _usable(contents.get(path), path, where, on_issue, listed=layout.listed is not None)
        if found is None:
            continue
        image = _image(len(images) + 1, found, path, layout, on_issue)
        for element in found.objects:
            box = _object(element, path, numbers, base, on_issue)
            if box is not None:
                objects.append((len(images), numbers[element.text("name")], box, element))
        images.append(image)
        extras.append({"segmented": found.segmented} if found.segmented else {})
    if not objects:
        on_issue(
            LabelIssue("no-labels", str(layout.listed or layout.annotations), "has no objects")
        )
    notes = [why] if why else []
    if details:
        notes += _left_out([element for *_, element in objects])
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
        notes=tuple(notes),
        details=Details(tuple(extras), tuple(_attributes(e) for *_, e in objects), {})
        if details
        else None,
    )


def left_out(folder: Path, sets: Mapping[str, LabelledSet]) -> list[Path]:
    """See `seatrial.datasets.read.Format.left_out`."""
    images = (image for labelled in sets.values() for image in labelled.images)
    return unlisted(folder, {image.labels for image in images if image.labels is not None})


def _first_pixel(folder: Path, objects: Sequence[Element]) -> tuple[int, str]:
    """The number of the first pixel, 0 or 1, and a note of why; empty for the kit's 1.

    `write` keeps fractions and counts from 1; a box over the border can begin before 1 then.
    """
    values = [[e.text(f"bndbox/{corner}").strip() for corner in CORNERS] for e in objects]
    firsts = [text for box in values for text in box[:2]]
    own = (folder / CLASS_FILES[1]).is_file()
    rule = _ZERO if own else _BEFORE_ONE
    if first := next(filter(rule.fullmatch, firsts), ""):
        shown = "0" if _ZERO.fullmatch(first) else first
        return 0, f"a box begins at {shown}: pixels were counted from 0"
    texts = [text for box in values for text in box]
    if own or 2 * sum(bool(_FRACTION.fullmatch(text)) for text in texts) <= len(texts):
        return 1, ""
    if (folder / CLASS_FILES[0]).is_file():
        return 0, "CVAT wrote fractions of pixels, which it counts from 0"
    return 1, "most corners of boxes have fractions of pixels: they were counted from 1"


def _listed_classes(folder: Path, annotations: Path | None, used: Set[str]) -> list[str]:
    """The classes in CVAT's ``labelmap.txt`` or in a list, one a line."""
    places = [annotations] if annotations else [folder / name for name in CLASS_FILES]
    path = next((place for place in places if place.is_file() or annotations), None)
    if path is None:
        return []
    if path.exists() and not path.is_file():
        raise InvalidDataset(f"{path} is not a regular file", hint="give a list of classes")
    rows = [line for line in lines(read_text(path, error=InvalidDataset)) if line.strip()]
    fields = [_LABELMAP.fullmatch(row.strip()) for row in rows]
    own = path.name == CLASS_FILES[0] or (path.name != CLASS_FILES[1] and all(fields))
    if own:  # a comment has no colour
        rows = [
            match["name"] if match else row
            for row, match in zip(rows, fields, strict=True)
            if not row.startswith("#") or (match is not None and match["colour"])
        ]
        # CVAT adds the background to every list.
        rows = [name for name in rows if name != "background" or name in used]
    return list(dict.fromkeys(_as_used(rows, used, path)))


def _as_used(rows: Sequence[str], used: Set[str], path: Path) -> Iterator[str]:
    """The names of a list, without blanks at their ends where XML files name the class so.

    Raises:
        InvalidDataset: Two names would become one.
    """
    meant: dict[str, str] = {}
    for row in rows:
        name = row.strip() if row not in used and row.strip() in used else row
        if meant.setdefault(name, row) != row:
            raise InvalidDataset(
                f"{path} names the classes {meant[name]!r} and {row!r}, and XML files name "
                f"{name!r}: which of them is meant cannot be told",
                hint="remove one of them, or rename it",
            )
        yield name


def _usable(
    found: Annotation | Unusable | None,
    path: Path,
    where: str,
    on_issue: OnIssue,
    *,
    listed: bool,
) -> Annotation | None:
    """The annotation in a file; None, with an issue, where there is none."""
    if found is None:
        on_issue(LabelIssue("missing-annotation", where, f"{path} is not there"))
    elif isinstance(found, Unusable):
        on_issue(LabelIssue("labels-unreadable", *found))
    elif is_annotation(found):
        return found
    elif listed:
        message = f"begins with <{found.root}>, not with <{ROOT}>"
        on_issue(LabelIssue("labels-unreadable", str(path), message, "take it off the list"))
    return None


def _image(
    number: int, found: Annotation, path: Path, layout: SetLayout, on_issue: OnIssue
) -> LabelledImage:
    file, name = _image_file(found, path, layout, on_issue)
    if min(found.size) >= 1:
        return LabelledImage(number, name, file, *found.size, path)
    # Many tools leave the size at 0.
    width, height = size_or_issue(file, on_issue)
    return LabelledImage(number, name, file, width, height, path, measured=True)


def _image_file(
    found: Annotation, path: Path, layout: SetLayout, on_issue: OnIssue
) -> tuple[Path, str]:
    """The image of an annotation, and its name in the folder of images.

    It is that of the annotation's own name, as in the kit, and only else the one of <filename>: a
    file that was renamed keeps the old one, and copies of one annotation have the same.
    """
    inside = path.parent.relative_to(layout.annotations)
    suffixes = sorted(SUFFIXES | FILE_FORMATS.keys())
    said = [found.filename, bare(found.filename)] if found.filename else []
    own = [path.stem + suffix for suffix in (*suffixes, *(s.upper() for s in suffixes))]
    same = bool(said) and Path(said[1]).stem == path.stem

    def first(names: Sequence[str]) -> tuple[Path, str] | None:
        spelled = [spelling for name in dict.fromkeys(names) for spelling in spellings(name)]
        tried = [(home, str(inside / name)) for home in layout.images for name in spelled]
        return next(
            (
                (home / name, name)
                for home, name in tried
                if ".." not in Path(name).parts and os.path.isfile(home / name)
            ),
            None,
        )

    by_name = None if same else first(own)
    by_filename = first(said) or (first(own) if same else None)
    if by_name is not None and by_filename is not None and by_name != by_filename:
        message = f"names {said[1]}; {by_name[1]} was taken"
        on_issue(LabelIssue("name-differs", str(path), message))
    missing = str(inside / possible(said[1] if said else own[0]))
    return by_name or by_filename or (layout.images[0] / missing, missing)


def _object(
    element: Element, path: Path, names: Mapping[str, int], base: int, on_issue: OnIssue
) -> list[float] | None:
    """Left, top, width, height; None if the object cannot be used."""
    where = f"{path}, line {element.line}"
    name = element.text("name")
    if name not in names:
        if name:
            message = f"class {name!r} is not in the list of classes"
            on_issue(LabelIssue("unknown-class", where, message))
        else:
            remedy = "name the class of the object"
            on_issue(LabelIssue("labels-unreadable", where, "has no <name>", remedy))
        return None
    try:
        left, top, right, bottom = (float(element.text(f"bndbox/{corner}")) for corner in CORNERS)
        if not np.isfinite([left, top, right, bottom]).all():
            raise ValueError("not finite")
    except ValueError:
        other = next((tag for tag in OTHER_SHAPES if _has(element, tag)), "")
        message = f"{name} has no <bndbox> of four numbers"
        message += f", but a <{other}>" if other else ""
        remedy = "draw a box around it" if other else "correct the numbers"
        on_issue(LabelIssue("labels-unreadable", where, message, remedy))
        return None
    if max(map(abs, (left, top, right, bottom))) > MOST_PX:
        message = f"{name}: the box to {right:g}, {bottom:g} is larger than any image"
        on_issue(LabelIssue("box-outside", where, message))
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


def _has(element: Element, tag: str) -> bool:
    return any(path.partition("/")[0] == tag for path in element.texts)


def _left_out(objects: Sequence[Element]) -> list[str]:
    """A note of elements that no label here has a place for."""
    counts = Counter(
        tag for e in objects for tag in {path.partition("/")[0] for path in e.texts} - READ - {""}
    )
    shown = ", ".join(
        f"<{tag}> of {counted(number, 'object')}" for tag, number in sorted(counts.items())
    )
    return [f"not read: {shown}"] if shown else []


def _attributes(element: Element) -> dict[str, Any]:
    found = {name: element.text(name) for name in ATTRIBUTES}
    return {name: int(v) if _FEW_DIGITS.fullmatch(v) else v for name, v in found.items() if v}


def write(folder: Path, sets: Mapping[str, LabelledSet]) -> list[str]:
    """See `seatrial.datasets.read.Format.write`.

    Raises:
        InvalidDataset: A name has characters that XML or a list cannot hold.
    """
    home = folder / ANNOTATIONS[0]
    home.mkdir()
    names: tuple[str, ...] = ()
    for split, labelled in sets.items():
        names = tuple(category.name for category in labelled.categories)
        _check_names(labelled)
        for image, text in zip(labelled.images, _documents(labelled), strict=True):
            (home / image.name).with_suffix(".xml").write_text(text, encoding="utf-8")
        if split:
            lists = folder / LISTS
            lists.mkdir(parents=True, exist_ok=True)
            stems = "".join(f"{Path(image.name).stem}\n" for image in labelled.images)
            (lists / f"{split}.txt").write_text(stems, encoding="utf-8")
    # The list keeps the order of the classes, and classes without an object.
    (folder / CLASS_FILES[1]).write_text("".join(f"{n}\n" for n in names), encoding="utf-8")
    return []


def _check_names(labelled: LabelledSet) -> None:
    for what, named in (("class", labelled.categories), ("file", labelled.images)):
        for one in named:
            if not one.name.strip() or _NO_NAME.search(one.name):
                raise InvalidDataset(
                    f"the {what} name {one.name!r} is empty, or has characters that Pascal VOC's "
                    "files cannot hold",
                    hint=f"rename the {what}, or convert to another format",
                )


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
            f"<annotation>\n  {_named('filename', image.name)}\n"
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
        f"  <object>\n    {_named('name', name)}{attributes}"
        f"<difficult>{int(crowd)}</difficult>\n    <bndbox>{box}</bndbox>\n  </object>\n"
    )


def _named(tag: str, name: str) -> str:
    """An element whose text is a name, with the blanks around it."""
    exact = ' xml:space="preserve"' if name != name.strip() else ""
    return f"<{tag}{exact}>{escape(name)}</{tag}>"
