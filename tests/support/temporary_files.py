"""A temporary folder of this run's own, in which nothing may be left when the tests are over.

The folders of ``tmp_path`` are elsewhere: pytest keeps those of three runs.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

# Left by other packages: Python's multiprocessing until it exits, PyTorch's launcher and compiler.
OF_OTHERS = ("pymp-", "torchelastic_", "torchinductor_", "__pycache__")
FOLDER = pytest.StashKey[Path]()
LEFT = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return  # a process of pytest-xdist: it has inherited the folder
    before = tempfile.gettempdir()
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", before)
    # Short: the name of a socket has 107 characters.
    config.stash[FOLDER] = Path(tempfile.mkdtemp(prefix="st-", dir=before))
    os.environ["TMPDIR"] = tempfile.tempdir = str(config.stash[FOLDER])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    folder = session.config.stash.get(FOLDER, None)
    if folder is None:
        return
    left = sorted(path.name for path in folder.iterdir() if not path.name.startswith(OF_OTHERS))
    session.config.stash[LEFT] = left
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if left := config.stash.get(LEFT, []):
        terminalreporter.section("left in the temporary folder")
        for name in left:
            terminalreporter.write_line(name)


def pytest_unconfigure(config: pytest.Config) -> None:
    if FOLDER in config.stash:
        shutil.rmtree(config.stash[FOLDER], ignore_errors=True)
