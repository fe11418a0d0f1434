"""Labels as Ultralytics' YOLO folders have them: ``data.yaml``, ``images/``, ``labels/``.

Format: https://docs.ultralytics.com/datasets/detect, "Ultralytics YOLO format". A label file has
a row an object: ``class x y width height``, centre and size as fractions of the picture; rows of
outlines (``class x1 y1 x2 y2 x3 y3 ...``) become their boxes, as Ultralytics does it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from seatrial.errors import InvalidDataset
from seatrial.extras import require
from seatrial.lifecycle.data.labelled import Category, LabelledImage, LabelledSet, Truth, some

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
# Pictures to Ultralytics and not to us: leaving them out would change the figure unseen.
FOREIGN_SUFFIXES = frozenset({".bmp", ".dng", ".heic", ".jp2", ".mpo", ".pfm", ".tif", ".tiff"})
LABELLING_TOOLS_FILES = frozenset({"classes.txt", "notes.txt"})
EXIF_ORIENTATION = 0x0112
SLACK = 0.01  # how far over the border of the picture a label may reach, as a fraction of it


def read(folder: Path, annotations: Path | None, split: str) -> LabelledSet:
    """See `seatrial.lifecycle.data.labelled.Reader`.

    Raises:
        MissingExtra: PyYAML is not installed.
    """
    path = annotations or folder / "data.yaml"
    config = _config(path)
    names = _names(config, path)
    files = _pictures(_split_entries(config, split, path), path)
    _check_label_files(files)
    rows: list[NDArray[np.float64]] = []
    images: list[LabelledImage] = []
    duplicates = 0
    for number, file in enumerate(files):
        found = _labels(_label_file(file), len(names))
        unique = found[np.sort(np.unique(found, axis=0, return_index=True)[1])]
        duplicates += len(found) - len(unique)
        width, height = _size(file) if file.is_file() else (1, 1)
        images.append(LabelledImage(number + 1, file.name, file, width, height))
        rows.append(_pixels(unique, number, width, height))
    table = np.concatenate(rows) if rows else np.zeros((0, 6))
    if not len(table):
        raise InvalidDataset(f"no picture of {split} in {path} has a label")
    return LabelledSet(
        source=f"yolo:{folder} {split}",
        images=tuple(images),
        categories=tuple(Category(number, name) for number, name in enumerate(names)),
        truth=Truth(
            image=table[:, 0].astype(np.int64),
            category=table[:, 1].astype(np.int64),
            xywh=np.ascontiguousarray(table[:, 2:]),
            area=table[:, 4] * table[:, 5],
            crowd=np.zeros(len(table), np.bool_),
        ),
        notes=(f"{duplicates} labels that were there twice count once",) if duplicates else (),
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
        raise InvalidDataset(f"{path} is not YAML: {error}") from error
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
    """Folders and lists of the split; relative ones are looked for as exporters mean them."""
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


def _pictures(entries: Iterable[Path], path: Path) -> list[Path]:
    found: list[Path] = []
    for entry in entries:
        if entry.is_dir():
            found += (p for p in entry.rglob("*") if p.is_file())
        else:
            lines = (line.strip() for line in entry.read_text().splitlines())
            found += (Path(os.path.normpath(entry.parent / line)) for line in lines if line)
    foreign = sorted(str(p) for p in found if p.suffix.lower() in FOREIGN_SUFFIXES)
    if foreign:
        raise InvalidDataset(
            f"{path}: {len(foreign)} pictures are in formats that are not read: {some(foreign)}",
            hint="convert them to JPEG, PNG or WebP",
        )
    return sorted({p for p in found if p.suffix.lower() in SUFFIXES})


def _label_file(picture: Path) -> Path:
    """The last folder ``images`` of the path becomes ``labels``; the suffix ``.txt``."""
    parts = list(picture.parts)
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index("images")
        parts[last] = "labels"
    return Path(*parts).with_suffix(".txt")


def _check_label_files(pictures: Sequence[Path]) -> None:
    """See that there are labels, and that none is left over in their folders."""
    wanted = {_label_file(picture) for picture in pictures}
    # A list picks from a folder, so what it leaves there is no mistake.
    stems = {p.stem for folder in {p.parent for p in pictures} if folder.is_dir()
             for p in folder.iterdir()}  # fmt: skip
    left = [
        str(file)
        for folder in sorted({file.parent for file in wanted})
        for file in sorted(folder.glob("*.txt"))
        if file not in wanted and file.name not in LABELLING_TOOLS_FILES and file.stem not in stems
    ]
    if left:
        raise InvalidDataset(
            f"{len(left)} label files belong to no picture: {some(left)}",
            hint="complete the pictures, or remove the labels",
        )


def _labels(file: Path, classes: int) -> NDArray[np.float64]:
    """(N, 5): class, centre x, centre y, width, height; a picture without a file has none."""
    if not file.is_file():
        return np.zeros((0, 5))
    rows = []
    for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            rows.append(_row([float(word) for word in line.split()], classes))
        except ValueError as error:
            raise InvalidDataset(f"{file}, line {number}: {error}") from error
    return np.array(rows, np.float64).reshape(-1, 5)


def _row(values: list[float], classes: int) -> list[float]:
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        raise ValueError(f"{len(values)} values; a box has 5: class x y width height")
    number, *numbers = values
    if number not in range(classes):
        raise ValueError(f"class {number:g} is not one of the {classes} in data.yaml, from 0")
    if not all(-SLACK <= value <= 1 + SLACK for value in numbers):
        raise ValueError(f"{numbers} are not fractions of the picture, 0 to 1")
    if len(numbers) == 4:
        return values
    x, y = numbers[0::2], numbers[1::2]
    left, top, right, bottom = min(x), min(y), max(x), max(y)
    return [number, (left + right) / 2, (top + bottom) / 2, right - left, bottom - top]


def _pixels(rows: NDArray[np.float64], image: int, width: int, height: int) -> NDArray[np.float64]:
    """(N, 6): image, class, left, top, width, height in pixels."""
    scale = np.array([width, height] * 2, np.float64)
    centre, size = rows[:, 1:3] * scale[:2], rows[:, 3:] * scale[2:]
    return np.column_stack([np.full(len(rows), image), rows[:, 0], centre - size / 2, size])


def _size(file: Path) -> tuple[int, int]:
    """Upright (width, height), pixels, from the header."""
    try:
        with Image.open(file) as picture:
            width, height = picture.size
            sideways = picture.getexif().get(EXIF_ORIENTATION, 1) in range(5, 9)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError) as error:
        raise InvalidDataset(f"{file} is damaged or not a picture: {error}") from error
    return (height, width) if sideways else (width, height)


def label_texts(labelled: LabelledSet) -> list[str]:
    """The label file of each picture of a set; empty for one without objects.

    Fractions have ten digits: pixels come back as they were.
    """
    lines: list[list[str]] = [[] for _ in labelled.images]
    truth = labelled.truth
    for image, category, (left, top, width, height) in zip(
        truth.image.tolist(), truth.category.tolist(), truth.xywh.tolist(), strict=True
    ):
        across, down = labelled.images[image].width, labelled.images[image].height
        if across is None or down is None:
            raise ValueError(f"{labelled.images[image].name} has no size")
        centre = ((left + width / 2) / across, (top + height / 2) / down)
        values = (*centre, width / across, height / down)
        lines[image].append(f"{category} " + " ".join(f"{value:.10g}" for value in values))
    return ["".join(f"{line}\n" for line in own) for own in lines]


def config_text(categories: Sequence[Category], splits: Sequence[str]) -> str:
    """A ``data.yaml``; without ``path``, so that the folder can be moved."""
    entries = [f"{split}: images/{split}" for split in splits]
    # JSON's strings are YAML's too, whatever is in them.
    names = [f"  {number}: {json.dumps(c.name)}" for number, c in enumerate(categories)]
    return "\n".join([*entries, f"nc: {len(categories)}", "names:", *names]) + "\n"
