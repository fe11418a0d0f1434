"""Image files on disk: found, distinguished from other formats, measured."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import os
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image, TiffImagePlugin, UnidentifiedImageError, features

from seatrial.errors import InvalidDataset, InvalidInput
from seatrial.system.files import open_file
from seatrial.system.png import PNG_MAGIC, exif_and_xmp, png_chunks, png_header

# Suffix -> Pillow's name of the formats that the service takes. An .mpo is a JPEG with further
# images behind it.
SERVED = {
    ".apng": "PNG", ".jfif": "JPEG", ".jif": "JPEG", ".jpe": "JPEG", ".jpeg": "JPEG",
    ".jpg": "JPEG", ".mpo": "JPEG", ".png": "PNG", ".webp": "WEBP",
}  # fmt: skip
SUFFIXES = frozenset(SERVED)
SERVED_FORMATS = ("JPEG", "PNG", "WEBP")
# Suffix -> Pillow's name of a format that is read from disk as well, where Pillow can.
FILE_FORMATS = {
    ".avif": "AVIF", ".avifs": "AVIF", ".bmp": "BMP", ".dib": "BMP", ".gif": "GIF",
    ".heic": "HEIF", ".heif": "HEIF", ".hif": "HEIF", ".j2k": "JPEG2000", ".jp2": "JPEG2000",
    ".pbm": "PPM", ".pgm": "PPM", ".pnm": "PPM", ".ppm": "PPM", ".tif": "TIFF", ".tiff": "TIFF",
}  # fmt: skip
# Formats that are never read: they are named, since a silent omission changes figures.
FOREIGN_SUFFIXES = frozenset(
    {".arw", ".cr2", ".cr3", ".dng", ".exr", ".hdr", ".jxl", ".nef", ".orf", ".pfm", ".raf",
     ".rw2", ".tga"}
)  # fmt: skip
# What a Pillow without the format lacks.
MISSING = {
    "AVIF": "pip install 'pillow>=11.3'",
    "HEIF": "pip install pillow-heif",
    "JPEG2000": "install a Pillow with OpenJPEG",
}
EXIF_MAGIC = b"Exif\x00\x00"
XMP_MAGIC = b"http://ns.adobe.com/xap/1.0/\x00"
EXIF_ORIENTATION = 0x0112
_TIFF_SHORT, _TIFF_LONG = 3, 4
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([1-8])\s*[\"'<]")
# Errors that Pillow's plugins raise on damaged files.
DAMAGE = (
    OSError, ValueError, SyntaxError, EOFError, RuntimeError, LookupError, TypeError,
    ArithmeticError, MemoryError, struct.error, zlib.error,
)  # fmt: skip
# Pillow warns of damaged metadata, which it leaves out: Python would print each text once, in the
# middle of a program's own output.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def image_files(
    folder: Path, *, foreign: bool = True, on_cycle: Callable[[Path], object] | None = None
) -> list[Path]:
    """All image files in a folder and its subfolders, sorted; links are followed.

    Args:
        folder: Folder to search; other files in it are skipped.
        foreign: Whether formats that cannot be read are included, see `is_foreign`.
        on_cycle: See `files_below`.
    """
    found = only_images(files_below(folder, on_cycle))
    return found if foreign else [path for path in found if not is_foreign(path)]


def files_below(
    folder: Path,
    on_cycle: Callable[[Path], object] | None = None,
    on_odd: Callable[[Path], object] | None = None,
) -> Iterator[Path]:
    """The files in a folder and its subfolders, those behind links to folders too.

    A link that leads nowhere is one of them: whoever reads it says so.

    Args:
        folder: Folder to search; nothing is found where there is none.
        on_cycle: Called with each link to a folder that it lies in; it is not followed.
        on_odd: Called with each pipe, device and socket; it is left out.
    """

    def visit(place: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
            own = os.stat(place)
        except OSError:  # no such folder, or one that must not be read
            return
        above |= {(own.st_dev, own.st_ino)}
        for entry in entries:
            path = place / entry.name
            try:
                there = entry.stat()
            except OSError:  # a dead link, or one to itself
                yield path
                continue
            if stat.S_ISREG(there.st_mode):
                yield path
            elif stat.S_ISDIR(there.st_mode) and not is_macos_file(path):
                if (there.st_dev, there.st_ino) not in above:
                    yield from visit(path, above)
                elif on_cycle is not None:
                    on_cycle(path)
            elif on_odd is not None and not stat.S_ISDIR(there.st_mode):
                on_odd(path)

    yield from visit(folder, frozenset())


def only_images(paths: Iterable[Path]) -> list[Path]:
    """The paths that name images, sorted, each once."""
    known = SUFFIXES | FOREIGN_SUFFIXES | FILE_FORMATS.keys()
    return sorted({p for p in paths if p.suffix.lower() in known and not is_macos_file(p)})


def is_macos_file(path: Path) -> bool:
    """Whether macOS wrote the file beside a person's own one, into an archive or on a disk."""
    return path.name.startswith("._") or "__MACOSX" in path.parts


