"""Folders that are written again: replaced where all that is in them was written here."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from seatrial.errors import InvalidInput
from seatrial.system.files import bounded_bytes, sha256_file, staged_folder

RECORD = ".seatrial-written.json"
CACHE = "__pycache__"  # Python puts there what it made of the files beside it
HASHED_BYTES = 2**20  # larger files are models, which nobody edits by hand
RECORD_BYTES = 2**26
NOT_OURS = "which Seatrial did not write there"
# A module of Python as it is kept, and one that was being written: service.cpython-311.pyc.1234
_COMPILED = re.compile(r"[^.]+\.[a-z]+-?\d+(?:\.opt-\w+)?\.pyc(?:\.\d+)?")


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The files that were written into a folder.

    Attributes:
        files: Path in the folder -> sha256, or "" for a file of more than `HASHED_BYTES`.
    """

    files: dict[str, str]


def is_recorded(folder: Path) -> bool:
    """Whether `rewritten_folder` wrote a folder, whatever was put into it since."""
    return (folder / RECORD).is_file()


@contextlib.contextmanager
def rewritten_folder(
    folder: Path, *, of_runs: Collection[str] = (), setting: str = ""
) -> Iterator[Path]:
    """`staged_folder` that replaces what an earlier call wrote, and nothing else.

    The files are listed in `RECORD`, in the folder. A later call replaces the folder where it holds
    these files alone, none of them edited.

    Args:
        folder: The wanted folder: missing, empty, or from an earlier call.
        of_runs: Names of folders in it that programs of ours fill later: replaced too where they
            hold nothing but folders with a record of their own, and links.
        setting: See `seatrial.system.files.writing`.

    Raises:
        InvalidInput: It holds something else, or is a file; nothing in it is changed.
        NotWritable: See `staged_folder`.
    """
    recorded = is_recorded(folder)
    if recorded:
        check_recorded(folder, of_runs=of_runs)
    with staged_folder(folder, replace=recorded, setting=setting) as staged:
        yield staged
        record(staged)


def record(folder: Path) -> None:
    """Write the list of a folder's files, for `is_recorded` and `check_recorded`."""
    files = {
        str(path.relative_to(folder)): _digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    (folder / RECORD).write_bytes(msgspec.json.encode(_Record(files)))


def check_recorded(
    folder: Path, *, of_runs: Collection[str] = (), edited: bool = False, hint: str = ""
) -> None:
    """Check that a folder with a record may be removed: that nothing in it is somebody's own.

    Args:
        folder: The folder.
        of_runs: See `rewritten_folder`.
        edited: Whether files that were edited may go too.
        hint: What to do next.

    Raises:
        InvalidInput: It holds another file or folder, or an edited one.
    """
    hint = hint or "move it away, or name another folder"
    if not is_recorded(folder):
        raise InvalidInput(f"{folder} is not replaced: Seatrial did not write it", hint=hint)
    try:
        data = bounded_bytes(folder / RECORD, RECORD_BYTES)
        written = msgspec.json.decode(data, type=_Record).files
    except (OSError, msgspec.DecodeError) as error:
        raise InvalidInput(
            f"{folder} is not replaced: {RECORD} in it cannot be read", hint=hint
        ) from error
    folders = {str(one) for name in written for one in Path(name).parents}
    for at, inner, files in os.walk(folder, onerror=_raise):
        here = Path(at).relative_to(folder)
        if here == Path():
            for name in sorted({*of_runs} & {*inner}):
                inner.remove(name)
                _check_of_runs(folder, Path(name), hint)
        if CACHE in inner and not (Path(at) / CACHE).is_symlink():
            inner.remove(CACHE)
            _check_cache(folder, here, written, hint)
        inner.sort()
        links = [name for name in inner if (Path(at) / name).is_symlink()]
        for name in inner:
            if name in links or str(here / name) not in folders:
                raise _strange(folder, here / name, NOT_OURS, hint)
        for name in sorted(files):
            own = str(here / name)
            if own == RECORD:
                continue
            if own not in written or (Path(at) / name).is_symlink():
                raise _strange(folder, here / name, NOT_OURS, hint)
            if not edited and _digest(Path(at) / name) != written[own]:
                raise _strange(folder, here / name, "which was edited since", hint)


def _check_of_runs(folder: Path, name: Path, hint: str) -> None:
    """Check that a folder which runs of ours fill holds nothing else.

    Its files are in folders with a record each. A link can go: what it leads to stays.
    """
    for at, inner, files in os.walk(folder / name, onerror=_raise):
        if RECORD in files:
            check_recorded(Path(at), hint=hint)
            inner.clear()
            continue
        inner.sort()
        for file in sorted(files):
            if not (Path(at) / file).is_symlink():
                strange = (Path(at) / file).relative_to(folder)
                raise _strange(folder, strange, NOT_OURS, hint)


def _check_cache(folder: Path, here: Path, written: Collection[str], hint: str) -> None:
    """Check that Python made all that is in its cache of a folder, of files that were written."""
    for path in sorted((folder / here / CACHE).iterdir()):
        source = str(here / f"{path.name.partition('.')[0]}.py")
        made = _COMPILED.fullmatch(path.name) and path.is_file() and not path.is_symlink()
        if not (made and source in written):
            raise _strange(folder, path.relative_to(folder), NOT_OURS, hint)


def _digest(path: Path) -> str:
    return sha256_file(path) if path.stat().st_size <= HASHED_BYTES else ""


def _strange(folder: Path, name: Path, what: str, hint: str) -> InvalidInput:
    return InvalidInput(f"{folder} is not replaced: it holds {name}, {what}", hint=hint)


def _raise(error: OSError) -> None:
    raise InvalidInput(f"{error.filename} cannot be looked into: {error.strerror}") from error
