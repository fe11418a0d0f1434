"""Processes: their command, whether they run, the end of a child or of its group, orphans."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

WNOTHREAD = 0x20000000  # linux/wait.h: children of the calling thread alone


def same_code(statements: str) -> list[str]:
    """Command of a Python process with the import path of this one: it runs the same code."""
    return [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}\n{statements}"]


def end(process: subprocess.Popen[Any], *, grace_s: float, group: bool = False) -> None:
    """End a child process: SIGTERM, and SIGKILL where it is still alive after a while.

    Args:
        process: The child; one that has ended already is left as it is.
        grace_s: Seconds between the two signals.
        group: Send the signals to the child's process group, which it leads
            (``start_new_session``); its members get them also where the child has ended.
    """

    def send(number: signal.Signals) -> None:
        if group:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        elif process.poll() is None:
            process.send_signal(number)

    send(signal.SIGTERM)
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        send(signal.SIGKILL)
        process.wait()


def runs(pid: int) -> bool:
    """Whether a process is neither stopped nor dead (proc(5))."""
    return not has_ended(pid) and _state(pid) not in ("T", "t", "X")


def has_ended(pid: int) -> bool:
    """Whether there is no such process, or its parent has not asked for its exit code yet."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it runs, as another user
        return False
    return _state(pid) == "Z"


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0].decode()
    except OSError:
        return ""


def adopt() -> None:
    """Let the first process of a container wait for those that its processes leave behind.

    They become children of its main thread, which starts none itself: children of other threads
    are left to whoever started them. On the main thread.
    """

    def wait(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG | WNOTHREAD)[0]:
                pass

    signal.signal(signal.SIGCHLD, wait)
