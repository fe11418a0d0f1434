"""Results of long steps on disk, so that a run that was killed goes on where it was.

Every step is a function of what the workspace is named after (the parent, the pictures, the
options, the versions) and of the steps before it. Its result is written to one file, which
appears whole or not at all. A run that is started again reads the files that are there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.artifact import Store
from seatrial.errors import InvalidInput, NotWritable, SeatrialError
from seatrial.system.files import NO_SPACE

T = TypeVar("T")
Arrays = dict[str, NDArray[Any]]
PREFIX = ".compress-"
KEPT_S = 14 * 24 * 3600.0  # since the last step of a killed run


class Workspace:
    """A folder of results. Steps are named; a name stands for one result.

    Args:
        folder: There already, on the store's file system.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder

    def value(self, name: str, kind: type[T], compute: Callable[[], T]) -> T:
        """A struct, as JSON."""
        file = self.path / f"{name}.json"
        if not file.is_file():
            data = msgspec.json.format(msgspec.json.encode(compute()), indent=1)
            self._write(file, lambda part: part.write_bytes(data))
        return msgspec.json.decode(file.read_bytes(), type=kind)

    def arrays(self, name: str, compute: Callable[[], Arrays]) -> Arrays:
        """Named arrays."""
        file = self.path / f"{name}.npz"
        if not file.is_file():
            found = compute()
            self._write(file, lambda part: _save(part, found))
        with np.load(file) as stored:
            return {key: stored[key] for key in stored.files}

    def folder(self, name: str, fill: Callable[[Path], None]) -> Path:
        """A folder of files, for example a graph and its weights."""
        final = self.path / name
        if not final.is_dir():
            part = Path(tempfile.mkdtemp(prefix=".part-", dir=self.path))
            fill(part)
            part.chmod(0o755)
            os.rename(part, final)
        return final

    def _write(self, file: Path, write: Callable[[Path], object]) -> None:
        part = file.with_name(f".part-{file.name}")
        write(part)
        os.replace(part, file)


def _save(path: Path, arrays: Arrays) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # stubs take a named flag for an array


@contextlib.contextmanager
def workspace(store: Store, key: str) -> Iterator[Workspace]:
    """The workspace of a run, in the store's folder; hidden, so that it is no artifact.

    It is removed when the run is through, or fails with an error that trying again would not
    mend. It stays when the run is killed or interrupted, for 14 days.

    Args:
        store: Its root is made where it is not there yet.
        key: What the run depends on, in words; equal keys share results.

    Raises:
        InvalidInput: Another process works in it.
        NotWritable: The store cannot be written, or is full.
    """
    _sweep(store)
    folder = store.root / f"{PREFIX}{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("wb") as lock:
            _only_one(lock.fileno(), folder)
            for left in folder.glob(".part-*"):  # of a run that was killed while writing
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            try:
                yield Workspace(folder)
            except SeatrialError:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        inside = error.filename and Path(error.filename).is_relative_to(store.root)
        if not inside and error.errno not in NO_SPACE:
            raise
        shutil.rmtree(folder, ignore_errors=True)
        raise NotWritable(
            f"the store {store.root} cannot be written: {error.strerror}",
            hint="free some space, or name another folder (SEATRIAL_HOME)",
        ) from error


def _sweep(store: Store) -> None:
    """Remove what killed runs left that nobody went on with."""
    for left in store.root.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another process sweeps, or works in it
            if time.time() - left.stat().st_mtime < KEPT_S:
                continue
            with (left / ".lock").open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left)


def _only_one(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InvalidInput(
            f"another process compresses the same model with the same options ({folder.name})",
            hint="wait for it to end",
        ) from error
