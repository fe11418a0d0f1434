"""Rows of COCO's annotation files, with types as lenient as those of pycocotools.

Tools write ids as text (UUIDs) or as 160.0, ``iscrowd`` as null or "0", areas as NaN: each is read
where its meaning is plain, and is an issue else.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from seatrial.config import UNDECODABLE, readable
from seatrial.datasets.issues import LabelIssue, OnIssue
from seatrial.datasets.labels import MOST_PX
from seatrial.errors import InvalidDataset, shown
from seatrial.report.numbers import counted
from seatrial.system.text import as_utf8

DIGITS = 4000  # an id of more digits is text
_BYTE = re.compile(r"\(byte (\d+)\)")
# Numbers that JSON does not have and Python writes, and texts, in which they are words.
_NOT_A_NUMBER = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\Z)|-?\bInfinity\b|\bNaN\b', re.DOTALL)
Row = TypeVar("Row", "ImageRow", "AnnotationRow", "CategoryRow")
Key = int | str  # an id, as `id_key` has it


class ImageRow(msgspec.Struct, frozen=True, gc=False):
    """A row of ``images``."""

    id: Any
    file_name: str
    width: float | None = None
    height: float | None = None


class AnnotationRow(msgspec.Struct, frozen=True, gc=False):
    """A row of ``annotations``, without the outline: the bulk of the file is not decoded so."""

    image_id: Any
    category_id: Any
    bbox: tuple[float, float, float, float]
    id: Any = None
    area: Any = None
    iscrowd: Any = 0
    attributes: Any = None  # CVAT's


class CategoryRow(msgspec.Struct, frozen=True, gc=False):
    """A row of ``categories``."""

    id: Any
    name: str


class CocoFile(msgspec.Struct, frozen=True):
    """The file with its rows undecoded, so that a bad row does not spoil the others."""

    # Of types as lenient as pycocotools has them: tools write ids as text, 160.0 and "0".
    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[msgspec.Raw]


_KINDS: dict[str, type[Any]] = {
    "image": ImageRow,
    "annotation": AnnotationRow,
    "category": CategoryRow,
}


def read_document(path: Path) -> tuple[CocoFile, bytes, list[str]]:
    """The file, its bytes, and what was mended in it."""
    if path.exists() and not path.is_file():
        raise InvalidDataset(
            f"the annotation file {path} cannot be read: it is not a regular file",
            hint="--annotations FILE, for example instances_val2017.json",
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidDataset(
            f"the annotation file {path} cannot be read: {error.strerror}",
            hint="--annotations FILE, for example instances_val2017.json",
        ) from error
    data = as_utf8(data, origin=path, error=InvalidDataset)
    try:
        return msgspec.json.decode(data, type=CocoFile), data, []
    except UNDECODABLE as error:
        mended, number = _without_nan(data)
        if number:
            with contextlib.suppress(*UNDECODABLE):
                document = msgspec.json.decode(mended, type=CocoFile)
                what = f"{counted(number, 'value')} NaN or Infinity"
                return document, mended, [f"{what}: counted as missing"]
        place = _BYTE.search(str(error))  # without a place, the file is cut off
        line = f", line {data[: int(place[1]) if place else len(data)].count(10) + 1}"
        hint = "the file is cut off or damaged: copy it again"
        if isinstance(error, msgspec.ValidationError):  # valid JSON of something else
            line = ""
            hint = "it needs images, categories, and annotations with image_id, category_id, bbox"
        raise InvalidDataset(
            f"{path}{line}: not a COCO annotation file for boxes: {readable(error, CocoFile)}",
            hint=hint,
        ) from error


def _without_nan(data: bytes) -> tuple[bytes, int]:
    """JSON with null for the numbers that it does not have, and how many there were."""
    count = 0

    def replaced(match: re.Match[bytes]) -> bytes:
        nonlocal count
        if match[0].startswith(b'"'):
            return match[0]
        count += 1
        return b"null"

    return _NOT_A_NUMBER.sub(replaced, data), count


def usable_rows(
    raw: Sequence[msgspec.Raw], kind: type[Row], what: str, path: Path, on_issue: OnIssue
) -> dict[Key, Row]:
    """The usable rows of a section by id, in the order of the file."""
    decoder = msgspec.json.Decoder(kind, strict=False)
    found: dict[Key, Row] = {}
    for number, item in enumerate(raw, 1):
        try:
            row = decoder.decode(item)
            own = id_key(row.id)
            if isinstance(row, ImageRow):
                _check_size(row)
        except UNDECODABLE as error:
            on_issue(_misread(path, what, item, number, error))
            continue
        if own in found:
            on_issue(LabelIssue("id-twice", f"{path}, {what} {own}", f"the id {own} is used twice"))
        found.setdefault(own, row)
    return found


def _check_size(row: ImageRow) -> None:
    for side, value in (("width", row.width), ("height", row.height)):
        if value is not None and not (value >= 0 and value.is_integer()):
            raise ValueError(f"{side} must be a whole number, not {value:g}")
        if value is not None and value > MOST_PX:
            raise ValueError(f"{side} must be {MOST_PX:,} pixels at most, not {value:g}")


def _misread(path: Path, what: str, item: msgspec.Raw, number: int, error: Exception) -> LabelIssue:
    place = f"{what} number {number} in the list"
    with contextlib.suppress(*UNDECODABLE):
        row = msgspec.json.decode(item)
        if isinstance(row, dict) and isinstance(row.get("id"), int | str):
            place = f"{what} {row['id']}"
    message = readable(error, _KINDS[what])
    return LabelIssue("labels-unreadable", f"{path}, {place}", message, f"correct the {what}")


def usable_annotations(
    document: CocoFile,
    images: Mapping[Key, ImageRow],
    categories: Mapping[Key, CategoryRow],
    path: Path,
    on_issue: OnIssue,
) -> tuple[list[AnnotationRow], list[int]]:
    """The usable annotations, and their indices in the file."""
    if not document.annotations:
        on_issue(
            LabelIssue(
                "no-labels",
                str(path),
                "has no annotations (COCO's image_info_test files come without labels)",
            )
        )
    decoder = msgspec.json.Decoder(AnnotationRow, strict=False)
    ids: set[Key] = set()
    rows, kept = [], []
    for number, item in enumerate(document.annotations):
        try:
            row = decoder.decode(item)
            own = None if row.id is None else id_key(row.id)
            is_crowd(row)
            fault = _fault(row, images, categories)
        except UNDECODABLE as error:
            on_issue(_misread(path, "annotation", item, number + 1, error))
            continue
        where = f"{path}, annotation {number + 1 if own is None else own}"
        if fault is not None:
            on_issue(LabelIssue(fault[0], where, fault[1]))
            continue
        if own is not None and own in ids:
            on_issue(LabelIssue("id-twice", where, "two annotations have this id"))
        if own is not None:
            ids.add(own)
        rows.append(row)
        kept.append(number)
    return rows, kept


def _fault(
    row: AnnotationRow, images: Mapping[Key, ImageRow], classes: Mapping[Key, CategoryRow]
) -> tuple[str, str] | None:
    """Kind of issue and message, if the annotation cannot be used."""
    image = images.get(id_key(row.image_id))
    if image is None:
        return "orphaned-labels", f"refers to image {row.image_id}, which the file does not list"
    name = image.file_name
    if id_key(row.category_id) not in classes:
        return "unknown-class", (
            f"has category {row.category_id}, which the file does not list (image {name})"
        )
    if not all(map(math.isfinite, row.bbox)):
        return "labels-unreadable", f"box {list(row.bbox)} has no numbers (image {name})"
    if max(map(abs, row.bbox)) > MOST_PX:
        return "box-outside", f"box {list(row.bbox)} is larger than any image (image {name})"
    if min(row.bbox[2:]) < 0:
        return "box-empty", (
            f"box {list(row.bbox)} of {name} has a negative side; COCO's boxes are "
            "[left, top, width, height]"
        )
    return None


def id_key(value: object) -> Key:
    """An id for comparison: the number of 160, 160.0 and "160"; other text as it is.

    Raises:
        ValueError: The value is neither a whole number nor text.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value:
        whole = value.isascii() and value.isdigit() and len(value) < DIGITS
        return int(value) if whole and str(int(value)) == value else value
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"{shown(value)} is not an id: an id is a whole number or text")


