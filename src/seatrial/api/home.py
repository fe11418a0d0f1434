"""Where artifacts and services are kept, for commands and for programs."""

from __future__ import annotations

import os
from pathlib import Path

from seatrial.artifact import Store


def home() -> Path:
    """The folder of artifacts and services: ``$SEATRIAL_HOME``, else the user's data folder."""
    if "SEATRIAL_HOME" in os.environ:
        return Path(os.environ["SEATRIAL_HOME"]).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser().absolute() / "seatrial"


def store() -> Store:
    """The artifact store."""
    return Store(home() / "artifacts")
