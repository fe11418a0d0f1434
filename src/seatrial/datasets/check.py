"""``seatrial data check``: all that is wrong with a dataset, told at once. Nothing is written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from seatrial.datasets.findings import KINDS, LabelIssue
from seatrial.datasets.label_rules import (
    box_findings,
    missing_pictures,
    numbering_findings,
    place_of,
)
from seatrial.datasets.labels import LabelledSet, plain
from seatrial.datasets.near_duplicates import Fingerprint, fingerprints, nearest
from seatrial.datasets.splits import WHOLE, Dataset, kinds_of, read_dataset
from seatrial.progress import Progress, silent
from seatrial.system.images import is_foreign, only_images


class SplitFacts(msgspec.Struct, frozen=True):
    """What a split holds.

    Attributes:
        format: Of its labels.
        split: Its name; empty for a folder without splits.
        classes: Name and number of objects.
    """

    format: str
    split: str
    images: int
    objects: int
    classes: dict[str, int]


class Checked(msgspec.Struct, frozen=True):
    """What was found.

    Attributes:
        folder: That was checked.
        pictures: Files that were decoded.
        splits: What was read.
        findings: Errors first, each kind together.
    """

    folder: str
    pictures: int
    splits: tuple[SplitFacts, ...]
    findings: tuple[LabelIssue, ...]

    def count(self, severity: str) -> int:
        """Findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)


def check(
    folder: Path,
    kind: str | None = None,
    annotations: Path | None = None,
    on_progress: Progress = silent,
) -> Checked:
    """Look at every label and every picture.

    Args:
        folder: Of the dataset. Of a folder with labels in several formats, all are looked at.
        kind: Its format; told by looking if None.
        annotations: See `seatrial.datasets.labels.Format.read`.
        on_progress: Told after each picture.

    Raises:
        InvalidDataset: It is no folder, or holds no labels.
    """
    findings: dict[LabelIssue, None] = {}  # in order, each once

    def report(finding: LabelIssue) -> None:
        findings[finding] = None

    def of_labels(finding: LabelIssue) -> None:
        if finding.kind != "broken-image":  # told when it is decoded
            report(finding)

    kinds = [kind] if kind else kinds_of(folder, annotations)
    datasets = [read_dataset(folder, k, annotations, report=of_labels) for k in kinds]
    paths = sorted({i.path for d in datasets for s in d.sets.values() for i in s.images})
    seen = fingerprints([p for p in paths if p.is_file()], on_progress)
    for dataset in datasets:
        for finding in _of_dataset(dataset, seen) if dataset.sets else ():
            report(finding)
    order = {name: number for number, name in enumerate(KINDS)}
    return Checked(
        folder=str(folder),
        pictures=len(seen),
        splits=tuple(facts for dataset in datasets for facts in _facts(dataset)),
        findings=tuple(sorted(findings, key=lambda f: (f.severity != "error", order[f.kind]))),
    )


def _of_dataset(dataset: Dataset, seen: Mapping[Path, Fingerprint]) -> Iterator[LabelIssue]:
    for labelled in dataset.sets.values():
        yield from missing_pictures(labelled)
        yield from _of_pictures(labelled, seen)
        yield from box_findings(_sized(labelled, seen))
        yield from _of_files(labelled, dataset)
    yield from numbering_findings(dataset.sets)
    yield from _of_classes(dataset)
    yield from _of_unlisted(dataset)
    yield from _of_copies(dataset, seen)


def _of_pictures(labelled: LabelledSet, seen: Mapping[Path, Fingerprint]) -> Iterator[LabelIssue]:
    for image in labelled.images:
        picture = seen.get(image.path)
        if picture is None:
            continue
        if picture.error:
            yield LabelIssue("broken-image", str(image.path), picture.error)
        elif image.width and image.height and picture.size != (image.width, image.height):
            shown = f"{picture.size[0]} x {picture.size[1]}"
            message = f"{image.path} is {shown}, labelled as {image.width} x {image.height}"
            if picture.size == (image.height, image.width):
                message += ": lying on its side (EXIF orientation)"
            yield LabelIssue("size-differs", place_of(image), message)


