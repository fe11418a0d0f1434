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

from seatrial.errors import InvalidDataset, InvalidInput, NotWritable

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def sha256_file(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        InvalidInput: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # a NUL character, or a lone surrogate
        raise InvalidInput(f"{str(path)!r} is not the path of a file: {error}") from error


def check_folder(folder: Path, *, hint: str) -> None:
    """Check that there is a folder of images or labels to read.

    Raises:
        InvalidDataset: There is none; `hint` says what to give.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise InvalidDataset(f"{folder} {what}", hint=hint)


@contextlib.contextmanager
def staged_folder(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """An empty folder beside the wanted one, moved to its place when the block ends well.

    A block that raises, or is killed, leaves what was there before.

    Args:
        folder: The wanted folder: missing or empty; its parents are made.
        replace: Whether the new folder may replace one with files; the caller decides that.

    Raises:
        InvalidInput: There is a file of that name, or the folder holds files and `replace` is
            false.
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
    """Check that a folder may be written.

    Raises:
        InvalidInput: It is a file, or it holds files and `replace` is false.
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


def check_place(file: Path, *, hint: str) -> None:
    """Check that a file can be written, before the work whose result it gets.

    Args:
        file: The file.
        hint: What to do next.

    Raises:
        NotWritable: It is a folder, or its folder is missing or cannot be written to.
    """
    with writing(file, hint=hint):
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=file.parent):
            pass


@contextlib.contextmanager
def staged_file(path: Path) -> Iterator[Path]:
    """A path beside the wanted one to write to, renamed to it when the block ends well.

    A block that raises leaves the file that was there before; a block that is killed also leaves
    a file ``.part-NAME`` beside it.

    Raises:
        OSError: The file cannot be written; `writing` maps the error.
    """
    part = path.with_name(f".part-{path.name}")
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that readers see the old or the new content, never a part.

    Raises:
        OSError: See `staged_file`.
    """
    with staged_file(path) as part:
        part.write_bytes(data)


@contextlib.contextmanager
def writing(
    target: Path | str,
    *,
    within: Path | None = None,
    hint: str = "",
    setting: str = "",
) -> Iterator[None]:
    """Turn errors of the file system into `NotWritable`.

    Args:
        target: The place that the message names.
        within: Folder whose errors are mapped; errors of files elsewhere pass unchanged, unless
            the disk is full or read-only. None: all are mapped.
        hint: What to do next; by default it follows from the error.
        setting: Option or variable that names the folder, for the default hint.

    Raises:
        NotWritable: No permission, no space, or a folder is missing.
    """
    try:
        yield
    except OSError as error:
        inside = within is None or (
            error.filename is not None and Path(error.filename).is_relative_to(within)
        )
        if not inside and error.errno not in (*FULL, errno.EROFS):
            raise
        raise not_writable(target, error, hint=hint, setting=setting) from error


def not_writable(
    target: Path | str, error: OSError, *, hint: str = "", setting: str = ""
) -> NotWritable:
    """The error for a place that cannot be written; see `writing` for the arguments."""
    if error.errno in FULL:
        remedy = room_hint(setting)
    elif error.errno in (errno.EACCES, errno.EPERM):
        remedy = f"change the permissions, or {_another_folder(setting)}"
    else:
        remedy = _another_folder(setting)
    return NotWritable(f"{target} cannot be written: {error.strerror}", hint=hint or remedy)


def room_hint(setting: str = "") -> str:
    """The hint where a disk is full; for `setting` see `writing`."""
    return f"free some space, or {_another_folder(setting)}"


def _another_folder(setting: str) -> str:
    return f"name another folder{f' ({setting})' if setting else ''}"


@contextlib.contextmanager
def locked(path: Path, *, on_wait: Callable[[], object] | None = None) -> Iterator[bool]:
    """Hold a lock between processes (``flock``); it ends with the process at the latest.

    Args:
        path: The lock file; made where it is missing, and kept.
        on_wait: Called before waiting for another process; None: do not wait.

    Yields:
        Whether the lock is held; always true where `on_wait` is given.

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
