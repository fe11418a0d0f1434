"""Labels in a YOLO folder: a text file for each image, with a row for each object.

Format: https://docs.ultralytics.com/datasets/detect, "Ultralytics YOLO format". The rows are those
of `seatrial.datasets.yolo_rows`; outlines are read as their boxes, as Ultralytics does it. Classes
and splits come from `seatrial.datasets.yolo_config`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seatrial.datasets.issues import LabelIssue, OnIssue, refuse, size_or_issue
from seatrial.datasets.labels import (
    WHOLE,
    Category,
    Details,
    LabelledImage,
    LabelledSet,
    Truth,
    folders_in,
)
from seatrial.datasets.yolo_config import (
    YoloConfig,
    configuration,
    find,
    listed,
    located,
    split_of_folder,
)
from seatrial.datasets.yolo_label_files import check_label_files, label_file_of
from seatrial.datasets.yolo_rows import YoloRow, ambiguous, box_of, read_rows
from seatrial.errors import InvalidDataset
from seatrial.system.images import foreign_reason, image_files

CONFIG = "data.yaml"
IMAGE_HOMES = frozenset({"images", "data", "JPEGImages"})  # folders that tools put images into


def holds(folder: Path) -> bool:
    """See `seatrial.datasets.read.Format.holds`."""
    return bool(find(folder))


def splits(folder: Path, annotations: Path | None) -> tuple[str, ...]:
    """See `seatrial.datasets.read.Format.splits`."""
    return tuple(split for split in configuration(folder, annotations).splits if split)


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
    config = configuration(folder, annotations)
    whole = split not in config.splits and WHOLE in config.splits
    entries = located(config, WHOLE if whole else split)
    named = _named_images(entries, config, on_issue)
    check_label_files(entries, sorted(named), on_issue, beside=config.beside)
    images: list[LabelledImage] = []
    found: list[tuple[int, YoloRow]] = []  # image, row
    for number, (file, name) in enumerate(_readable(named, on_issue)):
        width, height = size_or_issue(file, on_issue)
        label_file = label_file_of(file, beside=config.beside)
        images.append(LabelledImage(number + 1, name, file, width, height, label_file, True))
        rows = read_rows(label_file, len(config.names), config.key_points, on_issue)
        found += ((number, row) for row in rows)
    _ask_what_rows_are(found, config, on_issue)
    kept, twice = _boxes(found, images, config, on_issue)
    if not kept:
        where = f"no image of {split or 'the set'} in {config.file} has a label"
        on_issue(LabelIssue("no-labels", str(config.file), where, _why_no_labels(images)))
    table = np.array([box for _, _, box, _ in kept], np.float64).reshape(-1, 5)
    return LabelledSet(
        source=f"yolo:{folder} {split}".strip(),
        images=tuple(images),
        categories=tuple(Category(number, name) for number, name in enumerate(config.names)),
        truth=Truth.of(
            [image for image, *_ in kept],
            table[:, 0],
            _pixels(table[:, 1:], images, [image for image, *_ in kept]),
            mark=[line for _, line, *_ in kept],
        ),
        notes=(f"labels that are there twice count once: {twice}",) if twice else (),
        details=Details(tuple({} for _ in images), tuple(row[3] for row in kept), {})
        if details
        else None,
    )


def left_out(folder: Path, sets: Mapping[str, LabelledSet]) -> list[Path]:
    """See `seatrial.datasets.read.Format.left_out`.

    They are folders of labelled images beside those of the sets, and lists that the configuration
    does not name. A list may leave images of a folder out.
    """
    config = configuration(folder, None)
    images = [image for labelled in sets.values() for image in labelled.images]
    known = set(_real(image.path for image in images))

    def strange(found: Sequence[Path]) -> bool:
        pairs = zip(_real(found), found, strict=True)
        fresh = (image for real, image in pairs if real not in known)
        return any(label_file_of(image, beside=config.beside).is_file() for image in fresh)

    homes = {path.parent for path in known}
    above = {place for home in homes for place in (home, *home.parents)}
    places = [place for home in (folder, folder / "images") for place in folders_in(home)]
    outside = [
        place
        for place in places
        if place != folder / "images"
        and (real := place.resolve()) not in above
        and not homes.intersection(real.parents)
    ]
    beside = [place for place in outside if strange(image_files(place))]
    for file in _other_lists(folder, config, images):
        with contextlib.suppress(InvalidDataset):  # not text, so no list
            beside += [file] if strange(listed(file, config.homes)) else []
    return beside


def _real(paths: Iterable[Path]) -> list[Path]:
    """The paths with their folders as they are on the disk, so that two spellings are one."""
    found = list(paths)
    homes = {home: home.resolve() for home in {path.parent for path in found}}
    return [homes[path.parent] / path.name for path in found]


def _other_lists(
    folder: Path, config: YoloConfig, images: Sequence[LabelledImage]
) -> Iterator[Path]:
    """Text files in the folder that no split names and that are no labels of images."""
    if WHOLE not in config.splits:
        used = [config.file, *(i.labels for i in images if i.labels is not None)]
        for split in config.splits:
            with contextlib.suppress(InvalidDataset):  # told where the split was read
                used += located(config, split)
        own, texts = set(_real(used)), sorted(folder.glob("*.txt"))
        for real, file in zip(_real(texts), texts, strict=True):
            if file.is_file() and real not in own:
                yield file


def _why_no_labels(images: Sequence[LabelledImage]) -> str:
    """The remedy where label files lie beside images, which YOLO does not look for there."""
    for image in images:
        own = image.path.with_suffix(".txt")
        if image.labels is not None and own != image.labels and own.is_file():
            return (
                f"label files lie beside the images: move {own} to {image.labels}, and the others"
            )
    return ""


_Box = tuple[int, int, list[float], dict[str, Any]]  # image, line, class and fractions, details


def _boxes(
    found: Sequence[tuple[int, YoloRow]],
    images: Sequence[LabelledImage],
    config: YoloConfig,
    on_issue: OnIssue,
) -> tuple[list[_Box], int]:
    """The boxes of all rows, each once, and the number of rows that were there twice."""
    seen: set[tuple[float, ...]] = set()
    kept: list[_Box] = []
    for number, (line, values) in found:
        image = images[number]
        size = (image.width or 1, image.height or 1)
        box, extra = box_of(values, size, config.key_points)
        if (number, *box) in seen:
            where = f"{image.labels}, line {line}"
            on_issue(LabelIssue("duplicate-box", where, "the same label is there twice"))
            continue
        seen.add((number, *box))
        kept.append((number, line, box, extra))
    return kept, len(found) - len(kept)


def _ask_what_rows_are(
    found: Sequence[tuple[int, YoloRow]], config: YoloConfig, on_issue: OnIssue
) -> None:
    """Make an issue of rows that read as outlines and as boxes with key points."""
    if config.key_points is not None or config.outlines:
        return
    shape = ambiguous([row.values for _, row in found])
    if shape:
        message = "all rows longer than a box read as outlines, and as boxes with key points"
        remedy = f"say which in data.yaml: kpt_shape: {shape}, or task: segment for outlines"
        on_issue(LabelIssue("labels-unreadable", str(config.file), message, remedy))


def _named_images(
    entries: Sequence[Path], config: YoloConfig, on_issue: OnIssue
) -> dict[Path, str]:
    """The image files of a split, and their names in the folder or list they are in."""

    def cycle(link: Path) -> None:
        on_issue(LabelIssue("link-cycle", str(link), f"leads to {link.resolve()}"))

    named: dict[Path, str] = {}
    for entry in entries:
        if entry.is_dir():
            try:
                found = image_files(entry, on_cycle=cycle)
            except OSError as error:
                raise InvalidDataset(
                    f"{config.file} names {entry}, where {error.filename} cannot be read: "
                    f"{error.strerror}",
                    hint="name a folder of images",
                ) from error
            named |= {p: str(p.relative_to(entry)) for p in found}
        else:
            named |= _names_of_listed(listed(entry, config.homes), config.homes)
    return named


def _names_of_listed(images: Sequence[Path], homes: Sequence[Path]) -> dict[Path, str]:
    """Names of the images of a list: with their folders, from the first that is no usual one.

    So ``obj_train_data/cam0/1.jpg`` is ``cam0/1.jpg``, which it would be in the folder of a split.
    """
    below = {image: _below(image, homes) for image in images}
    short = {image: _without_usual(parts) for image, parts in below.items()}
    if len(set(short.values())) < len(short):
        return {image: str(PurePath(*parts)) for image, parts in below.items()}
    return short


def _below(image: Path, homes: Sequence[Path]) -> tuple[str, ...]:
    """The parts of a path below one of some folders; of one elsewhere, its name."""
    for home in (Path(os.path.normpath(home)) for home in homes):
        if image.is_relative_to(home):
            return image.relative_to(home).parts
    return (image.name,)


def _without_usual(parts: Sequence[str]) -> str:
    *folders, name = parts
    usual = itertools.takewhile(lambda part: part in IMAGE_HOMES or split_of_folder(part), folders)
    return str(PurePath(*folders[len(list(usual)) :], name))


def _readable(named: Mapping[Path, str], on_issue: OnIssue) -> Iterator[tuple[Path, str]]:
    """The images that can be read, sorted, with their names."""
    for image in sorted(named):
        if reason := foreign_reason(image):
            on_issue(LabelIssue("foreign-image", str(image), reason))
        else:
            yield image, named[image]


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
    categories: tuple[Category, ...] = ()
    for split, labelled in sets.items():
        categories = labelled.categories
        for image, text in zip(labelled.images, label_texts(labelled), strict=True):
            file = label_file_of(folder / "images" / (split or "train") / image.name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    text = config_text(categories, [split or "train" for split in sets])
    (folder / CONFIG).write_text(text, encoding="utf-8")
    return [] if "val" in sets else ["data.yaml has no val set; seatrial data split makes one"]


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
    names = [f"  {number}: {_quoted(c.name)}" for number, c in enumerate(categories)]
    return "\n".join([*entries, f"nc: {len(categories)}", "names:", *names]) + "\n"


def _quoted(name: str) -> str:
    """A text between YAML's double quotes (YAML 1.2, section 5.7)."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'
