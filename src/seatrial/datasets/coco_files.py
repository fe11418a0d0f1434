"""The annotation files of a COCO folder: one, or one for each split, as tools place them."""

from __future__ import annotations

import contextlib
import functools
import re
import shlex
from pathlib import Path

from seatrial.datasets.labels import SPLITS, folders_in, some, split_named
from seatrial.errors import InvalidDataset
from seatrial.system.images import is_macos_file
from seatrial.system.text import as_utf8

# Names of the JSON file that this project, FiftyOne, others and Roboflow write.
USUAL_NAMES = ("instances.json", "labels.json", "annotations.json", "_annotations.coco.json")
PREFIX = "instances_"
ROBOFLOW = "_annotations.coco.json"
# COCO's files for other tasks, which list the objects of ``instances_`` again, or none.
OTHER_TASKS = ("captions_", "image_info_", "panoptic_", "person_keypoints_", "stuff_")
DETAILS_FILE = "details.json"
SECTIONS = (b'"images"', b'"annotations"', b'"categories"')


def by_split(folder: Path) -> dict[str, list[Path]]:
    """Split -> its files: those at the usual places, or else those that are named for it.

    One file that is named for a split, at no usual place, is the whole set.
    """
    named = _named_for_splits(folder)
    found: dict[str, list[Path]] = {}
    for split in SPLITS:
        of_split = [path for path, own in named.items() if own == split]
        usual = [path for path in of_split if _usual_split(path)]
        own = [path for path in of_split if path.name.startswith(PREFIX)]
        if of_split:
            found[split] = usual or (own if len(own) == 1 else of_split)
    return found if len(found) > 1 or any(map(_usual_split, named)) else {}


def _named_for_splits(folder: Path) -> dict[Path, str]:
    """Annotation file -> the split that its name says, or the name of its folder."""
    found: dict[Path, str] = {}
    for path in _candidates(folder):
        split = _usual_split(path) or _split_in(path.stem)
        if not split and path.parent != folder:
            inside = path.relative_to(folder).parts[:-1]
            split = next(filter(None, map(split_named, reversed(inside))), "")
        if split and (_usual_split(path) or _has_sections(path)):
            found[path] = split
    return found


def _usual_split(path: Path) -> str:
    """The split of a file at a place where a tool writes one for each; empty for others."""
    home, name = path.parent.name, path.name
    if home == "annotations" and name.startswith(PREFIX):
        return split_named(path.stem.removeprefix(PREFIX))
    return split_named(home) if name == ROBOFLOW else ""


def _split_in(stem: str) -> str:
    """The split that a word of a file's name says."""
    return next(filter(None, map(split_named, re.split(r"[^a-z]+", stem.casefold()))), "")


def _candidates(folder: Path) -> list[Path]:
    """JSON files in the folder, in those named for splits, and in ``annotations`` of both."""
    own = [path for path in folders_in(folder) if split_named(path.name)]
    homes = [home for path in (folder, *own) for home in (path, path / "annotations")]
    found = sorted(path for home in homes for path in home.glob("*.json"))
    return [path for path in found if path.is_file() and not is_macos_file(path)]


def unused_files(folder: Path) -> list[Path]:
    """Annotation files of the folder that are in none of its sets, sorted.

    COCO's files for other tasks are none of them, nor are files in deeper folders.
    """
    splits = by_split(folder)
    used = {path for paths in (splits.values() or [single(folder)]) for path in paths}
    beside = {path for home in folders_in(folder) for path in _at_usual_names(home)}
    strange = sorted({*_candidates(folder), *beside} - used)
    return [p for p in strange if not p.name.startswith(OTHER_TASKS) and _has_sections(p)]


def _at_usual_names(home: Path) -> list[Path]:
    places = [home / part / name for part in ("", "annotations") for name in USUAL_NAMES]
    return [place for place in places if place.is_file()]


def _has_sections(path: Path) -> bool:
    if is_macos_file(path) or path.name == DETAILS_FILE:
        return False
    stat = path.stat()
    return _sections_in(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=64)
def _sections_in(path: Path, *_: int) -> bool:
    """Whether the file has COCO's sections; remembered, since it can be large."""
    with contextlib.suppress(OSError, InvalidDataset):
        data = as_utf8(path.read_bytes(), origin=path, error=InvalidDataset)
        return all(section in data for section in SECTIONS)
    return False


def single(folder: Path) -> list[Path]:
    """The file with a usual name; without one, every file that has COCO's sections."""
    usual = [folder / name for name in USUAL_NAMES if (folder / name).is_file()]
    homes = (folder, folder / "annotations")
    return usual[:1] or [p for p in _candidates(folder) if p.parent in homes and _has_sections(p)]


def annotation_file(folder: Path, split: str) -> Path:
    """The annotation file of a split.

    Raises:
        InvalidDataset: There is none, or several.
    """
    splits = by_split(folder)
    found = splits.get(split, [] if splits else single(folder))
    if len(found) == 1:
        return found[0]
    if found:
        names = some([str(path.relative_to(folder)) for path in found])
        raise InvalidDataset(
            f"{folder} has several annotation files: {names}",
            hint=f"choose one, for example: --annotations {shlex.quote(str(found[0]))}",
        )
    if splits:
        known = " or ".join(splits)
        raise InvalidDataset(
            f"{folder} has no {split!r} set", hint=f"choose another with --split: {known}"
        )
    raise InvalidDataset(
        f"no annotation file named, and none of {', '.join(USUAL_NAMES)} is in {folder}, "
        f"and no annotations/{PREFIX}{split}.json",
        hint="--annotations FILE, for example instances_val2017.json",
    )


def image_homes(folder: Path, annotations: Path) -> list[Path]:
    """Folders that image names can be relative to, the innermost first.

    So a name with a folder, ``train/a.jpg``, is not taken for ``a.jpg`` of another split.
    """
    stem = annotations.stem.removeprefix(PREFIX)
    split = _split_in(stem)
    inner = [home.name for place in (folder, folder / "images") for home in folders_in(place)]
    beside = [name for name in inner if split and split_named(name) == split]
    own = [stem, split, *beside]
    around = [folder / s for s in own if s]
    around += [folder] if annotations.parent == folder else [annotations.parent, folder]
    inside = [folder / "images" / s for s in own if s]
    inside += [home / part for home in around for part in ("images", "data", "")]
    homes = [home for home in dict.fromkeys(inside) if home.is_dir()]
    return homes or [folder]
