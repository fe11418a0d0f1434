"""Files found under the names that labels give them, as tools and other machines write them."""

from __future__ import annotations

import os
import unicodedata
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path, PureWindowsPath

LONGEST_NAME = 255  # bytes of a name in the file systems of Linux
DEEPEST = 16  # parts of another machine's path that can be those of a path here


class Locator:
    """Finds the files that labels name; a file that a name fits loosely is given once.

    Args:
        homes: Folders that names can be relative to, the likeliest first; at least one.
    """

    def __init__(self, homes: Sequence[Path]) -> None:
        self._homes = list(dict.fromkeys(homes))
        self._given: dict[Path, str] = {}

    def find(self, name: str) -> Path:
        """The file of a name; where there is none, the path at which it was expected.

        The name is tried as it is, with slashes for the backslashes of Windows, and in the two ways
        in which Unicode writes accents (macOS takes them apart); an address of Label Studio,
        ``/data/local-files/?d=a%20b.jpg``, as the file it means. Then its folders are left out from
        the front: they are those of another machine. So two names can fit one file; the first
        counts, since the image of the second one is missing.
        """
        for place in self._places(spellings(name)):
            if os.path.isfile(place):
                self._given.setdefault(place, name)
                return place
        ends = (tail for spelling in spellings(name) for tail in tails(spelling))
        for place in self._places(ends):
            if os.path.isfile(place) and self._given.setdefault(place, name) == name:
                return place
        return self._homes[0] / possible(relative(name))

    def _places(self, names: Iterator[str]) -> Iterator[Path]:
        tried = list(names)
        for home in self._homes:
            yield from (home / name for name in tried)


def spellings(name: str) -> Iterator[str]:
    """A name as it is, and as other systems write it."""
    found = [name]
    if "\\" in name:
        found.append(relative(name))
    found += _of_address(name)
    if not found[-1].isascii():
        found += [unicodedata.normalize(form, one) for form in ("NFC", "NFD") for one in found]
    yield from dict.fromkeys(found)


def _of_address(name: str) -> list[str]:
    """The file that an address of the web or of Label Studio means; none for another name."""
    local = urllib.parse.parse_qs(name.partition("?")[2]).get("d", [])
    quoted = [urllib.parse.unquote(name)] if "%" in name else []
    return local or quoted


def relative(name: str) -> str:
    """A path with slashes and without a drive, if it is one of Windows; else the name."""
    if "\\" not in name:
        return name
    path = PureWindowsPath(name)
    return path.relative_to(path.anchor).as_posix() if path.anchor else path.as_posix()


def possible(name: str) -> str:
    """A name that no file has as one that the file system can be asked for: parts are cut."""
    parts = name.replace("\0", "").split("/")
    cut = (os.fsencode(part)[:LONGEST_NAME].decode("utf-8", "ignore") for part in parts)
    return "/".join(cut)


def bare(name: str) -> str:
    """The last part of a path, on POSIX or on Windows."""
    return PureWindowsPath(name).name or name


def tails(name: str) -> Iterator[str]:
    """The ends of a path: ``b/c.jpg`` and ``c.jpg`` of ``/a/b/c.jpg``; of `DEEPEST` parts."""
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    whole = 0 if name.startswith(("/", ".")) else 1
    for first in range(max(whole, len(parts) - DEEPEST), len(parts)):
        yield "/".join(parts[first:])
