"""Image files on disk: found, distinguished from other formats, measured."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from seatrial.errors import InvalidDataset

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
# Formats that Seatrial does not read: they are named, since a silent omission changes figures.
FOREIGN_SUFFIXES = frozenset({".bmp", ".dng", ".heic", ".jp2", ".mpo", ".pfm", ".tif", ".tiff"})
EXIF_ORIENTATION = 0x0112
# Errors that Pillow's plugins raise on damaged files.
DAMAGE = (
    OSError, ValueError, SyntaxError, EOFError, RuntimeError, LookupError, TypeError,
    ArithmeticError, MemoryError, struct.error, zlib.error,
)  # fmt: skip


def image_files(folder: Path, *, foreign: bool = True) -> list[Path]:
    """All image files in a folder and its subfolders, sorted.

    Args:
        folder: Folder to search; other files in it are skipped.
        foreign: Whether formats that Seatrial does not read are included, see `is_foreign`.
    """
    found = only_images(path for path in folder.rglob("*") if path.is_file())
    return found if foreign else [path for path in found if not is_foreign(path)]


def only_images(paths: Iterable[Path]) -> list[Path]:
    """The paths that name images, sorted, each once."""
    return sorted({p for p in paths if p.suffix.lower() in SUFFIXES | FOREIGN_SUFFIXES})


def is_foreign(path: Path) -> bool:
    """Whether an image is in a format that Seatrial does not read."""
    return path.suffix.lower() in FOREIGN_SUFFIXES


def upright_size(path: Path) -> tuple[int, int]:
    """(width, height) of the upright image, pixels, from the header of the file.

    Raises:
        InvalidDataset: The file is damaged, or not an image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            sideways = image.getexif().get(EXIF_ORIENTATION, 1) in range(5, 9)
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise InvalidDataset(f"{path} is damaged or not a picture: {error}") from error
    return (height, width) if sideways else (width, height)
