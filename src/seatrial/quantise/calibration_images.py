"""Calibration images: a seeded choice out of a folder, through the preprocessing that serves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.detect.decode import decode, read_image
from seatrial.detect.detector import MAX_PIXELS
from seatrial.detect.families.registry import family_of
from seatrial.detect.preprocess import fit
from seatrial.errors import InvalidDataset, InvalidInput
from seatrial.manifest import Manifest
from seatrial.progress import Progress
from seatrial.system.files import check_folder
from seatrial.system.images import image_files

Feeds = dict[str, NDArray[Any]]
"""Inputs of a graph for one image: name of the input -> array."""


class CalibrationImages:
    """Encoded images on disk; only their paths are kept in memory.

    Args:
        files: The images, in the order in which they are used.
        manifest: Manifest with the preprocessing that fits them.
    """

    def __init__(self, files: tuple[Path, ...], manifest: Manifest) -> None:
        self.files = files
        self._preprocessing = manifest.preprocessing
        self._family = family_of(manifest)
        self._input = manifest.inputs[0].name

    def __len__(self) -> int:
        return len(self.files)

    def feeds(self, limit: int | None = None) -> Iterator[Feeds]:
        """Yield the inputs of the graph, image by image, decoded and fitted as a request is.

        Args:
            limit: Number of images after which to stop.

        Raises:
            InvalidDataset: An image cannot be read or decoded.
        """
        yield from map(self.feed, self.files[:limit])

    def feed(self, file: Path) -> Feeds:
        """Return the inputs of the graph for one image; see `feeds`."""
        # It was decoded before (`check`): if it cannot be read now, the folder has changed.
        image = read_image(file, max_pixels=MAX_PIXELS, hint="start again")
        batch, canvas = fit(image, self._preprocessing)
        return {self._input: batch, **self._family.feeds(canvas)}


def find_images(folder: Path) -> tuple[Path, ...]:
    """JPEG, PNG and WebP files in a folder and below it, sorted.

    Raises:
        InvalidDataset: No such folder, or no images in it.
    """
    check_folder(folder, hint="give a folder of images")
    files = image_files(folder, foreign=False)
    if not files:
        raise InvalidDataset(
            f"{folder} holds no images", hint="give a folder of JPEG, PNG or WebP files"
        )
    return tuple(files)


def choose(files: tuple[Path, ...], count: int, seed: int) -> tuple[Path, ...]:
    """A seeded draw without replacement, in the files' own order; all where there are fewer."""
    if len(files) <= count:
        return files
    picks = np.random.default_rng(seed).choice(len(files), count, replace=False)
    return tuple(files[index] for index in sorted(picks.tolist()))


class Skipped(msgspec.Struct, frozen=True):
    """A file that cannot be used: its name, and why."""

    file: str
    reason: str


class Checked(msgspec.Struct, frozen=True):
    """Images that decode.

    Attributes:
        files: The images, in order.
        digest: sha256 in hex over their contents, in order.
        skipped: Files that do not decode.
    """

    files: tuple[Path, ...]
    digest: str
    skipped: tuple[Skipped, ...]


def check(files: tuple[Path, ...], what: str, on_progress: Progress) -> Checked:
    """Decode every image once, so that broken ones are found before the long work.

    Ranges and agreement are taken over many images: one that is missing changes little, and is
    reported. (Figures of labelled sets never leave one out: see `predict`.)

    Args:
        files: The images.
        what: Their name in progress, for example ``calibration``.
        on_progress: Called after each image.
    """
    digest = hashlib.sha256()
    kept: list[Path] = []
    skipped: list[Skipped] = []
    for done, file in enumerate(files, 1):
        try:
            data = file.read_bytes()
            decode(data, max_pixels=MAX_PIXELS)
        except InvalidInput as error:
            skipped.append(Skipped(file.name, error.message))
        except OSError as error:
            skipped.append(Skipped(file.name, f"cannot be read: {error.strerror}"))
        else:
            kept.append(file)
            digest.update(hashlib.sha256(data).digest())
        on_progress(f"checking the {what} images", done, len(files))
    return Checked(tuple(kept), digest.hexdigest(), tuple(skipped))
