"""Calibration pictures: a seeded choice out of a folder, through the preprocessing that serves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seatrial.artifact import Manifest
from seatrial.errors import InvalidDataset, InvalidInput
from seatrial.families.registry import family_of
from seatrial.request.decode import decode
from seatrial.request.detector import MAX_PIXELS
from seatrial.request.preprocess import fit

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})

Feeds = dict[str, NDArray[Any]]
Progress = Callable[[str, int, int], None]
"""Called with what is going on, the steps done, and the steps in all (0: not known)."""


class Pictures:
    """Encoded pictures on disk; nothing is kept in memory but their paths.

    Args:
        files: The pictures, in the order in which they are used.
        manifest: Says how they are fitted.
    """

    def __init__(self, files: tuple[Path, ...], manifest: Manifest) -> None:
        self.files = files
        self._preprocessing = manifest.preprocessing
        self._family = family_of(manifest)
        self._input = manifest.inputs[0].name

    def __len__(self) -> int:
        return len(self.files)

    def feeds(self, limit: int | None = None) -> Iterator[Feeds]:
        """What the graph takes, picture by picture, decoded and fitted as a request is.

        Args:
            limit: Stop after so many.

        Raises:
            InvalidDataset: A picture cannot be read or decoded.
        """
        yield from map(self.feed, self.files[:limit])

    def feed(self, file: Path) -> Feeds:
        """What the graph takes for one picture; see `feeds`."""
        image = _decoded(file)
        batch, canvas = fit(image, self._preprocessing)
        return {self._input: batch, **self._family.feeds(canvas)}


def find_pictures(folder: Path) -> tuple[Path, ...]:
    """JPEG, PNG and WebP files in a folder and below it, sorted.

    Raises:
        InvalidDataset: No such folder, or no pictures in it.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise InvalidDataset(f"{folder} {what}", hint="give a folder of pictures")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise InvalidDataset(
            f"{folder} holds no pictures", hint="give a folder of JPEG, PNG or WebP files"
        )
    return tuple(files)


def choose(files: tuple[Path, ...], count: int, seed: int) -> tuple[Path, ...]:
    """A seeded draw without replacement, in the files' own order; all where there are fewer."""
    if len(files) <= count:
        return files
    picks = np.random.default_rng(seed).choice(len(files), count, replace=False)
    return tuple(files[index] for index in sorted(picks.tolist()))


def check(files: tuple[Path, ...], on_progress: Progress) -> str:
    """Decode every picture once, so that a broken one is found before the long work.

    Returns:
        sha256 in hex over the contents, in order.

    Raises:
        InvalidDataset: A picture cannot be read or decoded; the message names it.
    """
    digest = hashlib.sha256()
    for done, file in enumerate(files, 1):
        _decoded(file)
        digest.update(hashlib.sha256(file.read_bytes()).digest())
        on_progress("checking the calibration pictures", done, len(files))
    return digest.hexdigest()


def _decoded(file: Path) -> NDArray[np.uint8]:
    try:
        return decode(file.read_bytes(), max_pixels=MAX_PIXELS)
    except InvalidInput as error:
        raise InvalidDataset(
            f"{file}: {error.message}", hint="replace the picture, or take it out of the folder"
        ) from error
    except OSError as error:
        raise InvalidDataset(f"{file} cannot be read: {error.strerror}") from error
