"""The processes of a service that take commands, each on a socket of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seatrial.errors import NotSwapped, SeatrialError
from seatrial.serve.control import ask, listens
from seatrial.serve.worker_commands import SOCKET
from seatrial.system.children import has_ended, runs

FAIL_S = 5.0
FEW = 8  # questions of outsiders at a time, of the connections that a process takes
DEAF_S = 5.0  # after its drain, until a process that does not end is killed


class ServingProcesses:
    """Commands to the processes of one service.

    Args:
        folder: Where they have their sockets.
        drain_s: Seconds that one may take to end.

    Attributes:
        few: To be held by whoever asks only to tell, as often as outsiders want: places for a
            change's own commands are left.
        fail_here: Ends this process, where it is one of them, as one that failed; None: it is none.
    """

    def __init__(self, folder: Path, drain_s: float) -> None:
        self._folder = folder
        self._drain_s = drain_s
        self.few = threading.BoundedSemaphore(FEW)
        self.fail_here: Callable[[str], object] | None = None

    def sockets(self) -> list[Path]:
        """The sockets of the processes that serve."""
        found = []
        for socket in sorted(self._folder.glob(f"{SOCKET}*.sock")):
            if has_ended(pid_of(socket)):
                socket.unlink(missing_ok=True)
            elif listens(socket):  # or else its number is another process's by now
                found.append(socket)
        return found

    def ask(self, socket: Path, command: str, body: dict[str, Any], timeout_s: float) -> Any:
        """The answer of one process.

        Raises:
            NotSwapped: It is stopped, or refuses; the message says why.
            ServiceFailed: It does not answer.
        """
        if not runs(pid_of(socket)):
            raise NotSwapped(f"process {pid_of(socket)} is stopped", hint="let it go on, or end it")
        status, told = ask(socket, command, body, timeout_s=timeout_s)
        if status != 200:
            raise NotSwapped(told["error"]["message"], hint=told["error"]["hint"])
        return told

    def ask_all(self, command: str, body: dict[str, Any], timeout_s: float) -> list[Any]:
        """The answers of those processes that give one, each with its socket."""
        told = []
        for socket in self.sockets():
            with contextlib.suppress(SeatrialError):
                told.append((socket, self.ask(socket, command, body, timeout_s)))
        return told

    def end(self, socket: Path, reason: str) -> None:
        """End a process as one that failed: whoever started it starts another one."""
        pid = pid_of(socket)
        with contextlib.suppress(ProcessLookupError):
            try:
                if pid == os.getpid() and self.fail_here is not None:
                    self.fail_here(reason)
                else:
                    self.ask(socket, "POST /fail", {"reason": reason}, FAIL_S)
            except SeatrialError:
                os.kill(pid, signal.SIGTERM if runs(pid) else signal.SIGKILL)
        # It would answer with the other model for as long as it does not hear.
        with contextlib.suppress(OSError):  # it is gone; or the kernel has no such descriptors
            process = os.pidfd_open(pid)
            deaf = threading.Timer(self._drain_s + DEAF_S, _kill, (process,))
            deaf.daemon = True
            deaf.start()


def _kill(process: int) -> None:
    """Kill the process of a descriptor, which no later one with its number has."""
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
    finally:
        os.close(process)


def pid_of(socket: Path) -> int:
    """Number of the process that has a socket."""
    return int(socket.stem.removeprefix(SOCKET))
