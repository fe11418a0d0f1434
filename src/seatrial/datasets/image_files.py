"""Pictures as files: which are read, and how large they are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from seatrial.detect.decode import DAMAGE
from seatrial.errors import InvalidDataset

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
# Pictures to other programs and not to us: leaving them out would change the figures unseen.
FOREIGN_SUFFIXES = frozenset({".bmp", ".dng", ".heic", ".jp2", ".mpo", ".pfm", ".tif", ".tiff"})
EXIF_ORIENTATION = 0x0112


def pictures_in(folder: Path) -> list[Path]:
    """All pictures of a folder and of those in it, those in foreign formats too, sorted."""
    return pictures_of(path for path in folder.rglob("*") if path.is_file())


def pictures_of(paths: Iterable[Path]) -> list[Path]:
    """Those of some files that are pictures, sorted, each once."""
    return sorted({p for p in paths if p.suffix.lower() in SUFFIXES | FOREIGN_SUFFIXES})


def is_foreign(path: Path) -> bool:
    """Whether a picture is in a format that is not read."""
    return path.suffix.lower() in FOREIGN_SUFFIXES


def upright_size(path: Path) -> tuple[int, int]:
    """Upright (width, height), pixels, from the header.

    Raises:
        InvalidDataset: The file has no such header.
    """
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            sideways = picture.getexif().get(EXIF_ORIENTATION, 1) in range(5, 9)
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise InvalidDataset(f"{path} is damaged or not a picture: {error}") from error
    return (height, width) if sideways else (width, height)
