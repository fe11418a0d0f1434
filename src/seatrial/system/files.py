"""Folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from seatrial.errors import InvalidDataset, NotWritable


@contextlib.contextmanager
def staged_folder(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """An empty folder beside the wanted one, moved to its place when the block ends well.

    A block that raises, or is killed, leaves what was there before.

    Args:
        folder: Not there, or empty; its parents are made.
        replace: Put the new folder in the place of one with files. What may be replaced is for
            the caller to judge.

    Raises:
        InvalidDataset: The name is a file's, or the folder holds files that are not to be
            replaced.
        NotWritable: The folder cannot be made or written, or the disk is full.
    """
    folder = folder.expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise InvalidDataset(f"{folder} is a file", hint="name a folder")
    if not replace and folder.exists() and any(folder.iterdir()):
        raise InvalidDataset(f"{folder} holds files already", hint="name a new or an empty folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise _not_writable(folder, error) from error
    try:
        staged = scratch / "new"
        staged.mkdir()
        yield staged
        if folder.exists():
            os.rename(folder, scratch / "old")
        os.rename(staged, folder)
    except OSError as error:
        inside = error.filename and Path(error.filename).is_relative_to(scratch)
        if inside or error.errno in NO_SPACE:
            raise _not_writable(folder, error) from error
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _not_writable(folder: Path, error: OSError) -> NotWritable:
    return NotWritable(
        f"{folder} cannot be written: {error.strerror}",
        hint="free some space, or name another folder",
    )


NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def sha256_file(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
