"""The shared parts of the commands: folder of the store, standard output and error, progress."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from seatrial.api.home import home as home
from seatrial.api.home import store as store
from seatrial.cli.help import PipedConsole
from seatrial.config import encode_json

if TYPE_CHECKING:
    from seatrial.progress import Progress

# stdout is data, stderr is progress and hints.
# A pipe or a log has no width; 80 columns would cut tables into slivers.
PIPE_WIDTH = 120


class _Console(PipedConsole):
    """Prints text as it is: names of files and classes may contain brackets and colons.

    Lines are wrapped by the terminal, so that a path that is copied has no break in it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, highlight=False, emoji=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print; see rich. Strings are not wrapped, and nothing is cropped."""
        if all(isinstance(one, str) for one in objects):
            options.setdefault("soft_wrap", True)
        try:
            super().print(*objects, **{"crop": False, **options})
        except OSError:
            # What is lost on standard error ends no work: the exit code tells what became of it.
            if not self.stderr:
                raise


def _console(stream: TextIO, **options: Any) -> _Console:
    if not stream.isatty():
        options["width"] = PIPE_WIDTH
    return _Console(**options)


out = _console(sys.stdout)
err = _console(sys.stderr, stderr=True)


def progress(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> None:
    """Print a message of progress on standard error; counts are left to `progress_display`."""
    if done == 0:
        err.print(what, style="dim")


@contextlib.contextmanager
def progress_display() -> Iterator[Progress]:
    """Show progress on standard error: a bar a step on a terminal, a line a step in a log.

    Messages stay; bars are gone at the end.
    """
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        TaskID,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars

    words, left = TextColumn("{task.description}", markup=False), TimeRemainingColumn()
    counts = Bars(words, BarColumn(), MofNCompleteColumn(), left, console=err, transient=True)
    sizes = (DownloadColumn(binary_units=False), TransferSpeedColumn())
    transfers = Bars(words, BarColumn(), *sizes, left, console=err, transient=True)
    # Drawn when there is news, not by a thread: the cores are being measured.
    columns = (words, BarColumn(), TaskProgressColumn(), left)
    clocks = Bars(*columns, console=err, transient=True, auto_refresh=False)
    tasks: dict[tuple[str, str], TaskID] = {}
    running: list[Bars] = []

    def show(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> None:
        if not done and not total:
            progress(what)
            return
        if not err.is_terminal or err.is_dumb_terminal:
            if (what, unit) not in tasks:
                tasks[what, unit] = TaskID(0)
                progress(what)
            return
        bars = {"B": transfers, "s": clocks}.get(unit, counts)
        if bars not in running:
            for other in running:
                other.stop()
            running[:] = [bars]
            tasks.clear()
            bars.start()
        if unit == "s" and bars.task_ids:  # one clock for all steps: it has the time that is left
            tasks[what, unit] = bars.task_ids[0]
        elif (what, unit) not in tasks:
            if unit != "B":  # steps follow each other; files are fetched side by side
                for task in bars.task_ids:
                    bars.remove_task(task)
            tasks[what, unit] = bars.add_task(what)
        bars.update(
            tasks[what, unit],
            description=what,
            completed=done,
            total=total or None,
            refresh=bars is clocks,
        )

    try:
        yield show
    finally:
        for bars in running:
            bars.stop()


def command_line() -> str:
    """The command as it was given, for reports."""
    return shlex.join(["seatrial", *sys.argv[1:]])


def print_json(value: Any) -> None:
    """Print as JSON, for programs."""
    sys.stdout.buffer.write(encode_json(value))
    sys.stdout.buffer.flush()


def print_json_line(value: Any) -> None:
    """Print as JSON on one line, at once: a program reads it while the command works."""
    import msgspec

    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.buffer.flush()
