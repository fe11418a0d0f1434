"""A seeded split by groups, as even in every class as the groups allow.

Images of one group stay together: frames of one video, for example, and images that are the same or
nearly the same. A detector that was trained on a frame would be tested on the next one otherwise,
and its figures would be too good.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from seatrial.datasets.labels import LabelledSet
from seatrial.datasets.near_duplicates import Fingerprint, nearest
from seatrial.errors import InvalidConfig, InvalidDataset
from seatrial.report.numbers import counted

# Names that cameras and people give to any image, whatever it shows.
SERIAL_NAMES = frozenset(
    {"", "dsc", "dscf", "dscn", "image", "img", "p", "photo", "pic", "picture", "pxl", "scan"}
)
_MARKS = "-_ ."  # between the name of a clip and the number of a frame
_NUMBER = re.compile(r"(?<!\d)\d+\Z")
# Roboflow names an image and its augmented copies NAME_jpg.rf.HASH.jpg; Label Studio puts eight
# digits before the name of what is uploaded.
_COPY = re.compile(
    r"^(?P<name>.+?)(?:[_.](?:avif|bmp|gif|heic|jfif|jpe?g|png|tiff?|webp))?\.rf\.[0-9a-z]{8,}$",
    re.IGNORECASE,
)
_UPLOAD = re.compile(r"^(?=\d*[a-f])[0-9a-f]{8}-(?=.)")  # a date has no letter
SWAPS = 2000  # exchanges that are tried, and four more for each group


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of images that belong together.

    Attributes:
        of: (images,) int64: number of each image's group, from 0.
        names: Names of the groups.
    """

    of: NDArray[np.int64]
    names: tuple[str, ...]


def group_names(labelled: LabelledSet, rule: str, block: int = 0) -> list[str]:
    """The name of each image's group.

    Args:
        labelled: The images.
        rule: ``frames``: the name without the number at its end, unless the rest is a camera's
            serial name; of an augmented copy, the name of its image. ``folder``: the folder of the
            image. ``none``: a group for each image. Else a regular expression, whose first group
            (or whole match) in the name counts.
        block: Length of the runs, in images in the order of their names, that groups are cut into;
            0 does not cut them.

    Raises:
        InvalidConfig: The rule is no regular expression, or does not match an image's name.
    """
    key = _rule(rule)
    names = [key(image.name, image.path) for image in labelled.images]
    if block:
        order = sorted(range(len(names)), key=lambda index: _natural(labelled.images[index].name))
        seen: dict[str, int] = defaultdict(int)
        for index in order:
            name = names[index]
            names[index] = f"{name}, part {seen[name] // block + 1}"
            seen[name] += 1
    return names


def _rule(rule: str) -> Callable[[str, Path], str]:
    if rule == "none":
        return lambda name, path: name
    if rule == "folder":
        return lambda name, path: str(path.parent)
    if rule == "frames":
        return lambda name, path: _clip(name)
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise InvalidConfig(
            f"--group {rule!r} is not a regular expression: {error}",
            hint="or one of: frames, folder, none",
        ) from error

    def matched(name: str, path: Path) -> str:
        found = pattern.search(name)
        if found is None:
            raise InvalidConfig(f"--group {rule!r} does not match the name {name!r}")
        return found[1] or "" if pattern.groups else found[0]

    return matched


def copied(name: str) -> str:
    """Name of the image that a file is an augmented copy of, by its own name; empty for no copy."""
    found = _COPY.match(PurePosixPath(name).stem)
    return found["name"] if found else ""


def _clip(name: str) -> str:
    original = copied(name)
    stem = _UPLOAD.sub("", original or PurePosixPath(name).stem)
    # Copies are in folders of their splits, whatever image they show.
    parent = "." if original else str(PurePosixPath(name).parent)
    number = _NUMBER.search(stem)
    if number is None:
        return original or name
    clip = stem[: number.start()].rstrip(_MARKS)
    said = clip.casefold().endswith("frame")
    clip = clip[: -len("frame")].rstrip(_MARKS) if said else clip
    if clip.casefold() in SERIAL_NAMES and not said:
        return original or name
    clip = clip or "frame"
    return f"{parent}/{clip}" if parent != "." else clip


