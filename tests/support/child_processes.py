"""Child processes of tests: started, and seen to be gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil


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
