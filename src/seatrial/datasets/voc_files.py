"""Where a dataset in Pascal VOC's format has its files.

The folder has ``Annotations/``, ``JPEGImages/`` and ``ImageSets/Main/train.txt``, or XML files and
images side by side, in one folder or in one for each split (Roboflow).
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeGuard

from seatrial.datasets.labels import folders_in, only_one, split_named
from seatrial.datasets.locate import bare, possible
from seatrial.datasets.voc_xml import ROOT, Annotation, parse
from seatrial.errors import InvalidDataset
from seatrial.system.files import bounded_bytes
from seatrial.system.images import is_macos_file
from seatrial.system.text import MOST_BYTES, lines, read_text

ANNOTATIONS = ("Annotations", "annotations", "labels")  # the last is FiftyOne's
IMAGE_FOLDERS = ("JPEGImages", "images", "Images", "data")
LISTS = Path("ImageSets") / "Main"
_QUOTED = re.compile(r'"(?P<name>[^"]+)"(\s+(1|0|-1))?')


class Unusable(NamedTuple):
    """An XML file that cannot be used.

    Attributes:
        where: The file, with the line where it is known.
        message: What is wrong there.
        remedy: What to do about it.
    """

    where: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class SetLayout:
    """Where the files of one set are.

    Attributes:
        annotations: Folder of the XML files.
        images: Folders that images are looked for in.
        listed: File with the names of the set's images; None if all XML files belong to it.
    """

    annotations: Path
    images: tuple[Path, ...]
    listed: Path | None


def annotations_home(folder: Path) -> Path:
    """The folder of the XML files: one of the usual names that has any, or the folder itself."""
    homes = (folder / name for name in ANNOTATIONS)
    return next((home for home in homes if home.is_dir() and _xml_files(home)), folder)


def _xml_files(home: Path) -> list[Path]:
    """The XML files of a folder, sorted; with those of its subfolders where it holds no images."""
    found = home.rglob("*") if home.name in ANNOTATIONS else home.glob("*")
    return sorted(p for p in found if p.suffix.lower() == ".xml" and not is_macos_file(p))


def has_annotation(home: Path) -> bool:
    """Whether any XML file is an annotation: others can lie beside images, and some be broken."""
    return any(is_annotation(read_file(path)) for path in _xml_files(home))


def read_file(path: Path) -> Annotation | Unusable:
    """The content of an XML file, or why it cannot be used."""
    try:
        return parse(bounded_bytes(path, MOST_BYTES), path)
    except OSError as error:
        return Unusable(str(path), f"cannot be read: {error.strerror}", "copy the file again")
    except InvalidDataset as error:
        return Unusable(str(path), error.message, error.hint)
    except ValueError as error:
        message, line, *remedy = error.args
        place = f"{path}, line {line}"
        return Unusable(place, message, *remedy or ["copy the file again, or remove it"])


def is_annotation(found: Annotation | Unusable) -> TypeGuard[Annotation]:
    """Whether the content of a file is an annotation."""
    return isinstance(found, Annotation) and found.root == ROOT


def _may_be_annotation(found: Annotation | Unusable) -> bool:
    return isinstance(found, Unusable) or is_annotation(found)


def split_lists(folder: Path) -> dict[str, list[Path]]:
    """Split -> its lists of images, of which there should be one."""
    return _by_split(sorted((folder / LISTS).glob("*.txt")))


def split_folders(folder: Path) -> dict[str, list[Path]]:
    """Split -> its folders, in which annotations lie; there should be one."""
    named = [path for path in folders_in(folder) if split_named(path.name)]
    return _by_split(path for path in named if has_annotation(annotations_home(path)))


def _by_split(paths: Iterable[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in paths:
        if split := split_named(path.stem):
            found.setdefault(split, []).append(path)
    return found


def layout_of(folder: Path, split: str) -> SetLayout:
    """Where the files of a set are.

    Raises:
        InvalidDataset: The folder has no such split, two for it, or no annotation.
    """
    lists = split_lists(folder)
    folders = {} if lists else split_folders(folder)
    if lists and split not in lists:
        raise InvalidDataset(f"{folder / LISTS} has no {split}.txt", hint="choose another --split")
    if folders and split not in folders:
        raise InvalidDataset(f"{folder} has no folder {split}", hint="choose another --split")
    home = only_one(folders.get(split, [folder]), split)
    listed = only_one(lists[split], split) if split in lists else None
    annotations = annotations_home(home)
    if not has_annotation(annotations):
        raise InvalidDataset(
            f"{annotations} holds no XML files of Pascal VOC",
            hint="Pascal VOC has a file for each image, which begins with <annotation>",
        )
    images = [home / name for name in IMAGE_FOLDERS if (home / name).is_dir()]
    return SetLayout(annotations, (*images, annotations), listed)


def all_files(folder: Path) -> Mapping[Path, Annotation | Unusable]:
    """The content of all XML files of a dataset, in all splits."""
    places = [folder, *(place for own in split_folders(folder).values() for place in own)]
    homes = set(map(annotations_home, places))
    paths = [path for home in sorted(homes) for path in _xml_files(home)]
    stats = [(path, path.stat()) for path in paths if path.is_file()]
    return _contents(
        tuple((path, stat.st_mtime_ns, stat.st_size, stat.st_ino) for path, stat in stats)
    )


def unlisted(folder: Path, known: Set[Path]) -> list[Path]:
    """XML files of a dataset that are not known, and folders of annotations beside its splits.

    Args:
        folder: Folder of the dataset.
        known: The XML files of all its sets.
    """
    contents = all_files(folder)
    strange = [p for p in sorted(contents.keys() - known) if _may_be_annotation(contents[p])]
    if not split_lists(folder) and split_folders(folder):
        others = (home for home in folders_in(folder) if not split_named(home.name))
        strange += [home for home in others if has_annotation(annotations_home(home))]
    return strange


@functools.lru_cache(maxsize=1)
def _contents(
    files: tuple[tuple[Path, int, int, int], ...],
) -> Mapping[Path, Annotation | Unusable]:
    """The content of files; kept for the other splits, which need all of them too."""
    return {path: read_file(path) for path, *_ in files}


def listed_files(layout: SetLayout) -> Iterator[tuple[Path, str]]:
    """XML files of the set, and the place where each is named."""
    found = _xml_files(layout.annotations)
    if layout.listed is None:
        yield from ((path, str(path)) for path in found)
        return
    stems = {str(p.relative_to(layout.annotations).with_suffix("")): p for p in found}
    for number, line in enumerate(lines(read_text(layout.listed, error=InvalidDataset)), 1):
        if line.strip():
            path = next((stems[name] for name in _stems(line) if name in stems), None)
            expected = layout.annotations / possible(f"{line.strip()}.xml")
            yield path or expected, f"{layout.listed}, line {number}"


def _stems(line: str) -> Iterator[str]:
    """Stems that a line of a list can mean, the likeliest first.

    A name can have spaces; in lists of one class, 1, 0 or -1 stands behind it. Some tools list
    the files of images; CVAT writes names with spaces between double quotes.
    """
    stripped = line.strip()
    yield from (line, stripped)
    if quoted := _QUOTED.fullmatch(stripped):
        yield from _stems(quoted["name"])
    words = stripped.rsplit(maxsplit=1)
    if len(words) == 2 and words[1] in ("1", "0", "-1"):
        yield words[0]
    yield from (os.path.splitext(bare(stripped))[0], os.path.splitext(stripped)[0])
