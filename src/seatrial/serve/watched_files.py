"""Files that a running service reads again when they change: tokens, certificates."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from seatrial.serve.log import GoesOn

EVERY_S = 1.0


class WatchedFiles:
    """Calls back, on a thread of its own, after files have changed.

    It is made before the files are first read: a change meanwhile would not be noticed.

    A file is another one when its place, size or time of change differs: links may be turned to
    other files, as Kubernetes does with its secrets.

    Args:
        paths: The files.
        on_change: Called without arguments; what it raises is logged, and the watch goes on.
        every_s: Time between two looks.
    """

    def __init__(
        self, paths: Sequence[Path], on_change: Callable[[], object], every_s: float = EVERY_S
    ) -> None:
        self._paths = paths
        self._on_change = on_change
        self._every_s = every_s
        self._seen = self._marks()
        self._closed = threading.Event()
        if paths:
            threading.Thread(target=self._watch, name="watched-files", daemon=True).start()

    def close(self) -> None:
        """Look no more."""
        self._closed.set()

    def look(self) -> None:
        """Look now."""
        marks = self._marks()
        if marks != self._seen:
            self._seen = marks
            self._on_change()

    def _watch(self) -> None:
        goes_on = GoesOn("files that changed were not read again")
        while not self._closed.wait(self._every_s):
            with goes_on:
                self.look()

    def _marks(self) -> list[tuple[int, ...] | None]:
        return [_mark(path) for path in self._paths]


def _mark(path: Path) -> tuple[int, ...] | None:
    """Facts that differ between a file and another in its place; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