def _natural(name: str) -> list[str | int]:
    """A sort key that puts frame 10 after frame 9: text and numbers in turn."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def grouped(
    names: Sequence[str],
    prints: Sequence[Fingerprint | None],
    clips: Sequence[str] | None = None,
) -> Groups:
    """Groups by name, joined where an image of one is nearly the same as an image of another.

    Args:
        names: Group name of each image, from `group_names`.
        prints: Fingerprint of each image; None compares it by name only.
        clips: Group name of each image before groups were cut into runs; runs of one clip are not
            joined, however similar they are.
    """
    parent = list(range(len(names)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[str, int] = {}
    for index, name in enumerate(names):
        parent[root(index)] = root(first.setdefault(name, index))
    compared = [(index, own) for index, own in enumerate(prints) if own is not None]
    for one, other in _alike([own for _, own in compared]):
        a, b = compared[one][0], compared[other][0]
        if clips is None or clips[a] != clips[b]:
            parent[root(a)] = root(b)
    roots = [root(index) for index in range(len(names))]
    numbers = {own: number for number, own in enumerate(dict.fromkeys(roots))}
    return Groups(
        np.array([numbers[own] for own in roots], np.int64), tuple(names[own] for own in numbers)
    )


def _alike(prints: Sequence[Fingerprint]) -> list[tuple[int, int]]:
    """Pairs that are the same or nearly so: each image with the most similar one before it."""
    pairs = []
    first: dict[bytes, int] = {}
    fresh: list[int] = []
    for index, own in enumerate(prints):
        if own.sha256 in first:
            pairs.append((index, first[own.sha256]))
        else:
            first[own.sha256] = index
            fresh.append(index)
    unequal = [prints[index] for index in fresh]
    for row, match in nearest(unequal, unequal, before=True):
        if match is not None:
            pairs.append((fresh[row], fresh[match]))
    return pairs


def assign(
    labelled: LabelledSet, groups: Groups, fractions: Mapping[str, float], seed: int
) -> NDArray[np.int64]:
    """The split of each image; a group is never divided.

    Groups are assigned in turn, those with the rarest classes first, each to the split that lacks
    most of what it has. Then groups are moved and exchanged as long as that brings the numbers of
    images and of objects of every class nearer to the fractions. After Sechidis, Tsoumakas,
    Vlahavas, "On the Stratification of Multi-Label Data", 2011, with groups in place of examples.

    Args:
        labelled: The images and objects.
        groups: Groups of its images.
        fractions: Split -> its fraction; they make 1.
        seed: Seed of the random draw between groups that are equal.

    Returns:
        (images,) int64 index into the splits.

    Raises:
        InvalidDataset: There are fewer groups than splits.
    """
    count = len(groups.names)
    if count < len(fractions):
        raise InvalidDataset(
            f"{counted(count, 'group')} cannot be split into {len(fractions)}: "
            f"{', '.join(groups.names)}",
            hint="frames of one video and similar images belong together; cut a video into runs "
            "with --block 100, or make each image a group: --group none --no-alike",
        )
    amounts = _amounts(labelled, groups)
    wanted = np.array(list(fractions.values()))[:, None] * amounts.sum(0)  # (splits, classes + 1)
    weight = 1 / np.maximum(amounts.sum(0), 1)
    weight[-1] *= len(labelled.categories) ** 0.5  # images weigh as much as all classes together
    draw = np.random.default_rng(seed)
    rarest = (amounts * weight).sum(1)
    order = np.lexsort((draw.permutation(count), -rarest))
    chosen = np.full(count, -1, np.int64)
    have = np.zeros_like(wanted)
    for group in order.tolist():
        missing = ((wanted - have) * weight * (amounts[group] > 0)).sum(1)
        # A tie is decided by a draw, not for the first.
        best = np.flatnonzero(missing >= missing.max() - 1e-12)
        chosen[group] = best[int(draw.integers(len(best)))]
        have[chosen[group]] += amounts[group]
    _fill_empty(chosen, amounts, have)
    _improve(chosen, amounts, have, wanted, weight, draw)
    return chosen[groups.of]


def _amounts(labelled: LabelledSet, groups: Groups) -> NDArray[np.float64]:
    """(groups, classes + 1) float64: objects of each class, and images in the last column."""
    amounts = np.zeros((len(groups.names), len(labelled.categories) + 1))
    np.add.at(amounts, (groups.of[labelled.truth.image], labelled.truth.category), 1)
    np.add.at(amounts[:, -1], groups.of, 1)
    return amounts


def _fill_empty(
    chosen: NDArray[np.int64], amounts: NDArray[np.float64], have: NDArray[np.float64]
) -> None:
    """Give each split without a group the smallest group of the split with most groups."""
    for split in range(len(have)):
        if (chosen == split).any():
            continue
        richest = int(np.bincount(chosen, minlength=len(have)).argmax())
        own = np.flatnonzero(chosen == richest)
        group = int(own[amounts[own, -1].argmin()])
        have[richest] -= amounts[group]
        have[split] += amounts[group]
        chosen[group] = split


def _improve(
    chosen: NDArray[np.int64],
    amounts: NDArray[np.float64],
    have: NDArray[np.float64],
    wanted: NDArray[np.float64],
    weight: NDArray[np.float64],
    draw: np.random.Generator,
) -> None:
    """Exchange or move groups drawn at random, wherever the squared distance becomes less."""

    def distance(sums: NDArray[np.float64]) -> float:
        return float((((sums - wanted) * weight) ** 2).sum())

    best = distance(have)
    numbers = np.bincount(chosen, minlength=len(have))  # kept up to date: counting is slow for many
    for _ in range(SWAPS + 4 * len(chosen)):
        one, other = draw.integers(len(chosen), size=2).tolist()
        split = int(draw.integers(len(have)))
        source, target = int(chosen[one]), int(chosen[other])
        trial = have.copy()
        if source != target:
            trial[source] += amounts[other] - amounts[one]
            trial[target] += amounts[one] - amounts[other]
            if distance(trial) < best - 1e-12:
                best, have[:] = distance(trial), trial
                chosen[one], chosen[other] = target, source
        elif split != source and numbers[source] > 1:
            trial[source] -= amounts[one]
            trial[split] += amounts[one]
            if distance(trial) < best - 1e-12:
                best, have[:] = distance(trial), trial
                chosen[one] = split
                numbers[source] -= 1
                numbers[split] += 1
