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
EXIF_MAGIC = b"Exif\x00\x00"
EXIF_ORIENTATION = 0x0112
TIFF_ONE_SHORT = (3, 1)  # type SHORT, one value
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
    """(width, height) of the image as it is decoded, upright, in pixels.

    Pixels are read in a PNG only, and only where its EXIF is not before them.

    Raises:
        InvalidDataset: The file is damaged, or not an image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            if image.format == "PNG" and "exif" not in image.info:
                image.load()
            sideways = exif_orientation(image.info.get("exif", b"")) >= 5
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise InvalidDataset(f"{path} is damaged or not an image: {error}") from error
    return (height, width) if sideways else (width, height)


def exif_orientation(exif: bytes) -> int:
    """Orientation, 1-8, in the first directory of an EXIF block (TIFF 6.0, section 2).

    1 where it is missing or broken: viewers show such an image as it is stored.

    Args:
        exif: The block, with or without `EXIF_MAGIC` before it.
    """
    tiff = exif.removeprefix(EXIF_MAGIC)
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, values, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if tag == EXIF_ORIENTATION:
                return value if (kind, values) == TIFF_ONE_SHORT and 1 <= value <= 8 else 1
    except struct.error:  # an offset behind the end
        pass
    return 1
