"""All issues of a dataset, for ``seatrial data check``. Nothing is written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from seatrial.datasets.agreement import agreed, present_paths
from seatrial.datasets.issues import ISSUE_KINDS, LabelIssue
from seatrial.datasets.label_rules import box_issues, leaks, numbering_issues
from seatrial.datasets.near_duplicates import Fingerprint, fingerprints, nearest
from seatrial.datasets.split import copied
from seatrial.datasets.splits import Dataset, kinds_of, read_dataset
from seatrial.progress import Progress, silent
from seatrial.system.images import foreign_reason, only_images
from seatrial.system.text import plain


class SplitSummary(msgspec.Struct, frozen=True):
    """The content of a split, in numbers.

    Attributes:
        format: Format of the labels.
        split: Name of the split; empty for a folder without splits.
        images: Number of images.
        objects: Number of objects.
        classes: Class name -> number of objects.
        notes: Remarks on how the labels were read, one sentence each.
    """

    format: str
    split: str
    images: int
    objects: int
    classes: dict[str, int]
    notes: tuple[str, ...] = ()


class DatasetCheck(msgspec.Struct, frozen=True):
    """The issues of a dataset.

    Attributes:
        folder: The folder that was checked.
        decoded: Number of image files that were read.
        splits: The splits that were read.
        issues: Errors first, cases of a kind together.
    """

    folder: str
    decoded: int = msgspec.field(name="pictures")
    splits: tuple[SplitSummary, ...]
    issues: tuple[LabelIssue, ...] = msgspec.field(name="findings")

    def count(self, severity: str) -> int:
        """Number of issues of a severity."""
        return sum(issue.severity == severity for issue in self.issues)


def check(
    folder: Path,
    kind: str | None = None,
    annotations: Path | None = None,
    on_progress: Progress = silent,
) -> DatasetCheck:
    """Read every label and decode every image.

    Args:
        folder: Folder of the dataset. Labels in several formats are all checked.
        kind: Name of the only format to check; None for all that are there.
        annotations: See `seatrial.datasets.read.Format.read`.
        on_progress: Called after each image.

    Raises:
        InvalidDataset: There is no such folder, or no labels in it.
    """
    issues: dict[LabelIssue, None] = {}  # in order, each once

    def note(issue: LabelIssue) -> None:
        if issue.kind != "broken-image":  # decoding finds these, with a better message
            issues[issue] = None

    kinds = [kind] if kind else kinds_of(folder, annotations)
    datasets = [read_dataset(folder, k, annotations, on_issue=note) for k in kinds]
    paths = {path for dataset in datasets for path in present_paths(dataset.sets)}
    prints = fingerprints(sorted(paths), on_progress)
    for dataset in datasets:
        if dataset.sets:
            issues |= dict.fromkeys(_dataset_issues(dataset, prints))
    order = {name: number for number, name in enumerate(ISSUE_KINDS)}
    return DatasetCheck(
        folder=str(folder),
        decoded=len(prints),
        splits=tuple(
            SplitSummary(
                format=dataset.kind,
                split=split,
                images=len(labelled.images),
                objects=len(labelled.truth),
                classes=labelled.counts(),
                notes=labelled.notes,
            )
            for dataset in datasets
            for split, labelled in dataset.sets.items()
        ),
        issues=tuple(sorted(issues, key=lambda i: (i.severity != "error", order[i.kind]))),
    )


def _dataset_issues(dataset: Dataset, prints: Mapping[Path, Fingerprint]) -> Iterator[LabelIssue]:
    found: list[LabelIssue] = []
    sets = agreed(dataset.sets, prints, found.append)
    yield from found
    for labelled in sets.values():
        yield from box_issues(labelled)
        if dataset.kind == "yolo":
            for image in labelled.images:
                if image.labels is not None and not image.labels.is_file():
                    message = f"{image.path} has no label file"
                    yield LabelIssue("missing-labels", str(image.labels), message)
    yield from numbering_issues(sets)
    yield from _class_issues(replace(dataset, sets=sets))
    if dataset.kind != "yolo":  # YOLO has no list of images: all in its folders belong to it
        yield from _unlisted_images(dataset)
    yield from _copies(dataset, prints)


def _class_issues(dataset: Dataset) -> Iterator[LabelIssue]:
    """Classes without an object, and classes with similar names."""
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


def _unlisted_images(dataset: Dataset) -> Iterator[LabelIssue]:
    """Images in the folders of the labelled ones that no label names."""
    known = {image.path for labelled in dataset.sets.values() for image in labelled.images}
    for home in sorted({path.parent for path in known if path.is_file()}):
        for path in only_images(home.iterdir()):
            if path in known:
                continue
            if reason := foreign_reason(path):
                yield LabelIssue("foreign-image", str(path), reason)
            else:
                yield LabelIssue("missing-labels", str(path), "no label names this image")


def _copies(dataset: Dataset, prints: Mapping[Path, Fingerprint]) -> Iterator[LabelIssue]:
    """Images that are in the dataset twice, or nearly so in two splits."""
    yield from leaks(dataset.sets, prints)
    first: dict[bytes, tuple[str, Path]] = {}
    before: list[tuple[str, Fingerprint]] = []  # of the splits before this one
    copies: dict[str, tuple[str, Path]] = {}  # image -> first split with a copy of it, by names
    for split, labelled in dataset.sets.items():
        own = [prints[image.path] for image in labelled.images if image.path in prints]
        fresh: list[Fingerprint] = []
        for one in own:
            if one.error:
                continue
            new = one.sha256 not in first
            other, path = first.setdefault(one.sha256, (split, one.path))
            if new:
                fresh.append(one)
            elif other == split:
                yield LabelIssue("duplicate-image", str(one.path), f"is the same as {path}")
        for index, match in nearest(fresh, [twin for _, twin in before]):
            path = fresh[index].path
            other, twin_path = copies.setdefault(copied(path.name) or str(path), (split, path))
            if match is not None:
                other, twin = before[match]
                message = f"in {split}, is nearly the same as one of {other}: {twin.path}"
                yield LabelIssue("near-leak", str(path), message)
            elif other != split:
                message = f"in {split}, is by its name a copy of one of {other}: {twin_path}"
                yield LabelIssue("near-leak", str(path), message)
        before += [(split, one) for one in fresh]
