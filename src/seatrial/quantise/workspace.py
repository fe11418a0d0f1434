"""Results of long steps on disk, so that a run that was killed continues where it was.

Every step is a function of what the workspace is named after (the parent, the images, the
options, the versions) and of the steps before it. Its result is written to one file, which
appears whole or not at all. A run that is started again reads the files that are there.
"""

from __future__ import annotations

import contextlib
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
from seatrial.config import encode_json
from seatrial.errors import InvalidInput, SeatrialError
from seatrial.system.files import staged_file, write_atomically, writing
from seatrial.system.locks import locked

T = TypeVar("T")
Arrays = dict[str, NDArray[Any]]
PREFIX = ".compress-"
KEPT_S = 14 * 24 * 3600.0  # from the last step of a killed run on


class Workspace:
    """A folder of results. Steps are named; a name stands for one result.

    Args:
        folder: An existing folder on the store's file system.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder

    def value(self, name: str, kind: type[T], compute: Callable[[], T]) -> T:
        """The struct of a step, kept as JSON."""
        file = self.path / f"{name}.json"
        if not file.is_file():
            write_atomically(file, encode_json(compute()))
        return msgspec.json.decode(file.read_bytes(), type=kind)

    def arrays(self, name: str, compute: Callable[[], Arrays]) -> Arrays:
        """The named arrays of a step."""
        file = self.path / f"{name}.npz"
        if not file.is_file():
            found = compute()
            with staged_file(file) as part, part.open("wb") as opened:
                np.savez(opened, **found)  # type: ignore[arg-type]  # stubs take a named flag
        with np.load(file) as stored:
            return {key: stored[key] for key in stored.files}

    def folder(self, name: str, fill: Callable[[Path], None]) -> Path:
        """The folder that a step fills, for example with a graph and its weights."""
        final = self.path / name
        if not final.is_dir():
            part = Path(tempfile.mkdtemp(prefix=".part-", dir=self.path))
            fill(part)
            part.chmod(0o755)
            os.rename(part, final)
        return final


@contextlib.contextmanager
def workspace(store: Store, key: str) -> Iterator[Workspace]:
    """The workspace of a run, in the store's folder; hidden, so that it is no artifact.

    It is removed when the run ends, or fails with an error that a second try would not mend. It
    stays when the run is killed or interrupted, for 14 days.

    Args:
        store: Its root is made where it is missing.
        key: Everything that the run depends on; equal keys share results.

    Raises:
        InvalidInput: Another process works in it.
        NotWritable: The store cannot be written, or is full.
    """
    _sweep(store)
    folder = store.root / f"{PREFIX}{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    with writing(store.root, within=store.root, setting="SEATRIAL_HOME"):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".lock") as alone:
            if not alone:
                raise InvalidInput(
                    "another process compresses the same model with the same options "
                    f"({folder.name})",
                    hint="wait for it to end",
                )
            for left in folder.glob(".part-*"):  # of a run that was killed while writing
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            try:
                yield Workspace(folder)
            except (SeatrialError, OSError):
                shutil.rmtree(folder, ignore_errors=True)
                raise
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(store: Store) -> None:
    """Remove what killed runs left and no run continued."""
    for left in store.root.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another process sweeps, or works in it
            if time.time() - left.stat().st_mtime < KEPT_S:
                continue
            with locked(left / ".lock") as alone:
                if alone:
                    shutil.rmtree(left)
