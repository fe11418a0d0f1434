"""Child processes: the end of one, or of its process group."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from seatrial.system.children import end

# Says that it is ready and ignores SIGTERM, or not; with a child in its group.
STUBBORN = """
import signal, subprocess, sys
if sys.argv[1] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"])
print(child.pid, flush=True)
sys.stdin.read()
"""


@contextmanager
def running(code: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A process with what it prints first: numbers. It and its children are gone afterwards."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        numbers = [int(number) for number in process.stdout.readline().split()]
        try:
            yield process, numbers
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def gone(pid: int) -> bool:
    """Whether a process has ended, once it has had the time to: zombies have."""
    try:
        process = psutil.Process(pid)
        psutil.wait_procs([process], timeout=60)
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_process_that_obeys_ends_by_sigterm() -> None:
    with running(STUBBORN, "obeys") as (process, (child,)):
        end(process, grace_s=60)
        assert process.returncode == -signal.SIGTERM
        assert psutil.pid_exists(child)  # only a group is ended whole


def test_a_process_that_ignores_sigterm_is_killed() -> None:
    with running(STUBBORN, "stubborn") as (process, _):
        end(process, grace_s=0.1)
        assert process.returncode == -signal.SIGKILL


def test_a_group_is_ended_whole_even_where_its_leader_has_ended() -> None:
    with running(STUBBORN, "obeys") as (process, (child,)):
        process.kill()
        process.wait()
        end(process, grace_s=60, group=True)
        assert gone(child)


def test_a_process_that_has_ended_is_left_as_it_is() -> None:
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as process:
        process.wait()
        end(process, grace_s=0)
        end(process, grace_s=0, group=True)
        assert process.returncode == 3
