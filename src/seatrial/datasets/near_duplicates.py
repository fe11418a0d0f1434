"""Fingerprints of images, by which equal and similar ones are found."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from seatrial.datasets.inspection import (
    MAX_PIXELS,
    InspectedImage,
    in_threads,
    noting,
    suffix_warnings,
)
from seatrial.detect.decode import decode
from seatrial.errors import InvalidInput
from seatrial.progress import Progress, silent
from seatrial.system.images import file_formats

# Difference hash: Neal Krawetz, "Kind of Like That", The Hacker Factor Blog, 2013.
HASH_SIDE = 8
THUMBNAIL_SIDE = 16
# Largest differences of two images that are nearly the same: bits of 64, and mean levels of 255.
# An image saved again in another size or quality stays below both. Plain images (skies, walls) have
# similar hashes, and thumbnails that differ.
NEAR_BITS = 6
NEAR_LEVELS = 6.0
_ROWS = 256  # images compared at a time

_BITS = np.array([number.bit_count() for number in range(1 << 16)], np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint(InspectedImage):
    """Features by which an image is compared with others; empty where it cannot be decoded.

    Attributes:
        path: The file.
        hash: (4,) uint16: 64 bits of a difference hash.
        thumbnail: (THUMBNAIL_SIDE ** 2 * 3,) uint8 RGB.
    """

    path: Path
    hash: NDArray[np.uint16] = field(default_factory=lambda: np.zeros(0, np.uint16))
    thumbnail: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))


def fingerprints(paths: Sequence[Path], on_progress: Progress = silent) -> dict[Path, Fingerprint]:
    """The fingerprints of some files, which are decoded in full, several at a time.

    Args:
        paths: Existing files.
        on_progress: Called after each, from the calling thread.
    """
    return in_threads(fingerprint, paths, "comparing images", on_progress)


def fingerprint(path: Path) -> Fingerprint:
    """The fingerprint of one file."""
    warnings: list[tuple[str, str]] = []
    try:
        data = path.read_bytes()
        image = decode(
            data, max_pixels=MAX_PIXELS, formats=file_formats(), on_warning=noting(warnings)
        )
    except OSError as error:
        return Fingerprint(path=path, error=f"cannot be read: {error.strerror}")
    except InvalidInput as error:
        return Fingerprint(path=path, error=error.message)
    height, width = image.shape[:2]
    side = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    thumbnail = cv2.resize(image, side, interpolation=cv2.INTER_AREA)
    return Fingerprint(
        path=path,
        size=(width, height),
        warnings=(*warnings, *suffix_warnings(path, data)),
        sha256=hashlib.sha256(data).digest(),
        hash=_difference_hash(image),
        thumbnail=np.asarray(thumbnail, np.uint8).ravel(),
    )


def _difference_hash(image: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """64 bits: whether each pixel of a 9 x 8 grey image is darker than the next."""
    small = cv2.resize(image, (HASH_SIDE + 1, HASH_SIDE), interpolation=cv2.INTER_AREA)
    grey = np.asarray(small, np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.packbits(grey[:, 1:] > grey[:, :-1]).view(np.uint16)


def nearest(
    ones: Sequence[Fingerprint], others: Sequence[Fingerprint], *, before: bool = False
) -> list[tuple[int, int | None]]:
    """For each image, the most similar one of others that is nearly the same.

    Args:
        ones: The images.
        others: Images to compare them with.
        before: Both are the same list: compare each image with those before it only.

    Returns:
        Index into `ones`, and index into `others` or None.
    """
    if not ones or not others:
        return [(index, None) for index in range(len(ones))]
    hashes, thumbnails = _stacked(others)
    own_hashes, own_thumbnails = _stacked(ones)
    found: list[tuple[int, int | None]] = []
    for begin in range(0, len(ones), _ROWS):
        rows = slice(begin, begin + _ROWS)
        bits = _BITS[own_hashes[rows, None] ^ hashes].sum(2, dtype=np.uint8)  # (rows, others)
        for row, near in enumerate(bits <= NEAR_BITS, begin):
            candidates = np.flatnonzero(near[:row] if before else near)
            if not len(candidates):
                found.append((row, None))
                continue
            levels = np.abs(thumbnails[candidates] - own_thumbnails[row]).mean(1)
            best = int(levels.argmin())
            found.append((row, int(candidates[best]) if levels[best] <= NEAR_LEVELS else None))
    return found


def _stacked(prints: Sequence[Fingerprint]) -> tuple[NDArray[np.uint16], NDArray[np.int16]]:
    return (
        np.stack([one.hash for one in prints]),
        np.stack([one.thumbnail for one in prints]).astype(np.int16),
    )
