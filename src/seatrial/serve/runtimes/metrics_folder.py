"""The folder in which the processes of one supervisor keep their metrics, and the room in it."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from seatrial.errors import NotWritable
from seatrial.serve.metrics_files import (
    PROCESS_BYTES,
    forget_dead_processes,
    reserve_files,
    take_over_files,
)
from seatrial.system.files import writing
from seatrial.system.own_folders import keep_folder, make_own_folder

PREFIX = "seatrial-metrics-"  # of the folders, before the id of the supervisor
FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # prometheus-client's name for it
# For four processes, and as many in the place of those that have ended.
METRICS_BYTES = 8 * PROCESS_BYTES
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108


def metrics_root() -> Path:
    """The folder under which a service keeps its metrics: shared memory, or temporary files.

    Files in memory cannot be hit by a disk that others fill.

    Raises:
        NotWritable: Neither is there with enough room.
    """
    hint = "make room there, or set TMPDIR to another folder"
    if os.access(SHARED_MEMORY, os.W_OK) and _free_bytes(SHARED_MEMORY) >= METRICS_BYTES:
        return SHARED_MEMORY
    try:
        folder = Path(tempfile.gettempdir())
        free = _free_bytes(folder)
    except OSError as error:
        raise NotWritable(f"no folder for temporary files: {error.strerror}", hint=hint) from error
    if free < METRICS_BYTES:
        raise NotWritable(
            f"{folder} has {free // 1024} KiB free; a service needs {METRICS_BYTES // 1024} KiB "
            "there for its metrics",
            hint=hint,
        )
    return folder


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def keep_metrics_apart() -> Path:
    """Make a metrics folder for the processes of this supervisor.

    BentoML's supervisor takes one folder for all services of a user, and empties it when it
    starts: each new service would wipe the counters of those that run.

    Raises:
        NotWritable: See `metrics_root`.
    """
    root = metrics_root()
    with writing(root, setting="TMPDIR"):
        folder = make_own_folder(PREFIX, root)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def reserve_metrics() -> None:
    """Take the room for a worker's metrics, and remove them with a supervisor that was killed.

    The room of a worker that died comes first: it goes on counting where that one ended.

    Does nothing in a process that keeps its metrics in its own memory.
    """
    if FOLDER not in os.environ:
        return
    folder, supervisor = Path(os.environ[FOLDER]), os.getppid()
    keep_folder(folder)
    forget_dead_processes(folder)
    take_over_files(folder)
    reserve_files(folder)

    def end() -> None:
        if os.getppid() != supervisor:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
