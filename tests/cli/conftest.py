"""``seatrial data`` as a process, and a set of digits that it made."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from forked_commands import Commands
from packages import skip_without

Run = Callable[..., subprocess.CompletedProcess[str]]
DIGITS = ("--count", "20", "--size", "96", "--digits", "1", "3", "--backgrounds", "bundled")


@pytest.fixture(scope="session")
def data_command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs ``seatrial data WORDS``, with an empty ``SEATRIAL_HOME``."""
    environment = {**os.environ, "SEATRIAL_HOME": str(tmp_path_factory.mktemp("home"))}
    slow = ("cyclopts", "rich.table", "cv2", "sklearn.datasets", "onnx")
    with Commands("seatrial.cli.data", *slow) as commands:
        yield lambda *words: commands.run("data", *words, environment=environment)


@pytest.fixture(scope="session")
def digits(data_command: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twenty pictures; not to be changed."""
    skip_without("sklearn", extra="data")
    folder = tmp_path_factory.mktemp("sets") / "digits"
    done = data_command("sample", "digits", "-o", folder, *DIGITS)
    assert (done.returncode, done.stdout.strip()) == (0, str(folder)), done.stderr
    assert "train 16, val 2, test 2" in done.stderr
    return folder
