"""``seatrial data`` as a process, and a set of digits that it made."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
DIGITS = ("--count", "20", "--size", "96", "--digits", "1", "3", "--backgrounds", "bundled")


@pytest.fixture(scope="session")
def data_command(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs ``seatrial data WORDS``, with an empty ``SEATRIAL_HOME``."""
    home = tmp_path_factory.mktemp("home")

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "seatrial.cli.main", "data", *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "SEATRIAL_HOME": str(home)},
        )

    return run


@pytest.fixture(scope="session")
def digits(data_command: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twenty pictures; not to be changed."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: seatrial[data]")
    folder = tmp_path_factory.mktemp("sets") / "digits"
    done = data_command("sample", "digits", "-o", folder, *DIGITS)
    assert (done.returncode, done.stdout.strip()) == (0, str(folder)), done.stderr
    assert "train 16, val 2, test 2" in done.stderr
    return folder
