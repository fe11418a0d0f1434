from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from seatrial.system.locks import alone_in, in_use, is_in_use, locked

HOLDER = """
import sys
from pathlib import Path
from seatrial.system.locks import locked
with locked(Path(sys.argv[1])) as held:
    print(held, flush=True)
    sys.stdin.readline()
"""


def test_a_folder_is_in_use_until_the_block_ends(tmp_path: Path) -> None:
    with in_use(tmp_path), in_use(tmp_path):
        assert is_in_use(tmp_path)
    assert not is_in_use(tmp_path)
    assert is_in_use(tmp_path / "gone")  # nothing that may be removed


def test_one_at_a_time_is_alone_in_a_folder(tmp_path: Path) -> None:
    with alone_in(tmp_path) as first:
        with alone_in(tmp_path) as second:
            assert (first, second) == (True, False)
        with alone_in(tmp_path.parent) as elsewhere:
            assert elsewhere
    with alone_in(tmp_path) as after:
        assert after
    assert not [*tmp_path.iterdir()]


def test_a_lock_keeps_other_processes_out_and_ends_with_its_process(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with locked(lock) as held:
        assert held
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with locked(lock) as held:
            assert not held
        waited: list[bool] = []

        def on_wait() -> None:
            waited.append(True)
            holder.kill()  # its lock ends with it

        with locked(lock, on_wait=on_wait) as held:
            assert held
        assert waited == [True]
    with locked(lock, on_wait=lambda: pytest.fail("nobody holds it")) as held:
        assert held
    assert lock.is_file()
