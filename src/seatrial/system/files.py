"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import difflib
import errno
import hashlib
import io
import itertools
import os
import shlex
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from seatrial.errors import InvalidDataset, InvalidInput, NotWritable

MOST_BYTES = 2**30
TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)  # there is something at the place
PART = ".part-"  # begin of the name of a folder for a file that is being written
MOST_BESIDE = 5000  # names of a folder among which a near one is looked for
PROBE_BYTES = 2**20
NOT_REGULAR = "it is not a regular file"
OWN_DESCRIPTORS = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def sha256_file(path: Path) -> str:
    """sha256 of a file, in hex."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_file(path: Path) -> io.BufferedReader:
    """Open a file for reading; a pipe in a folder, which nobody may ever write to, is none.

    A pipe that this process was given (``/dev/stdin``, ``<(command)`` of a shell) is read.

    Raises:
        OSError: It cannot be opened, or is a pipe.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        own = str(path).startswith(OWN_DESCRIPTORS)
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode) and not own:
            raise OSError(errno.EINVAL, NOT_REGULAR, str(path))
        os.set_blocking(descriptor, True)
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def bounded_bytes(path: Path, most: int) -> bytes:
    """The content of a file that may be a device, a pipe, or larger than the memory.

    Args:
        path: The file.
        most: Most bytes that it may have.

    Raises:
        OSError: It cannot be read (see `open_file`), or has more bytes.
    """
    with open_file(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most / 2**20:g} MiB", str(path))
    return data


def read_bytes(path: Path) -> bytes:
    """The content of an image or another file of up to `MOST_BYTES`.

    Raises:
        InvalidInput: It cannot be read.
    """
    try:
        return bounded_bytes(path, MOST_BYTES)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", hint=beside(path)) from error
    except ValueError as error:  # a NUL character, or a lone surrogate
        raise InvalidInput(f"{str(path)!r} is not the path of a file: {error}") from error


@contextlib.contextmanager
def in_memory(data: bytes) -> Iterator[Path]:
    """A file in memory with some bytes, for libraries that take files alone; gone with the block.

    Args:
        data: All of it.
    """
    descriptor = os.memfd_create("seatrial")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def beside(path: Path, *, otherwise: str = "") -> str:
    """The hint for a file or a folder that cannot be read: what is beside it, where that helps.

    Args:
        path: The path, as it was named.
        otherwise: The hint where nothing beside it has nearly that name.
    """
    try:
        if path.exists():
            if not path.is_file():
                return "name a file in it" if path.is_dir() else "name a regular file"
            return f"see who may read it: ls -l {shlex.quote(str(path))}"
        folder = path.parent
        if not folder.exists():
            return beside(folder, otherwise=otherwise) or f"there is no folder {folder}"
        names = [one.name for one in itertools.islice(folder.iterdir(), MOST_BESIDE)]
    except (OSError, ValueError):
        return otherwise
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.7)
    if near:
        return f"did you mean {folder / near[0]}?"
    return otherwise or ("" if path.is_absolute() else f"relative paths begin at {Path.cwd()}")


