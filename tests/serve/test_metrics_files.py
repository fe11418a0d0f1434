"""Files of metrics: their room, and what becomes of those of processes that have ended."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from seatrial.errors import NotWritable
from seatrial.serve.metrics_files import (
    FILE_BYTES,
    KINDS,
    forget_dead_processes,
    reserve_files,
    take_over_files,
)


def test_gauges_of_processes_that_have_ended_are_removed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    kept = {f"counter_{ended.pid}.db", f"gauge_livesum_{os.getpid()}.db"}
    for name in (*kept, f"gauge_livesum_{ended.pid}.db", f"gauge_liveall_{ended.pid}.db"):
        (tmp_path / name).write_bytes(b"")
    forget_dead_processes(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_a_process_that_nobody_waited_for_has_ended(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        gauge = tmp_path / f"gauge_livesum_{child.pid}.db"
        gauge.write_bytes(b"")
        forget_dead_processes(tmp_path)
        assert gauge.exists()
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
        forget_dead_processes(tmp_path)
        assert not gauge.exists()


def test_files_have_their_room_from_the_start(tmp_path: Path) -> None:
    reserve_files(tmp_path)
    reserve_files(tmp_path)  # of a process that had the same number
    files = [file.stat() for file in tmp_path.iterdir()]
    assert [(file.st_size, file.st_blocks * 512) for file in files] == [(FILE_BYTES,) * 2] * len(
        KINDS
    )


def test_no_file_is_there_before_it_has_its_room(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A process that is killed in between leaves none that a scrape cannot read."""
    fallocate, seen = os.posix_fallocate, []

    def watched(*given: int) -> None:
        MultiProcessCollector(CollectorRegistry(), str(tmp_path)).collect()  # type: ignore[no-untyped-call]
        seen.append(len(list(tmp_path.glob("*.db"))))
        fallocate(*given)

    monkeypatch.setattr(os, "posix_fallocate", watched)
    reserve_files(tmp_path)
    assert seen == list(range(len(KINDS)))


def test_files_without_room_are_an_error_and_leave_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(NotWritable, match=r"cannot be written: No space left") as refusal:
        reserve_files(tmp_path)
    assert "TMPDIR" in refusal.value.hint
    assert list(tmp_path.iterdir()) == []


COUNTS = """
import os, signal, sys
from pathlib import Path
from seatrial.serve.metrics_files import forget_dead_processes, reserve_files, take_over_files
folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
forget_dead_processes(folder)
take_over_files(folder)
reserve_files(folder)
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
Counter("asked", "Asked.", ["path"]).labels("/x").inc()
Gauge("here", "Here.", multiprocess_mode="livesum").inc()
registry = CollectorRegistry()
MultiProcessCollector(registry)
print(*sorted(one for one in generate_latest(registry).decode().splitlines() if one[0] != "#"))
sys.stdout.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_goes_on_counting_where_one_that_died_ended(tmp_path: Path) -> None:
    """Or else every process that dies would leave files, until there is no room for the next."""
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for number in (1, 2, 3):
        done = subprocess.run(
            [sys.executable, "-c", COUNTS], env=env, capture_output=True, text=True, check=False
        )
        assert done.stdout == f'asked_total{{path="/x"}} {number}.0 here 1.0\n', done.stderr
        assert len(list(tmp_path.iterdir())) == len(KINDS)


def test_the_files_of_one_that_lives_are_its_own(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        theirs = tmp_path / f"counter_{other.pid}.db"
        theirs.touch()
        take_over_files(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [theirs.name]
        other.kill()
        other.wait()
    take_over_files(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"counter_{os.getpid()}.db"]