def is_foreign(path: Path) -> bool:
    """Whether an image is in a format that cannot be read here."""
    return bool(foreign_reason(path))


def foreign_reason(path: Path) -> str:
    """Why an image of this suffix cannot be read, and what to do; empty where it can."""
    suffix = path.suffix.lower()
    if suffix in FOREIGN_SUFFIXES:
        return f"{suffix} files are not read: convert it to JPEG or PNG"
    kind = FILE_FORMATS.get(suffix)
    if kind is None or kind in file_formats():
        return ""
    return missing_format(kind)


def usual_suffix(kind: str) -> str:
    """The usual suffix of files in a format, by Pillow's name of it; empty for an unknown one."""
    known = SERVED | FILE_FORMATS
    likely = (f".{kind.lower()}", *sorted(known))
    return next((suffix for suffix in likely if known.get(suffix) == kind), "")


def missing_format(kind: str) -> str:
    """That a format cannot be read, and what to do about it."""
    return f"{kind} is not read here: {MISSING[kind]}, or convert it to JPEG or PNG"


def unread_pixels(file: BinaryIO | Path) -> str:
    """Which pixels a whole TIFF has that Pillow does not read, for example three of 32-bit float.

    Returns:
        That, and what to do about it; empty for any other file.
    """
    try:
        TiffImagePlugin.TiffImageFile(file).close()
    except SyntaxError as error:
        if str(error) != "unknown pixel mode":
            return ""
        cause = error.__cause__.args[0] if isinstance(error.__cause__, KeyError) else ()
        bits = [part for part in cause if isinstance(part, tuple) and part and max(part) >= 8]
        kind = f" (bits per channel: {', '.join(map(str, bits[0]))})" if bits else ""
        return f"the TIFF has pixels of a kind that is not read{kind}: convert it to 8 bits"
    except DAMAGE:
        return ""
    return ""


