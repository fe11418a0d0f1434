"""Datasets written again: in another format, or with another split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec
import numpy as np

from seatrial.datasets.inspection import InspectedImage, inspect_images
from seatrial.datasets.issues import ISSUE_KINDS
from seatrial.datasets.label_rules import leaks, read_sound
from seatrial.datasets.labels import Details, LabelledSet, Truth, some
from seatrial.datasets.near_duplicates import Fingerprint, fingerprints
from seatrial.datasets.split import assign, group_names, grouped
from seatrial.datasets.splits import Dataset
from seatrial.datasets.writing import one_numbering, write_dataset
from seatrial.errors import InvalidConfig
from seatrial.progress import Progress, silent

FormatName = Literal["coco", "yolo", "voc"]


@dataclass(frozen=True, kw_only=True)
class RewriteOptions:
    """How a dataset is read and written.

    Attributes:
        format: Format of the labels [default: found by the files].
        annotations: COCO's JSON file, another data.yaml, or VOC's list of classes.
        mend: Clip boxes to their image; leave out labels and images that cannot be used.
        link: Make hard links to the images in place of copies.
    """

    format: FormatName | None = None
    annotations: Path | None = None
    mend: bool = False
    link: bool = False


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """How a dataset is split.

    Attributes:
        fractions: Fractions of train, val and test; a split of 0 is not made.
        group: Images that belong together: frames (names that differ in the number at the end
            only), folder, none, or a regular expression whose first group in the name counts.
        block: Cut each group into runs of so many images: for a single long video.
        alike: Keep images together that are the same or nearly the same.
        seed: Seed of the random draw.
    """

    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    group: str = "frames"
    block: int = 0
    alike: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.fractions) < 0 or abs(sum(self.fractions) - 1) > 1e-6:
            given = ", ".join(f"{fraction:g}" for fraction in self.fractions)
            raise InvalidConfig(f"--fractions {given} do not add up to 1", hint=self._hint())
        if sum(fraction > 0 for fraction in self.fractions) < 2:
            raise InvalidConfig("--fractions gives all to one split: at least two must be over 0")
        if self.block < 0 or self.seed < 0:
            raise InvalidConfig("--block and --seed must be 0 or more")

    def _hint(self) -> str:
        """The fractions that were meant, where percentages were given."""
        percent = abs(sum(self.fractions) - 100) < 1e-6 and min(self.fractions) >= 0
        meant = [f"{x / 100:g}" for x in self.fractions] if percent else ["0.8", "0.1", "0.1"]
        return f"{'' if percent else 'for example '}--fractions {' '.join(meant)}"

    def splits(self) -> dict[str, float]:
        """The splits that are made, and their fractions."""
        names = ("train", "val", "test")
        return {n: f for n, f in zip(names, self.fractions, strict=True) if f > 0}


class WrittenSplit(msgspec.Struct, frozen=True):
    """A split that was written, in numbers.

    Attributes:
        split: Name of the split; empty for a set without splits.
        images: Number of images.
        objects: Number of objects.
        groups: Number of groups of images; None where nothing was split.
        classes: Class name -> number of objects.
    """

    split: str
    images: int
    objects: int
    groups: int | None
    classes: dict[str, int]


class WrittenDataset(msgspec.Struct, frozen=True):
    """A dataset that was written.

    Attributes:
        folder: The new folder.
        format: Format of the labels.
        splits: The splits that were written.
        notes: What was mended or lost, one sentence each.
    """

    folder: str
    format: str
    splits: tuple[WrittenSplit, ...] = msgspec.field(name="parts")
    notes: tuple[str, ...]


def convert(
    source: Path,
    target: Path,
    to: FormatName,
    options: RewriteOptions = RewriteOptions(),
    on_progress: Progress = silent,
) -> WrittenDataset:
    """Write a dataset in another format, with the splits that it has.

    An image that is in two of them stays in both, and a note names it: only `split` mends that.

    Raises:
        InvalidInput: The target holds files.
        InvalidDataset: The source has an error; nothing was written.
        NotWritable: The target cannot be written.
    """
    seen: dict[Path, InspectedImage] = {}

    def look(paths: Sequence[Path], on_progress: Progress) -> Mapping[Path, InspectedImage]:
        seen.update(inspect_images(paths, on_progress))
        return seen

    dataset, notes = read_sound(
        source,
        options.format,
        options.annotations,
        mend=options.mend,
        look=look,
        on_progress=on_progress,
    )
    notes += _leaks(dataset, seen)
    notes += write_dataset(target, dataset.sets, to, link=options.link, on_progress=on_progress)
    written = [_written(split, labelled, None) for split, labelled in dataset.sets.items()]
    return WrittenDataset(folder=str(target), format=to, splits=tuple(written), notes=tuple(notes))


def _leaks(dataset: Dataset, seen: Mapping[Path, InspectedImage]) -> list[str]:
    """A note of images that are in two splits, if there are any."""
    found = list(leaks(dataset.sets, seen))
    if not found:
        return []
    shown = some([f"{issue.where} {issue.message}" for issue in found], 2)
    return [
        f"{ISSUE_KINDS['leak'].title}, which makes figures too good: {shown}; "
        "seatrial data split mends it"
    ]


def split(
    source: Path,
    target: Path,
    options: SplitOptions,
    rewrite: RewriteOptions = RewriteOptions(),
    *,
    to: FormatName | None = None,
    on_progress: Progress = silent,
) -> WrittenDataset:
    """Split a dataset again, whatever splits it has, and write it.

    Args:
        source: Folder of the dataset.
        target: New folder.
        options: How to split.
        rewrite: How to read and write it.
        to: Format to write; None for the source's.
        on_progress: Called after each image that was compared or written.

    Raises:
        InvalidInput: The target holds files.
        InvalidDataset: The source has an error, or too few groups; nothing was written.
        NotWritable: The target cannot be written.
    """
    prints: dict[Path, Fingerprint] = {}

    def compare(paths: Sequence[Path], on_progress: Progress) -> Mapping[Path, Fingerprint]:
        prints.update(fingerprints(paths, on_progress))
        return prints

    dataset, notes = read_sound(
        source,
        rewrite.format,
        rewrite.annotations,
        mend=rewrite.mend,
        look=compare if options.alike else inspect_images,  # each image is decoded once
        on_progress=on_progress,
    )
    whole = _joined(dataset)
    groups = grouped(
        group_names(whole, options.group, options.block),
        [prints.get(image.path) for image in whole.images],
        group_names(whole, options.group) if options.block else None,
    )
    chosen = assign(whole, groups, options.splits(), options.seed)
    everything = np.ones(len(whole.truth), np.bool_)
    sets = {
        name: whole.select(chosen == number, everything)
        for number, name in enumerate(options.splits())
    }
    kind = to or dataset.kind
    notes += write_dataset(target, sets, kind, link=rewrite.link, on_progress=on_progress)
    written = [
        _written(name, labelled, len(np.unique(groups.of[chosen == number])))
        for number, (name, labelled) in enumerate(sets.items())
    ]
    totals: Counter[str] = Counter()
    for one in written:
        totals.update(one.classes)
    notes += [
        f"{one.split} has no object of class {name!r}: its groups are in the other splits"
        for one in written
        for name, number in one.classes.items()
        if not number and totals[name] >= len(written)
    ]
    return WrittenDataset(
        folder=str(target), format=kind, splits=tuple(written), notes=tuple(notes)
    )


def _written(name: str, labelled: LabelledSet, groups: int | None) -> WrittenSplit:
    return WrittenSplit(
        split=name,
        images=len(labelled.images),
        objects=len(labelled.truth),
        groups=groups,
        classes=labelled.counts(),
    )


def _joined(dataset: Dataset) -> LabelledSet:
    """All splits as one set; images are numbered anew, annotations lose their ids."""
    sets = one_numbering(dataset.sets)
    if len(sets) == 1:
        return next(iter(sets.values()))
    first = next(iter(sets.values()))
    images = [(split, image) for split, labelled in sets.items() for image in labelled.images]
    names = [image.name for _, image in images]
    shared = len(set(names)) < len(names)
    offsets = np.cumsum([0, *(len(labelled.images) for labelled in sets.values())]).tolist()
    truths = [labelled.truth for labelled in sets.values()]
    details = [labelled.details for labelled in sets.values() if labelled.details is not None]
    return replace(
        first,
        source=f"{dataset.kind}:{dataset.folder}",
        images=tuple(
            msgspec.structs.replace(
                image,
                id=number,
                name=str(PurePosixPath(split, image.name)) if shared else image.name,
            )
            for number, (split, image) in enumerate(images, 1)
        ),
        truth=Truth(
            image=np.concatenate([t.image + o for t, o in zip(truths, offsets, strict=False)]),
            category=np.concatenate([t.category for t in truths]),
            xywh=np.concatenate([t.xywh for t in truths]),
            area=np.concatenate([t.area for t in truths]),
            crowd=np.concatenate([t.crowd for t in truths]),
            mark=np.concatenate([t.mark for t in truths]),
        ),
        details=Details(
            tuple(row for own in details for row in own.images),
            tuple(
                {key: value for key, value in row.items() if key != "id"}
                for own in details
                for row in own.objects
            ),
            details[0].file if details else {},
        ),
    )
