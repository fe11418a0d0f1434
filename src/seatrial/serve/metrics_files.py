"""Files of metrics of the processes of a service, in ``PROMETHEUS_MULTIPROC_DIR``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from seatrial.system.children import has_ended
from seatrial.system.files import writing

# Names of the files of a process: a type of metric, for gauges with the way that they are added up.
SUMS, GAUGES = ("counter", "histogram"), ("gauge_livesum", "gauge_livemax", "gauge_livemin")
KINDS = (*SUMS, *GAUGES)
FILE_BYTES = 512 * 1024  # some 3,000 series, of which there are some hundreds
PROCESS_BYTES = len(KINDS) * FILE_BYTES


def reserve_files(folder: Path) -> None:
    """Make this process's files of metrics, with all the room that they will need.

    prometheus-client makes them sparse, and writes to them as to memory: where the disk is full by
    then, the kernel ends the process (SIGBUS), and no log says why. It takes files that are there.

    Args:
        folder: The folder in ``PROMETHEUS_MULTIPROC_DIR``.

    Raises:
        NotWritable: There is too little room.
    """
    for kind in KINDS:
        path = _own(folder, kind)
        # An empty file, of a process that is killed here, would fail every scrape from then on.
        begun = path if path.exists() else path.with_suffix(".begun")
        with writing(folder, setting="TMPDIR"), begun.open("ab") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, FILE_BYTES)
                begun.replace(path)
            except OSError:
                begun.unlink(missing_ok=True)
                raise


def take_over_files(folder: Path) -> None:
    """Go on with the counts of one process that has ended, where there is one.

    Otherwise each process that dies would leave its files for ever: its requests still count. Call
    this before the first metric is made.
    """
    for kind in SUMS:
        for file in _of_dead(folder, kind):
            with contextlib.suppress(FileNotFoundError):  # another one has taken it
                file.rename(_own(folder, kind))
                break


def forget_dead_processes(folder: Path) -> None:
    """Remove the gauges of processes that have ended from a folder of metrics.

    A process that is killed leaves its own behind, with the requests that it had then.
    """
    for file in _of_dead(folder, "gauge_live*"):
        file.unlink(missing_ok=True)


def _own(folder: Path, kind: str) -> Path:
    return folder / f"{kind}_{os.getpid()}.db"


def _of_dead(folder: Path, kind: str) -> Iterator[Path]:
    for file in folder.glob(f"{kind}_*.db"):
        if has_ended(int(file.stem.rpartition("_")[2])):
            yield file
