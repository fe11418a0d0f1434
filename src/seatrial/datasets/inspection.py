"""Image files looked at, several at a time: their headers, or all of their pixels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from seatrial.detect.decode import COARSE_SCANS, EXTRANEOUS, decoded_size, misnamed
from seatrial.errors import InvalidDataset, InvalidInput
from seatrial.progress import Progress, silent
from seatrial.system.images import upright_size

MAX_PIXELS = 200_000_000
_KINDS = {EXTRANEOUS: "extraneous-bytes", COARSE_SCANS: "missing-scans"}
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedImage:
    """Size of an image file, or why it has none.

    Attributes:
        size: Upright (width, height), pixels; (0, 0) where there is an error.
        error: Why it cannot be decoded; empty if it can.
        warnings: Kind of issue and message of what is odd about an image that can be used.
        sha256: Hash of the file; empty where its pixels were not decoded.
    """

    size: tuple[int, int] = (0, 0)
    error: str = ""
    warnings: tuple[tuple[str, str], ...] = ()
    sha256: bytes = b""


def inspect_images(
    paths: Sequence[Path], on_progress: Progress = silent, *, pixels: bool = True
) -> dict[Path, InspectedImage]:
    """Look at some files.

    Args:
        paths: Existing files.
        on_progress: Called after each, from the calling thread.
        pixels: Whether to decode them; otherwise their headers are read, and damage behind the
            header is not noticed.
    """
    look, what = (_decoded, "decoding images") if pixels else (_header, "measuring images")
    return in_threads(look, paths, what, on_progress)


def in_threads(
    function: Callable[[Path], Result], paths: Sequence[Path], what: str, on_progress: Progress
) -> dict[Path, Result]:
    """The result of a function for each file, several at a time; Ctrl-C ends it."""
    found: dict[Path, Result] = {}
    with ThreadPoolExecutor(os.cpu_count() or 1, "seatrial-images") as pool:
        try:
            for path, one in zip(paths, pool.map(function, paths), strict=True):
                found[path] = one
                on_progress(what, len(found), len(paths))
        except BaseException:  # Ctrl-C too: images that wait are not started
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return found


def _header(path: Path) -> InspectedImage:
    try:
        return InspectedImage(size=upright_size(path))
    except InvalidDataset as error:
        return InspectedImage(error=error.message.removeprefix(f"{path} is "))


def _decoded(path: Path) -> InspectedImage:
    warnings: list[tuple[str, str]] = []
    try:
        data = path.read_bytes()
        size = decoded_size(data, max_pixels=MAX_PIXELS, on_warning=noting(warnings))
    except OSError as error:
        return InspectedImage(error=f"cannot be read: {error.strerror}")
    except InvalidInput as error:
        return InspectedImage(error=error.message)
    return InspectedImage(
        size=size,
        warnings=(*warnings, *suffix_warnings(path, data)),
        sha256=hashlib.sha256(data).digest(),
    )


def noting(warnings: list[tuple[str, str]]) -> Callable[[str], object]:
    """A receiver of the decoder's warnings, which appends them with their kind of issue."""
    return lambda message: warnings.append((_KINDS[message], message))


def suffix_warnings(path: Path, data: bytes) -> tuple[tuple[str, str], ...]:
    """The warning that a file holds another format than its name says, if it does."""
    kind = misnamed(path.suffix, data)
    return (("misnamed-image", f"holds {kind}, which its name does not say"),) if kind else ()