def numbers_of(rows: Mapping[Key, object]) -> dict[Key, int]:
    """Id -> number: the ids themselves; from 1 where any is text or over 64 bits."""
    if all(isinstance(key, int) and abs(key) < 2**63 for key in rows):
        return {key: int(key) for key in rows}
    return {key: number for number, key in enumerate(rows, 1)}


def is_rotated(row: AnnotationRow) -> bool:
    """Whether CVAT says that the box is turned about its centre: ``bbox`` is that before."""
    angle = row.attributes.get("rotation") if isinstance(row.attributes, dict) else None
    return isinstance(angle, int | float) and angle % 360 != 0


def area_of(row: AnnotationRow) -> float | None:
    """The area, if it is a number."""
    try:
        area = float(row.area)
    except (TypeError, ValueError, OverflowError):
        return None
    return area if math.isfinite(area) else None


def is_crowd(row: AnnotationRow) -> bool:
    """Whether it is a crowd; some tools write the number as text, or null for no.

    Raises:
        ValueError: The value is none of these.
    """
    if row.iscrowd in (0, None, "", "0", "false", "False"):
        return False
    if row.iscrowd in (1, "1", "true", "True"):
        return True
    raise ValueError(f"iscrowd must be 0 or 1, not {shown(row.iscrowd)}")


def mark_of(row: AnnotationRow, place: int) -> int:
    """The id if it is a number of 64 bits; else the place in the file."""
    key = place if row.id is None else id_key(row.id)
    return key if isinstance(key, int) and abs(key) < 2**63 else place
