"""What all commands share: where things are kept, and where output goes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from seatrial.artifact import Store

# stdout is data, stderr is progress and hints.
# A pipe or a log has no width; 80 columns would cut tables into slivers.
PIPE_WIDTH = 120
out = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
err = Console(stderr=True, width=None if sys.stderr.isatty() else PIPE_WIDTH)


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


def print_json(value: Any) -> None:
    """Print as JSON, for programs."""
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
    sys.stdout.buffer.flush()
