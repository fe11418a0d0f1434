"""Temporary folders of a process: one that was killed leaves its own to the next that starts."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from seatrial.system.locks import in_use


def make_own_folder(prefix: str, root: Path) -> Path:
    """Make a folder that is in use until this process ends, and remove those of killed ones.

    Nobody else may read it, and its name cannot be foreseen: others may make folders in `root`.

    Args:
        prefix: Begin of its name, and of the names of folders that may be removed.
        root: Folder that takes it.

    Raises:
        OSError: It cannot be made.
    """
    for left in root.glob(f"{prefix}*"):
        remove_unused(left)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=root))
        with contextlib.suppress(FileNotFoundError):
            keep_folder(folder)
            if folder.is_dir():  # nobody took it for one that was left before it was marked
                return folder


def keep_folder(folder: Path) -> None:
    """Mark a folder as in use until this process ends.

    Raises:
        OSError: It is not there.
    """
    held = contextlib.ExitStack()
    held.enter_context(in_use(folder))
    atexit.register(held.close)


def remove_unused(folder: Path) -> None:
    """Remove a folder of this user that no process has marked as in use."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.fstat(descriptor).st_uid == os.getuid():
                # Held until it is gone: who would mark it meanwhile waits, and makes another.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)