@functools.cache
def file_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read from disk; the plug-in for HEIF is loaded."""
    found = [*SERVED_FORMATS, "BMP", "GIF", "PPM", "TIFF"]
    if "avif" in features.modules and features.check("avif"):
        found.append("AVIF")
    if features.check("jpg_2000"):
        found.append("JPEG2000")
    if importlib.util.find_spec("pillow_heif") is not None:
        importlib.import_module("pillow_heif").register_heif_opener()
        found.append("HEIF")
    return tuple(found)


def images_digest(images: Iterable[tuple[str, bytes]]) -> str:
    """``sha256:`` over names and bytes, in order: equal digests mean equal images.

    Args:
        images: Name below the folder, and content, of each file.
    """
    digest = hashlib.sha256()
    for name, data in images:
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0" + data)
    return f"sha256:{digest.hexdigest()}"


def upright_size(path: Path) -> tuple[int, int]:
    """(width, height) of the image as it is decoded, upright, in pixels.

    Only the header is read, and in a PNG the orientation wherever it is.

    Raises:
        InvalidDataset: The file is damaged, or not an image.
    """
    try:
        if (found := _png_size(path)) is not None:
            return found
        with Image.open(path, formats=file_formats()) as image:
            width, height = image.size
            sideways = orientation_of(image) >= 5
    except UnidentifiedImageError as error:  # its message is the path
        if unread := unread_pixels(path):
            raise InvalidDataset(f"{path}: {unread}") from error
        raise InvalidDataset(f"{path} is damaged or not an image") from error
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise InvalidDataset(f"{path} is damaged or not an image: {error}") from error
    except InvalidInput as error:
        raise InvalidDataset(f"{path} is damaged or not an image: {error.message}") from error
    return (height, width) if sideways else (width, height)


def _png_size(path: Path) -> tuple[int, int] | None:
    """Size of a PNG, upright; None for any other file."""
    with open_file(path) as file:

        def read(start: int, length: int) -> bytes:
            file.seek(start)
            return file.read(length)

        if read(0, len(PNG_MAGIC)) != PNG_MAGIC:
            return None
        chunks = png_chunks(read)
        header = png_header(read, chunks.header)
        sideways = orientation(*exif_and_xmp(read, chunks.metadata)) >= 5
    width, height = (int.from_bytes(header[place : place + 4], "big") for place in (0, 4))
    return (height, width) if sideways else (width, height)


def orientation_of(image: Image.Image) -> int:
    """Orientation, 1-8, in which a PIL image that was not loaded yet will lie; see `orientation`.

    Pillow turns a TIFF by itself: its size by the tag when it opens the file, its pixels when it
    loads them. AVIF and HEIF turn by their container alone (ISO 23000-22, 7.3.10.1), which Pillow
    gives as EXIF.
    """
    if image.format == "TIFF":
        tagged = EXIF_ORIENTATION in getattr(image, "tag_v2", ())
        said = 1 if tagged else image.getexif().get(EXIF_ORIENTATION, 1)
        return said if said in range(1, 9) else 1
    contained = image.format in ("AVIF", "HEIF")
    return orientation(image.info.get("exif", b""), b"" if contained else _packet(image))


def _packet(image: Image.Image) -> bytes:
    found = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    return found.encode("utf-8", "replace") if isinstance(found, str) else bytes(found)


def orientation(exif: bytes, xmp: bytes = b"") -> int:
    """Orientation, 1-8, by EXIF, and where that does not say it, by XMP.

    1 where it is missing or broken: viewers show such an image as it is stored.

    Args:
        exif: Block of EXIF, with or without `EXIF_MAGIC` before it.
        xmp: Packet of XMP (ISO 16684-1); the key is ``tiff:Orientation``.
    """
    found = exif_orientation(exif)
    if found is None and (said := _XMP_ORIENTATION.search(xmp)):
        return int(said[1])
    return found or 1


def exif_orientation(exif: bytes) -> int | None:
    """Orientation, 1-8, in the first directory of an EXIF block (TIFF 6.0, section 2).

    None where it is missing or broken.

    Args:
        exif: The block, with or without `EXIF_MAGIC` before it, which programs write twice, too.
    """
    begin = 0
    while exif.startswith(EXIF_MAGIC, begin):
        begin += len(EXIF_MAGIC)
    tiff = exif[begin:]
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(tiff[:4])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, values = struct.unpack_from(order + "HHI", tiff, entry)
            if tag == EXIF_ORIENTATION:
                # SHORT by the standard; cameras and programs write LONG too, and viewers take it.
                width = {_TIFF_SHORT: "H", _TIFF_LONG: "I"}.get(kind)
                if width is None or values != 1:
                    return None
                (value,) = struct.unpack_from(order + width, tiff, entry + 8)
                return value if 1 <= value <= 8 else None
    except struct.error:  # an offset behind the end
        pass
    return None
