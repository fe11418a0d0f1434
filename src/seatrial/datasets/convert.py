"""Datasets written anew: in another format, or split another way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.datasets.label_rules import read_sound
from seatrial.datasets.labels import Details, LabelledSet, Truth
from seatrial.datasets.near_duplicates import Fingerprint, fingerprints
from seatrial.datasets.split import Groups, assign, group_names, grouped
from seatrial.datasets.splits import Dataset
from seatrial.datasets.writing import one_numbering, write_dataset
from seatrial.errors import InvalidConfig
from seatrial.progress import Progress, silent


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a dataset is to be split.

    Attributes:
        fractions: Of train, val and test; a split of 0 is not made.
        group: See `seatrial.datasets.split.group_names`.
        block: See there.
        alike: Keep pictures together that are the same or nearly so.
        seed: Of the draw.
    """

    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    group: str = "frames"
    block: int = 0
    alike: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.fractions) < 0 or abs(sum(self.fractions) - 1) > 1e-6:
            told = ", ".join(f"{fraction:g}" for fraction in self.fractions)
            raise InvalidConfig(f"the fractions {told} do not make 1")
        if sum(fraction > 0 for fraction in self.fractions) < 2:
            raise InvalidConfig("there is nothing to split: one set takes all")
        if self.block < 0 or self.seed < 0:
            raise InvalidConfig("neither the block nor the seed can be negative")

    def splits(self) -> dict[str, float]:
        """Those that are made."""
        names = ("train", "val", "test")
        return {n: f for n, f in zip(names, self.fractions, strict=True) if f > 0}


class Part(msgspec.Struct, frozen=True):
    """What was written of a split.

    Attributes:
        groups: Numbers of groups; None where there were none to keep together.
        classes: Name and number of objects.
    """

    split: str
    images: int
    objects: int
    groups: int | None
    classes: dict[str, int]


class Written(msgspec.Struct, frozen=True):
    """A dataset that was written.

    Attributes:
        notes: What was mended or lost, one sentence each.
    """

    folder: str
    format: str
    parts: tuple[Part, ...]
    notes: tuple[str, ...]


def convert(
    source: Path,
    target: Path,
    to: str,
    *,
    kind: str | None = None,
    annotations: Path | None = None,
    mend: bool = False,
    link: bool = False,
    on_progress: Progress = silent,
) -> Written:
    """Write a dataset in another format.

    Args:
        source: Folder of the dataset.
        target: Folder to make.
        to: Format to write.
        kind: Format of the source; told by looking if None.
        annotations: See `seatrial.datasets.labels.Format.read`.
        mend: See `read_sound`.
        link: See `write_dataset`.
        on_progress: Told after each picture.

    Raises:
        InvalidDataset: Something is wrong with the source; nothing was written.
        NotWritable: The target cannot be written.
    """
    dataset, notes = read_sound(source, kind, annotations, mend=mend)
    notes += write_dataset(target, dataset.sets, to, link=link, on_progress=on_progress)
    parts = [_part(split, labelled, None) for split, labelled in dataset.sets.items()]
    return Written(str(target), to, tuple(parts), tuple(notes))


def split(
    source: Path,
    target: Path,
    plan: Plan,
    *,
    to: str | None = None,
    kind: str | None = None,
    annotations: Path | None = None,
    mend: bool = False,
    link: bool = False,
    on_progress: Progress = silent,
) -> Written:
    """Split a dataset, whatever splits it has, and write it.

    Args:
        source: Folder of the dataset.
        target: Folder to make.
        plan: How to split.
        to: Format to write; the source's if None.
        kind: See `convert`; so are the others.
        annotations: The file to read.
        mend: Leave out what is wrong.
        link: Hard links to the pictures.
        on_progress: Told after each picture that was compared or written.

    Raises:
        InvalidDataset: Something is wrong with the source, or it has too few groups; nothing was
            written.
        NotWritable: The target cannot be written.
    """
    dataset, notes = read_sound(source, kind, annotations, mend=mend)
    whole = _joined(dataset)
    seen: Mapping[Path, Fingerprint] = {}
    if plan.alike:
        seen = fingerprints([image.path for image in whole.images], on_progress)
    names = group_names(whole, plan.group, plan.block)
    pictures = [seen.get(image.path) for image in whole.images]
    groups = grouped(
        names,
        [p if p is None or not p.error else None for p in pictures],
        group_names(whole, plan.group) if plan.block else None,
    )
    chosen = assign(whole, groups, plan.splits(), plan.seed)
    everything = np.ones(len(whole.truth), np.bool_)
    sets = {
        name: whole.select(chosen == number, everything)
        for number, name in enumerate(plan.splits())
    }
    written = to or dataset.kind
    notes += write_dataset(target, sets, written, link=link, on_progress=on_progress)
    parts = [_part(n, s, _groups_in(groups, chosen == i)) for i, (n, s) in enumerate(sets.items())]
    return Written(str(target), written, tuple(parts), (*notes, *_uneven(parts)))


def _groups_in(groups: Groups, images: NDArray[np.bool_]) -> int:
    return len(np.unique(groups.of[images]))


def _uneven(parts: Sequence[Part]) -> list[str]:
    """Classes that a split lacks and the others have, one sentence each."""
    totals = Counter({name: 0 for part in parts for name in part.classes})
    for part in parts:
        totals.update(part.classes)
    return [
        f"{part.split} has no object of class {name!r}: its groups are elsewhere"
        for part in parts
        for name, number in part.classes.items()
        if not number and totals[name] >= len(parts)
    ]


def _part(name: str, labelled: LabelledSet, groups: int | None) -> Part:
    return Part(name, len(labelled.images), len(labelled.truth), groups, labelled.counts())


def _joined(dataset: Dataset) -> LabelledSet:
    """All splits as one set, with new numbers for pictures and annotations that share one."""
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
            np.concatenate([t.image + o for t, o in zip(truths, offsets, strict=False)]),
            np.concatenate([t.category for t in truths]),
            np.concatenate([t.xywh for t in truths]),
            np.concatenate([t.area for t in truths]),
            np.concatenate([t.crowd for t in truths]),
            np.concatenate([t.mark for t in truths]),
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