def _sized(labelled: LabelledSet, seen: Mapping[Path, Fingerprint]) -> LabelledSet:
    """The set with the sizes that its labels do not say."""
    return replace(
        labelled,
        images=tuple(
            image
            if (image.width and image.height) or image.path not in seen
            else msgspec.structs.replace(
                image, width=seen[image.path].size[0], height=seen[image.path].size[1]
            )
            for image in labelled.images
        ),
    )


def _of_files(labelled: LabelledSet, dataset: Dataset) -> Iterator[LabelIssue]:
    if dataset.kind != "yolo":
        return
    for image in labelled.images:
        if image.labels is not None and not image.labels.is_file():
            message = f"{image.path} has no label file"
            yield LabelIssue("missing-labels", str(image.labels), message)


def _of_classes(dataset: Dataset) -> Iterator[LabelIssue]:
    counts = {split: labelled.counts() for split, labelled in dataset.sets.items()}
    first = next(iter(dataset.sets.values()))
    alike: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(c.name for s in dataset.sets.values() for c in s.categories):
        alike[plain(name)].append(name)
        total = sum(count.get(name, 0) for count in counts.values())
        if not total:
            yield LabelIssue("empty-class", first.source, f"class {name!r} has no object")
            continue
        for split, labelled in dataset.sets.items():
            if not counts[split].get(name, 0):
                message = f"class {name!r} has no object here; {total} in the other splits"
                yield LabelIssue("empty-class", labelled.source, message)
    for names in alike.values():
        if len(names) > 1:
            message = f"{', '.join(map(repr, names))} differ in case or spaces only"
            yield LabelIssue("alike-classes", first.source, message)


def _of_unlisted(dataset: Dataset) -> Iterator[LabelIssue]:
    """Pictures beside those that are labelled, that no label names."""
    if dataset.kind == "yolo":
        return  # its pictures are found by looking, not by name
    images = [image for labelled in dataset.sets.values() for image in labelled.images]
    known = {image.path for image in images}
    for home in sorted({path.parent for path in known if path.is_file()}):
        for path in only_images(home.iterdir()):
            if path in known:
                continue
            if is_foreign(path):
                message = "a picture in a format that is not read"
                yield LabelIssue("foreign-image", str(path), message)
            else:
                yield LabelIssue("missing-labels", str(path), "no label names this picture")


def _of_copies(dataset: Dataset, seen: Mapping[Path, Fingerprint]) -> Iterator[LabelIssue]:
    splits = {
        split or WHOLE: [
            seen[image.path]
            for image in labelled.images
            if image.path in seen and not seen[image.path].error
        ]
        for split, labelled in dataset.sets.items()
    }
    first: dict[bytes, tuple[str, Path]] = {}
    before: list[tuple[str, Fingerprint]] = []
    for split, pictures in splits.items():
        fresh: list[Fingerprint] = []
        for picture in pictures:
            new = picture.sha256 not in first
            other, path = first.setdefault(picture.sha256, (split, picture.path))
            if new:
                fresh.append(picture)
            elif other != split:
                yield LabelIssue(
                    "leak", str(picture.path), f"in {split}, is in {other} too: {path}"
                )
            else:
                yield LabelIssue("duplicate-image", str(picture.path), f"is the same as {path}")
        yield from _near(split, fresh, before)
        before += [(split, picture) for picture in fresh]


def _near(
    split: str, pictures: Sequence[Fingerprint], before: Sequence[tuple[str, Fingerprint]]
) -> Iterator[LabelIssue]:
    for index, match in nearest(pictures, [picture for _, picture in before]):
        if match is not None:
            other, twin = before[match]
            message = f"in {split}, is nearly the same as one of {other}: {twin.path}"
            yield LabelIssue("near-leak", str(pictures[index].path), message)


def _facts(dataset: Dataset) -> Iterator[SplitFacts]:
    for split, labelled in dataset.sets.items():
        numbers = len(labelled.images), len(labelled.truth)
        yield SplitFacts(dataset.kind, split, *numbers, labelled.counts())
