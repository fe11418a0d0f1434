"""Files and folders that appear whole or not at all, and locks between processes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from seatrial.errors import InvalidInput, NotWritable

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def sha256_file(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def staged_folder(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """An empty folder beside the wanted one, moved to its place when the block ends well.

    A block that raises, or is killed, leaves what was there before.

    Args:
        folder: Not there, or empty; its parents are made.
        replace: Put the new folder in the place of one with files. What may be replaced is for
            the caller to judge.

    Raises:
        InvalidInput: The name is a file's, or the folder holds files that are not to be
            replaced.
        NotWritable: The folder cannot be made or written, or the disk is full.
    """
    folder = folder.expanduser().absolute()
    check_free(folder, replace=replace)
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        staged = scratch / "new"
        staged.mkdir()
        with writing(folder, within=scratch):
            yield staged
            if folder.exists():
                os.rename(folder, scratch / "old")
            os.rename(staged, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def check_free(folder: Path, *, replace: bool = False) -> None:
    """Check that a folder can be written where a person named it.

    Raises:
        InvalidInput: It is a file; or it holds files, and those are not to be replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise InvalidInput(f"{folder} is a file", hint="name a folder")
    if not replace and folder.exists() and any(folder.iterdir()):
        raise InvalidInput(f"{folder} holds files already", hint="name a new or an empty folder")


def check_writable(folder: Path) -> None:
    """Make a folder, and check that files can be written to it.

    Raises:
        NotWritable: The folder cannot be made or written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


@contextlib.contextmanager
def staged_file(path: Path) -> Iterator[Path]:
    """A path beside the wanted one to write to, renamed to it when the block ends well.

    A block that raises leaves the file that was there before; one that is killed leaves a file
    ``.part-NAME`` beside it.

    Raises:
        OSError: As the block or the file system raises it: `writing` maps it.
    """
    part = path.with_name(f".part-{path.name}")
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that readers see whole, old or new.

    Raises:
        OSError: See `staged_file`.
    """
    with staged_file(path) as part:
        part.write_bytes(data)


@contextlib.contextmanager
def writing(
    target: Path,
    *,
    within: Path | None = None,
    hint: str = "free some space, or name another folder",
) -> Iterator[None]:
    """Map what the file system says against writing to one error.

    Args:
        target: What a person knows the place by.
        within: Where given, errors of files elsewhere stay what they are, unless the disk is full.
        hint: What to do next.

    Raises:
        NotWritable: No permission, no space, not a folder.
    """
    try:
        yield
    except OSError as error:
        inside = within is None or (
            error.filename is not None and Path(error.filename).is_relative_to(within)
        )
        if not inside and error.errno not in NO_SPACE:
            raise
        raise not_writable(target, error, hint=hint) from error


def not_writable(
    target: Path, error: OSError, *, hint: str = "free some space, or name another folder"
) -> NotWritable:
    """The error of a place that cannot be written."""
    return NotWritable(f"{target} cannot be written: {error.strerror}", hint=hint)


@contextlib.contextmanager
def locked(path: Path, *, on_wait: Callable[[], object] | None = None) -> Iterator[bool]:
    """Hold a lock between processes (``flock``); it ends with the process that holds it.

    Args:
        path: The lock file; made where it is not there, and left.
        on_wait: Called before waiting for another process. None: do not wait.

    Yields:
        Whether the lock is held: always, where waiting is allowed.

    Raises:
        OSError: The file cannot be opened.
    """
    with path.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_wait is None:
                yield False
                return
            on_wait()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield True
