"""Classes and splits of a YOLO folder, from the file in which its tool writes them.

=====================  ==========================================================================
data.yaml              Ultralytics, Roboflow; ``data.yml``, ``dataset.yaml`` (FiftyOne), any name
obj.data, obj.names    Darknet, CVAT's "YOLO 1.1": lists of images for each split
obj.names              FiftyOne's YOLOv4: images and labels side by side in ``data/``
classes.txt            LabelImg, Label Studio: labels beside images, or ``images/`` and ``labels/``
=====================  ==========================================================================
"""

from __future__ import annotations

import functools
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seatrial.datasets.labels import SPLITS, WHOLE, folders_in, only_one, some, split_named
from seatrial.datasets.locate import Locator, relative, spellings, tails
from seatrial.errors import InvalidDataset, shortened, shown
from seatrial.report.numbers import counted
from seatrial.system.images import image_files, is_macos_file, only_images
from seatrial.system.text import lines, numbered_names, read_text
from seatrial.system.yaml_text import read_yaml

USUAL = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
YAML = frozenset({".yaml", ".yml"})
CLASS_LISTS = ("classes.txt", "obj.names", "labels/classes.txt")
# Text files of labelling tools that are no labels.
TOOLS_FILES = frozenset({"classes.txt", "labels.txt", "notes.txt", "predefined_classes.txt"})
# Values of the key ``task`` that say what long rows are; "pose" needs kpt_shape.
OUTLINE_TASKS = frozenset({"segment", "obb", "detect"})
_NAMES = re.compile(r"^names\s*:", re.MULTILINE)
ROW = re.compile(r"\s*\d+(?:\.0*)?(?:\s+[-+]?[\d.]+(?:e[-+]?\d+)?){4,}\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class YoloConfig:
    """Classes, splits and kind of rows, as a YOLO folder states them.

    Attributes:
        file: File that names the classes.
        names: Names of the classes.
        splits: Split, or `WHOLE`, -> its folders and lists of images, as the file names them.
        homes: Folders that these can be relative to.
        key_points: ``kpt_shape``: number of key points of an object, and of values of each.
        outlines: Whether the file says that rows longer than a box are outlines.
        beside: Whether label files may lie beside images that are in a folder ``images``, as
            Darknet and LabelImg write them; Ultralytics looks in the folder ``labels`` alone.
    """

    file: Path
    names: tuple[str, ...]
    splits: Mapping[str, tuple[str, ...]]
    homes: tuple[Path, ...]
    key_points: tuple[int, int] | None = None
    outlines: bool = False
    beside: bool = False


def find(folder: Path) -> list[Path]:
    """The files that can be the configuration of a folder; the first of the usual ones alone."""
    usual = [folder / name for name in USUAL if (folder / name).is_file()]
    if usual:
        return usual[:1]
    others = [
        path for path in sorted(folder.glob("*.y*ml")) if path.suffix in YAML and path.is_file()
    ]
    named = [path for path in others if not is_macos_file(path) and _NAMES.search(_glance(path))]
    if named:
        return named
    darknet = [
        path
        for path in sorted(folder.glob("*.data"))
        if path.is_file() and "names" in _pairs(_glance(path))
    ]
    if darknet:
        return darknet
    lists = [folder / name for name in CLASS_LISTS if (folder / name).is_file()]
    return lists[:1] if lists and _has_rows(folder) else []


def _glance(path: Path) -> str:
    try:
        return read_text(path, error=InvalidDataset)
    except InvalidDataset:  # read in earnest, it is an error
        return ""


def _has_rows(folder: Path) -> bool:
    """Whether a text file in the folders where labels lie begins with a row of numbers."""
    homes = [
        folder,
        folder / "labels",
        folder / "images",
        folder / "data",
        *(folder / f"obj_{kind}_data" for kind in DARKNET),
    ]
    homes += [home for deeper in ("labels/*", "*/labels", "*/data") for home in folder.glob(deeper)]
    homes += [home for home in folder.glob("*") if split_named(home.name)]
    for home in homes:
        for file in sorted(home.glob("*.txt"))[:20] if home.is_dir() else ():
            first = next((line for line in lines(_glance(file)) if line.strip()), "")
            if file.name not in TOOLS_FILES and ROW.fullmatch(first):
                return True
    return False


def configuration(folder: Path, annotations: Path | None) -> YoloConfig:
    """The configuration of a folder.

    Args:
        folder: Folder of the dataset.
        annotations: The file, where it is not at its usual place.

    Raises:
        InvalidDataset: There is none or several, or it cannot be used.
        MissingExtra: PyYAML is not installed.
    """
    found = [annotations] if annotations else find(folder)
    if not found:
        raise InvalidDataset(
            f"{folder} has no data.yaml, no obj.data and no classes.txt with labels beside it",
            hint="a YOLO folder says its classes in one of them; name it with --annotations FILE",
        )
    if len(found) > 1:
        names = some([path.name for path in found])
        raise InvalidDataset(
            f"{folder} has several YOLO configurations: {names}",
            hint=f"choose one, for example: --annotations {shlex.quote(str(found[0]))}",
        )
    file = found[0]
    if file.exists() and not file.is_file():
        raise InvalidDataset(f"{file} is not a regular file", hint="give a data.yaml or obj.data")
    if file.suffix.lower() in YAML:
        return _of_yaml(file)
    if file.suffix.lower() == ".data":
        return _of_darknet(file)
    return _of_class_list(folder, file)


# -- data.yaml -----------------------------------------------------------------------------------


def _of_yaml(path: Path) -> YoloConfig:
    if not path.is_file():
        return _read_config(path)  # its error
    stat = path.stat()
    return _unchanged(path, stat.st_mtime_ns, stat.st_size, stat.st_ino)


@functools.lru_cache(maxsize=8)
def _unchanged(path: Path, *_: int) -> YoloConfig:
    """The configuration; remembered, since each split needs it and PyYAML is slow."""
    return _read_config(path)


def _read_config(path: Path) -> YoloConfig:
    config = _yaml(path)
    names = _names(config.get("names"), path)
    _check_count(config.get("nc"), len(names), path)
    splits = {}
    for key, value in config.items():
        split = split_named(key)
        if split and value:
            if split in splits:
                raise _two_keys(path, split, key)
            splits[split] = _entries(value, key, path)
    home = config.get("path") or ""
    if not isinstance(home, str):
        raise InvalidDataset(f"{path}: path must be a folder", hint="remove it, or name one")
    task, key_points = config.get("task"), _kpt_shape(config.get("kpt_shape"), path)
    if task == "pose" and key_points is None:
        raise InvalidDataset(
            f"{path} says task: pose, and no kpt_shape",
            hint="write the number of key points and of values of each, for example "
            "kpt_shape: [17, 3]",
        )
    if task == "classify":
        raise InvalidDataset(
            f"{path} says task: classify: its labels are classes of whole images, not boxes",
            hint="draw boxes, for example with seatrial data label",
        )
    return YoloConfig(
        file=path,
        names=names,
        splits={split: splits[split] for split in SPLITS if split in splits},
        homes=(path.parent / home, path.parent),
        key_points=key_points,
        outlines=isinstance(task, str) and task in OUTLINE_TASKS,
    )


def _yaml(path: Path) -> dict[str, Any]:
    """The keys of a YAML file; scalars are text as it is written, but for null."""
    try:
        config = read_yaml(
            path,
            error=InvalidDataset,
            extra="evaluate",
            hint="put names with special characters between quotes",
        )
    except InvalidDataset as error:
        hint = error.hint or "a YOLO folder has a data.yaml; name another with --annotations FILE"
        raise InvalidDataset(error.message, hint=hint) from error
    if not isinstance(config, dict):
        raise InvalidDataset(
            f"{path} is not a YOLO dataset: it has no keys",
            hint="it needs names, and train, val or test",
        )
    return {str(key): value for key, value in config.items()}


def _names(names: Any, path: Path) -> tuple[str, ...]:
    if isinstance(names, dict):
        numbers = {_whole(key): name for key, name in names.items()}
        if None in numbers or sorted(numbers) != list(range(len(names))):  # type: ignore[type-var]
            raise InvalidDataset(
                f"{path} has no usable 'names': a list, or numbers from 0 to names",
                hint="YOLO counts classes from 0, without gaps",
            )
        names = [numbers[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise InvalidDataset(
            f"{path} has no usable 'names': a list, or numbers from 0 to names",
            hint="for example names: [cat, dog]",
        )
    for number, name in enumerate(names):
        if not isinstance(name, str):
            what = "no name" if name is None else f"the name {shown(name)}, which is not text"
            raise InvalidDataset(
                f"{path}: class {number} has {what}",
                hint="put the name between quotes if it is meant as text: 'null'",
            )
    return tuple(names)


def _whole(value: Any) -> int | None:
    text = value.strip() if isinstance(value, str) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _check_count(count: Any, names: int, path: Path) -> None:
    if count is not None and _whole(count) != names:
        raise InvalidDataset(
            f"{path} says nc: {count if isinstance(count, str) else shown(count)} and names "
            f"{counted(names, 'class', 'classes')}",
            hint="correct nc or the names",
        )


def _entries(value: Any, key: str, path: Path) -> tuple[str, ...]:
    entries = [value] if isinstance(value, str) else value
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise InvalidDataset(
            f"{path}: {key} must be a folder, a list of images or several of them",
            hint=f"for example {key}: images/{key}",
        )
    return tuple(entries)


def _kpt_shape(value: Any, path: Path) -> tuple[int, int] | None:
    if value is None:
        return None
    shape = [_whole(number) for number in value] if isinstance(value, list) else []
    if len(shape) != 2 or not shape[0] or shape[1] not in (2, 3):
        raise InvalidDataset(
            f"{path}: kpt_shape must be the number of key points, and 2 or 3 values of each",
            hint="for example kpt_shape: [17, 3]",
        )
    return shape[0], shape[1]


# -- Darknet, and lists of classes ---------------------------------------------------------------

DARKNET = {"train": "train", "valid": "val", "test": "test"}


def _pairs(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in lines(text) if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _of_darknet(path: Path) -> YoloConfig:
    """CVAT's paths begin with ``data/``, which is the folder of the file itself."""
    pairs = _pairs(read_text(path, error=InvalidDataset))
    file = Locator([path.parent]).find(pairs.get("names", ""))
    if not file.is_file():
        raise InvalidDataset(
            f"{path} names the list of classes {shown(pairs.get('names', ''))}, which is not there",
            hint="correct its line names = FILE",
        )
    names = class_list(file)
    _check_count(pairs.get("classes"), len(names), path)
    splits: dict[str, tuple[str, ...]] = {}
    for key, value in pairs.items():
        split = split_named(key)
        if split and value and (key, value) != ("eval", "coco"):  # how Darknet scores
            if split in splits:
                raise _two_keys(path, split, key)
            splits[split] = (value,)
    return YoloConfig(file, names, splits, (path.parent,), beside=True)


def _two_keys(path: Path, split: str, key: str) -> InvalidDataset:
    return InvalidDataset(
        f"{path} has two keys for the {split} set, {shown(key)} among them",
        hint="remove one of them",
    )


def class_list(path: Path) -> tuple[str, ...]:
    """The classes in a list, one a line; empty lines at its end are left out.

    Raises:
        InvalidDataset: It cannot be read, is empty, or has an empty line between two names.
    """
    text = read_text(path, error=InvalidDataset)
    names = numbered_names(text, origin=path, error=InvalidDataset)
    if not names:
        raise InvalidDataset(f"{path} names no class", hint="write one name a line, class 0 first")
    return names


def _of_class_list(folder: Path, path: Path) -> YoloConfig:
    places: dict[str, list[Path]] = {}
    for split, place in _split_folders(folder):
        places.setdefault(split, []).append(place)
    found = {
        split: (str(only_one(own, split).relative_to(folder)),) for split, own in places.items()
    }
    if not found:
        found[WHOLE] = next(
            ((home,) for home in ("images", "data") if (folder / home).is_dir()), (".",)
        )
    return YoloConfig(path, class_list(path), found, (folder,), beside=True)


def split_of_folder(name: str) -> str:
    """The split of a folder by its name, CVAT's ``obj_train_data`` among them; empty for none."""
    return split_named(name.removeprefix("obj_").removesuffix("_data"))


def _split_folders(folder: Path) -> Iterator[tuple[str, Path]]:
    """Splits and their folders of images: images/train, train/images, obj_train_data, train."""
    for home in (folder / "images", folder):
        for place in folders_in(home):
            split = split_of_folder(place.name)
            inner = (place / name for name in ("images", "data"))
            own = next((one for one in inner if one.is_dir()), place)
            if split and image_files(own):
                yield split, own


# -- images --------------------------------------------------------------------------------------


def located(config: YoloConfig, split: str) -> list[Path]:
    """The folders and lists of a split, as the exporters mean them.

    Raises:
        InvalidDataset: There is no such split, or one of them is not there.
    """
    if split not in config.splits:
        known = " or ".join(name for name in config.splits if name) or "none"
        raise InvalidDataset(
            f"{config.file} has no {split!r} set", hint=f"choose another with --split: {known}"
        )
    found = []
    for entry in config.splits[split]:
        tried = list(_places(config, entry))
        where = next((one for one in tried if os.path.exists(one)), None)
        if where is None:
            places = some([shortened(str(one), 150) for one in dict.fromkeys(tried)])
            raise InvalidDataset(
                f"{config.file}: the {split or 'data'} set {shown(entry)} is not at {places}",
                hint="correct the path in the file, or move the folder there",
            )
        if reason := _no_set(where.resolve()):
            raise InvalidDataset(
                f"{config.file}: the {split or 'data'} set {shown(entry)} is {reason}",
                hint="name a folder of images, or a text file that lists them",
            )
        found.append(where)
    return found


def _no_set(place: Path) -> str:
    """Why a place is neither a folder of images nor a list; empty where it is one."""
    if place.parent == place:
        return "the whole file system"
    return "" if place.is_dir() or place.is_file() else "a device or a pipe"


def _places(config: YoloConfig, entry: str) -> Iterator[Path]:
    for spelling in spellings(entry):
        yield from (home / spelling for home in config.homes)
        # Roboflow writes ../valid/images where ./valid/images is meant.
        yield config.homes[-1] / spelling.removeprefix("../")
    # A path of another machine, and CVAT's data/train.txt: the last parts of it.
    name = relative(entry)
    if name.startswith("/") or name != entry or name.split("/")[0] == "data":
        yield from (config.homes[-1] / tail for tail in tails(name))


def listed(file: Path, homes: Sequence[Path]) -> list[Path]:
    """The images that a list names, one a line, those that are not there among them.

    Raises:
        InvalidDataset: The file is not text.
    """
    locator = Locator([file.parent, *homes])
    names = [line.strip() for line in lines(read_text(file, error=InvalidDataset))]
    found = (Path(os.path.normpath(locator.find(name))) for name in names if name)
    return only_images(found)
