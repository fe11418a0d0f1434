"""What all commands share: where things are kept, and where output goes."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from seatrial.artifact import Store

# stdout is data, stderr is progress and hints.
# A pipe or a log has no width; 80 columns would cut tables into slivers.
PIPE_WIDTH = 120


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to ``main``: rich would end the command with exit code 1."""
        raise BrokenPipeError


out = _Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
err = _Console(stderr=True, width=None if sys.stderr.isatty() else PIPE_WIDTH)


def home() -> Path:
    """Where artifacts and services are kept: ``$SEATRIAL_HOME``, else the user's data folder."""
    if "SEATRIAL_HOME" in os.environ:
        return Path(os.environ["SEATRIAL_HOME"]).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser().absolute() / "seatrial"


def store() -> Store:
    """The artifact store."""
    return Store(home() / "artifacts")


def progress(message: str) -> None:
    """Tell a person what is going on."""
    err.print(message, style="dim", highlight=False)


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that is gone afterwards; yields what is called with steps done and steps in all."""
    from rich.progress import Progress

    with Progress(console=err, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def print_json(value: Any) -> None:
    """Print as JSON, for programs."""
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
    sys.stdout.buffer.flush()