def odd_kind(path: Path) -> str:
    """Kind of a place that is neither file nor folder: a pipe, a device, a socket; else empty."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return ""
    kinds = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"),
             (stat.S_ISBLK, "a device"))  # fmt: skip
    return next((kind for is_one, kind in kinds if is_one(mode)), "")


def check_folder(folder: Path, *, hint: str) -> None:
    """Check that there is a folder of images or labels to read.

    Raises:
        InvalidDataset: There is none; `hint` says what to give.
    """
    if not folder.is_dir():
        kind = odd_kind(folder)
        what = f"is {kind}, not a folder" if kind else "is not a folder"
        what = what if folder.exists() else "does not exist"
        raise InvalidDataset(
            f"{folder} {what}", hint=hint if folder.exists() else beside(folder, otherwise=hint)
        )
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise InvalidDataset(
            f"{folder} cannot be read: {error.strerror}",
            hint=f"see who may read it: ls -ld {folder}",
        ) from error


@contextlib.contextmanager
def staged_folder(folder: Path, *, replace: bool = False, setting: str = "") -> Iterator[Path]:
    """An empty folder beside the wanted one, moved to its place when the block ends well.

    A block that raises, or is killed, leaves what was there before. A process that is killed while
    it replaces a folder may leave the old one as ``.NAME-*/old`` beside it.

    Args:
        folder: The wanted folder: missing or empty; its parents are made.
        replace: Whether the new folder may replace one with files; the caller decides that.
        setting: See `writing`.

    Raises:
        InvalidInput: There is a file of that name, or the folder holds files and `replace` is
            false.
        NotWritable: The folder cannot be made or written, or the disk is full.
    """
    folder = folder.expanduser().absolute()
    if folder.is_symlink():  # files go where the link leads, which may be another disk
        folder = folder.resolve()
    check_free(folder, replace=replace)
    with writing(folder, setting=setting):
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    staged = scratch / "new"
    try:
        staged.mkdir()
        with writing(folder, within=scratch, setting=setting):
            yield staged
        with writing(folder, setting=setting):
            if replace:
                put_in_place(staged, folder, scratch / "old")
            elif not move(staged, folder):  # another command was faster
                check_free(folder)
                raise InvalidInput(f"{folder} changed meanwhile", hint="try again")
    finally:
        if folder.exists():
            discard(scratch / "old")
        shutil.rmtree(staged, ignore_errors=True)
        with contextlib.suppress(OSError):  # what could not be moved back stays in it
            scratch.rmdir()


def move(folder: Path, target: Path) -> bool:
    """Rename a folder, also onto an empty one; False where there is anything else."""
    try:
        os.rename(folder, target)
    except OSError as error:
        if error.errno in TAKEN:
            return False
        raise
    return True


def put_in_place(new: Path, target: Path, old: Path) -> None:
    """Move a folder to its place, and what was there out of it; all on one file system.

    Args:
        new: The folder to move.
        target: Its place.
        old: Where what was at `target` is moved to, for `discard`.

    Raises:
        OSError: `new` cannot be moved there; what was at `target` is moved back.
    """
    with contextlib.suppress(FileNotFoundError):
        os.rename(target, old)
    try:
        os.rename(new, target)
    except OSError:
        with contextlib.suppress(OSError):
            os.rename(old, target)
        raise


def discard(old: Path) -> None:
    """Remove a folder, a file or a link, as far as that is possible; it may be missing."""
    if old.is_dir() and not old.is_symlink():
        shutil.rmtree(old, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            old.unlink()


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


def check_place(file: Path, *, hint: str, inputs: Iterable[Path] = ()) -> None:
    """Check that a file can be written, before the work whose result it gets.

    Args:
        file: The file.
        hint: What to do next.
        inputs: Files and folders that are read: none of the files, and nothing in one of the
            folders, is overwritten.

    Raises:
        InvalidInput: It is one of the inputs or in one of them, also through a link.
        NotWritable: It is a folder, or its folder is missing or cannot be written to.
    """
    inputs = list(inputs)
    if any(_same(file, one) for one in inputs):
        raise InvalidInput(f"{file} is one of the inputs: it would be overwritten", hint=hint)
    place = file.resolve()
    within = next((one for one in inputs if one.is_dir() and one.resolve() in place.parents), None)
    if within is not None:
        raise InvalidInput(f"{file} is in {within}, which is read", hint=hint)
    with writing(file, hint=hint):
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=file.parent):
            pass


def _same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file; a file that is not there yet is the same by its path."""
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return one.absolute() == other.absolute()


@contextlib.contextmanager
def staged_file(path: Path) -> Iterator[Path]:
    """A path beside the wanted one to write to, renamed to it when the block ends well.

    A block that raises leaves the file that was there before; a block that is killed also leaves
    a folder ``.part-*`` beside it. The folder is new, so nothing in it is a link or another's file.

    Raises:
        OSError: The file cannot be written; `writing` maps the error.
    """
    scratch = Path(tempfile.mkdtemp(prefix=PART, dir=path.parent))
    part = scratch / path.name
    try:
        yield part
        os.replace(part, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


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


def not_written(folder: Path, said: str, *, setting: str = "") -> NotWritable:
    """The error for a library that could not write into a folder, with the cause that is found.

    Args:
        folder: The folder.
        said: The library's words.
        setting: See `writing`.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(PROBE_BYTES))
    except OSError as error:
        return not_writable(folder, error, setting=setting)
    return NotWritable(f"{folder} cannot be written: {said}", hint=_another_folder(setting))


def room_hint(setting: str = "") -> str:
    """The hint where a disk is full; for `setting` see `writing`."""
    return f"free some space, or {_another_folder(setting)}"


def _another_folder(setting: str) -> str:
    return f"name another folder{f' ({setting})' if setting else ''}"
