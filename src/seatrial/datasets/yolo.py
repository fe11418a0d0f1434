"""Labels in a YOLO folder of Ultralytics: ``data.yaml``, ``images/``, ``labels/``.

Format: https://docs.ultralytics.com/datasets/detect, "Ultralytics YOLO format". A label file has
a row for each object: ``class x y width height``, centre and size as fractions of the image. Rows
of outlines (``class x1 y1 x2 y2 x3 y3 ...``) are read as their boxes, as Ultralytics does it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seatrial.datasets.issues import LabelIssue, OnIssue, refuse, size_or_issue
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
from seatrial.system.extras import require
from seatrial.system.images import image_files, is_foreign, only_images

CONFIG = "data.yaml"
LABELLING_TOOLS_FILES = frozenset({"classes.txt", "notes.txt"})
SLACK = 0.01  # a label may reach this far over the border, as a fraction of the image


class _Misread(ValueError):
    """A row that cannot be used, and its kind of issue."""

    def __init__(self, message: str, kind: str = "labels-unreadable") -> None:
        super().__init__(message)
        self.kind = kind


def holds(folder: Path) -> bool:
    """See `seatrial.datasets.read.Format.holds`."""
    return (folder / CONFIG).is_file()


def splits(folder: Path, annotations: Path | None) -> tuple[str, ...]:
    """See `seatrial.datasets.read.Format.splits`."""
    config = _config(annotations or folder / CONFIG)
    return tuple(split for split in SPLITS if config.get(split))


def read(
    folder: Path,
    annotations: Path | None,
    split: str,
    *,
    on_issue: OnIssue = refuse,
    details: bool = False,
) -> LabelledSet:
    """See `seatrial.datasets.read.Format.read`.

    Raises:
        MissingExtra: PyYAML is not installed.
    """
    path = annotations or folder / CONFIG
    config = _config(path)
    names = _names(config, path)
    files = list(_images(_split_entries(config, split, path), path, on_issue))
    _check_label_files([file for file, _ in files], on_issue)
    images: list[LabelledImage] = []
    rows: list[tuple[int, int, list[float], dict[str, Any]]] = []  # image, line, values, details
    duplicates = 0
    for number, (file, name) in enumerate(files):
        width, height = size_or_issue(file, on_issue)
        label_file = _label_file(file)
        images.append(LabelledImage(number + 1, name, file, width, height, label_file))
        seen: set[tuple[float, ...]] = set()
        for line, values in _labels(label_file, len(names), on_issue):
            box, extra = _box(values, width or 1, height or 1)
            if tuple(box) in seen:
                duplicates += 1
                where = f"{label_file}, line {line}"
                on_issue(LabelIssue("duplicate-box", where, "the same label is there twice"))
                continue
            seen.add(tuple(box))
            rows.append((number, line, box, extra))
    if not rows:
        on_issue(LabelIssue("no-labels", str(path), f"no image of {split} in {path} has a label"))
    table = np.array([box for _, _, box, _ in rows], np.float64).reshape(-1, 5)
    return LabelledSet(
        source=f"yolo:{folder} {split}",
        images=tuple(images),
        categories=tuple(Category(number, name) for number, name in enumerate(names)),
        truth=Truth.of(
            [image for image, *_ in rows],
            table[:, 0],
            _pixels(table[:, 1:], images, [image for image, *_ in rows]),
            mark=[line for _, line, *_ in rows],
        ),
        notes=(f"{duplicates} labels that were there twice count once",) if duplicates else (),
        details=Details(tuple({} for _ in images), tuple(row[3] for row in rows), {})
        if details
        else None,
    )


def _config(path: Path) -> dict[str, Any]:
    yaml = require("yaml", extra="evaluate", purpose="reading data.yaml")
    try:
        config = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InvalidDataset(
            f"{path} cannot be read: {error.strerror}",
            hint="a YOLO folder has a data.yaml; name another one with --annotations FILE",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidDataset(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise InvalidDataset(f"{path} is not a YOLO dataset: it has no keys")
    return config


def _names(config: dict[str, Any], path: Path) -> list[str]:
    names = config.get("names")
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not names:
        raise InvalidDataset(f"{path} has no usable 'names': a list, or numbers from 0 to names")
    if config.get("nc", len(names)) != len(names):
        raise InvalidDataset(f"{path} says nc: {config['nc']} and names {len(names)} classes")
    return [str(name) for name in names]


def _split_entries(config: dict[str, Any], split: str, path: Path) -> list[Path]:
    """Folders and lists of the split; relative paths are tried as the exporters mean them."""
    entries = config.get(split)
    if not entries:
        raise InvalidDataset(
            f"{path} has no {split!r} set", hint="choose another with --split train|val|test"
        )
    home = path.parent / str(config.get("path") or "")
    found = []
    for entry in [entries] if isinstance(entries, str) else entries:
        # Roboflow writes ../valid/images where ./valid/images is meant.
        tried = [home / entry, path.parent / entry, path.parent / str(entry).removeprefix("../")]
        where = next((candidate for candidate in tried if candidate.exists()), None)
        if where is None:
            shown = some([str(candidate) for candidate in dict.fromkeys(tried)])
            raise InvalidDataset(f"{path}: the {split} set {entry!r} is not at {shown}")
        found.append(where)
    return found


def _images(entries: Sequence[Path], path: Path, on_issue: OnIssue) -> Iterator[tuple[Path, str]]:
    """The image files of a split, sorted, and their names in the folder or list they are in."""
    named: dict[Path, str] = {}
    for entry in entries:
        if entry.is_dir():
            found = image_files(entry)
            named |= {p: str(p.relative_to(entry)) for p in found}
        else:
            lines = (line.strip() for line in entry.read_text().splitlines())
            listed = (Path(os.path.normpath(entry.parent / line)) for line in lines if line)
            named |= {p: p.name for p in only_images(listed)}
    for image in sorted(named):
        if is_foreign(image):
            message = f"an image of {path} in an unsupported format"
            on_issue(LabelIssue("foreign-image", str(image), message))
        else:
            yield image, named[image]


def _label_file(image: Path) -> Path:
    """Path of the labels: with ``labels`` for the last folder ``images``, and suffix ``.txt``."""
    parts = list(image.parts)
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index("images")
        parts[last] = "labels"
    return Path(*parts).with_suffix(".txt")


def _check_label_files(images: Sequence[Path], on_issue: OnIssue) -> None:
    """Find label files without an image, in the folders of the others."""
    wanted = {_label_file(image) for image in images}
    # A list can leave images of a folder out: their label files are no mistake.
    stems = {p.stem for folder in {p.parent for p in images} if folder.is_dir()
             for p in folder.iterdir() if p.suffix != ".txt"}  # fmt: skip
    for folder in sorted({file.parent for file in wanted}):
        for file in sorted(folder.glob("*.txt")):
            known = file in wanted or file.name in LABELLING_TOOLS_FILES or file.stem in stems
            if not known:
                on_issue(LabelIssue("orphaned-labels", str(file), "belongs to no image"))


def _labels(file: Path, classes: int, on_issue: OnIssue) -> Iterator[tuple[int, list[float]]]:
    """Line number and values of each row; an image without a file has none."""
    if not file.is_file():
        return
    lengths: set[bool] = set()
    for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = [float(word) for word in line.split()]
            _check_row(values, classes)
            lengths.add(len(values) > 5)
        except ValueError as error:
            kind = error.kind if isinstance(error, _Misread) else "labels-unreadable"
            on_issue(LabelIssue(kind, f"{file}, line {number}", str(error)))
            continue
        yield number, values
    if len(lengths) > 1:
        on_issue(
            LabelIssue(
                "mixed-rows",
                str(file),
                "has rows of boxes and rows of outlines; Ultralytics reads all of them as outlines",
            )
        )


def _check_row(values: Sequence[float], classes: int) -> None:
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        raise _Misread(f"{len(values)} values; a box has 5: class x y width height")
    number, *numbers = values
    if number not in range(classes):
        raise _Misread(
            f"class {number:g} is not one of the {classes} in data.yaml, from 0", "unknown-class"
        )
    if not all(-SLACK <= value <= 1 + SLACK for value in numbers):
        # Values beyond 2 are pixels in place of fractions, others a box outside the image.
        kind = "box-outside" if all(-1 <= value <= 2 for value in numbers) else "labels-unreadable"
        if len(numbers) == 4 and min(numbers[2:]) < 0:
            kind = "box-empty"
        raise _Misread(f"{numbers} are not fractions of the image, 0 to 1", kind)


def _box(values: Sequence[float], width: int, height: int) -> tuple[list[float], dict[str, Any]]:
    """Class, centre x, centre y, width, height; and the outline in pixels, where there is one."""
    number, *numbers = values
    if len(numbers) == 4:
        return [number, *numbers], {}
    x, y = numbers[0::2], numbers[1::2]
    left, top, right, bottom = min(x), min(y), max(x), max(y)
    box = [number, (left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
    scale = (width, height) * len(x)
    return box, {"segmentation": [[v * s for v, s in zip(numbers, scale, strict=True)]]}


def _pixels(
    fractions: NDArray[np.float64], images: Sequence[LabelledImage], of: Sequence[int]
) -> NDArray[np.float64]:
    """(N, 4): left, top, width, height in pixels."""
    sizes = [(images[i].width or 1, images[i].height or 1) for i in of]
    scale = np.array(sizes, np.float64).reshape(-1, 2)
    centre, size = fractions[:, :2] * scale, fractions[:, 2:] * scale
    return np.column_stack([centre - size / 2, size])


def write(folder: Path, sets: Mapping[str, LabelledSet]) -> list[str]:
    """See `seatrial.datasets.read.Format.write`."""
    lost = outlines = 0
    categories: tuple[Category, ...] = ()
    for split, labelled in sets.items():
        categories = labelled.categories
        lost += int(labelled.truth.crowd.sum())
        outlines += sum(
            "segmentation" in row for row in (labelled.details.objects if labelled.details else ())
        )
        for image, text in zip(labelled.images, label_texts(labelled), strict=True):
            file = (folder / "labels" / (split or "train") / image.name).with_suffix(".txt")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    (folder / CONFIG).write_text(config_text(categories, [split or "train" for split in sets]))
    notes = [f"{lost} crowds or difficult objects were left out: YOLO has none"] if lost else []
    if outlines:
        notes.append(f"{outlines} outlines were left out; the boxes were kept")
    if "val" not in sets:
        notes.append("data.yaml has no val set; seatrial data split makes one")
    return notes


def label_texts(labelled: LabelledSet) -> list[str]:
    """The text of each image's label file; empty for an image without objects.

    Objects are written as boxes, never as outlines: with one outline in a file, Ultralytics reads
    all rows as outlines. Fractions have ten digits, so that pixels come back as they were. Crowds
    are left out.
    """
    lines: list[list[str]] = [[] for _ in labelled.images]
    truth = labelled.truth
    for image, category, crowd, (left, top, width, height) in zip(
        truth.image.tolist(),
        truth.category.tolist(),
        truth.crowd.tolist(),
        truth.xywh.tolist(),
        strict=True,
    ):
        across, down = labelled.images[image].width, labelled.images[image].height
        if across is None or down is None:
            raise ValueError(f"{labelled.images[image].name} has no size")
        if crowd:
            continue
        centre = ((left + width / 2) / across, (top + height / 2) / down)
        values = (*centre, width / across, height / down)
        lines[image].append(f"{category} {' '.join(f'{value:.10g}' for value in values)}\n")
    return ["".join(own) for own in lines]


def config_text(categories: Sequence[Category], splits: Sequence[str]) -> str:
    """The text of ``data.yaml``, without ``path``, so that the folder can be moved."""
    entries = [f"{split}: images/{split}" for split in splits]
    # A JSON string is a YAML string, whatever characters it has.
    names = [f"  {number}: {json.dumps(c.name)}" for number, c in enumerate(categories)]
    return "\n".join([*entries, f"nc: {len(categories)}", "names:", *names]) + "\n"
