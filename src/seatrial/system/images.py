"""Image files on disk: which files are images, which of them are read, and how large they are."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from seatrial.errors import InvalidDataset

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
# Images to other programs and not to this one: leaving them out would change the figures unseen.
FOREIGN_SUFFIXES = frozenset({".bmp", ".dng", ".heic", ".jp2", ".mpo", ".pfm", ".tif", ".tiff"})
EXIF_ORIENTATION = 0x0112
# What Pillow's plugins raise on damaged files.
DAMAGE = (
    OSError, ValueError, SyntaxError, EOFError, RuntimeError, LookupError, TypeError,
    ArithmeticError, MemoryError, struct.error, zlib.error,
)  # fmt: skip


def image_files(folder: Path, *, foreign: bool = True) -> list[Path]:
    """All image files of a folder and of the folders in it, sorted.

    Args:
        folder: Is walked; other files in it are passed over.
        foreign: Formats that are not read are among them, see `is_foreign`.
    """
    found = only_images(path for path in folder.rglob("*") if path.is_file())
    return found if foreign else [path for path in found if not is_foreign(path)]


def only_images(paths: Iterable[Path]) -> list[Path]:
    """Those of some paths that name images, sorted, each once."""
    return sorted({p for p in paths if p.suffix.lower() in SUFFIXES | FOREIGN_SUFFIXES})


def is_foreign(path: Path) -> bool:
    """Whether an image is in a format that is not read."""
    return path.suffix.lower() in FOREIGN_SUFFIXES


def upright_size(path: Path) -> tuple[int, int]:
    """Upright (width, height), pixels, from the header.

    Raises:
        InvalidDataset: The file has no such header.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            sideways = image.getexif().get(EXIF_ORIENTATION, 1) in range(5, 9)
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise InvalidDataset(f"{path} is damaged or not a picture: {error}") from error
    return (height, width) if sideways else (width, height)
