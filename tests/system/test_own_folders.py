"""Temporary folders of processes: kept while they live, and gone with the next start."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from seatrial.system import own_folders
from seatrial.system.own_folders import make_own_folder

MAKES = """
import sys
from pathlib import Path
from seatrial.system.own_folders import make_own_folder
print(make_own_folder("own-", Path(sys.argv[1])), flush=True)
input()
"""


@contextmanager
def another(root: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process with such a folder."""
    with subprocess.Popen(
        [sys.executable, "-c", MAKES, root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_what_a_killed_process_left_goes_with_the_next_start(tmp_path: Path) -> None:
    with another(tmp_path) as (process, folder):
        (folder / "file").touch()
        assert make_own_folder("own-", tmp_path).is_dir()
        assert (folder / "file").exists()
        process.kill()
        process.wait()
        own = make_own_folder("own-", tmp_path)
    assert not folder.exists()
    assert stat.S_IMODE(own.stat().st_mode) == 0o700


def test_what_is_not_a_folder_of_ours_stays(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "own-link").symlink_to(tmp_path / "kept")
    (tmp_path / "own-file").touch()
    make_own_folder("own-", tmp_path)
    assert {"kept", "own-link", "own-file"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.skipif(os.getuid() != 0, reason="another user's folder needs the rights of root")
def test_another_users_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "own-1").mkdir()
    os.chown(tmp_path / "own-1", 12345, 12345)
    make_own_folder("own-", tmp_path)
    assert (tmp_path / "own-1").is_dir()


def test_one_that_another_process_took_for_left_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had been made, and not marked yet."""
    marked: list[Path] = []

    def keep(folder: Path) -> None:
        if not marked:
            folder.rmdir()
        marked.append(folder)
        keep_folder(folder)

    keep_folder = own_folders.keep_folder
    monkeypatch.setattr(own_folders, "keep_folder", keep)
    assert make_own_folder("own-", tmp_path) == marked[1]
    assert marked[1].is_dir()
