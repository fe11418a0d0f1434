"""A program ``seatrial`` for shells, whose processes fork from one which has done the slow imports.

Each start of the program is a process of its own, with the environment, folder, standard streams
and signals of the shell's, and its exit code is the shell's. The file is also the program of the
process that forks (``serve SOCKET MODULES``), and what the shell starts (``run SOCKET WORDS``).
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

LENGTH_BYTES = 8  # before the JSON of a request


class ForkedProgram:
    """The process that forks; a context manager.

    Args:
        file: The program, which is written there.
        modules: What is imported first, where it is installed.
        environment: Of the process that forks: what modules read when they are imported.

    Attributes:
        address: Of the process that forks; see `ForkedProcess`.
    """

    def __init__(self, file: Path, modules: Sequence[str], environment: Mapping[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory()  # short: a socket's name has 107 characters
        self.address = str(Path(self._folder.name) / "socket")
        write_program(file, Path(self.address))
        self._process = subprocess.Popen(
            [sys.executable, __file__, "serve", self.address, *modules],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def __enter__(self) -> ForkedProgram:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate()
        self._folder.cleanup()


def write_program(file: Path, address: Path) -> None:
    """Write what the shell starts; it asks the process that forks at an address."""
    # Neither site's packages nor the environment's: it starts in a hundredth of a second.
    file.write_text(f'#!/bin/sh\nexec "{sys.executable}" -SE "{__file__}" run {address} "$@"\n')
    file.chmod(0o755)


def serve(address: str, modules: Sequence[str]) -> None:
    """Import modules, and fork for each request on a socket, until this process is ended."""
    from forked_commands import import_all

    import_all(modules)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        fork_for_each(listener)


def fork_for_each(listener: socket.socket) -> None:
    """Fork for each request on a socket, until this process is ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who forks waits for nobody
    while True:
        asking, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _attend(asking)
        asking.close()


def _attend(asking: socket.socket) -> None:
    """Have one request answered by a child: its number, and later how it ended."""
    from forked_commands import be_the_command

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    data, streams = _receive(asking)
    child = os.fork()
    if child == 0:
        asking.close()
        be_the_command(**json.loads(data), streams=streams)
    for stream in streams:  # who reads them waits for the command's end, not for ours
        os.close(stream)
    for number in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), number)
    asking.sendall(f"{child}\n".encode())
    _, status = os.waitpid(child, 0)
    asking.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _receive(asking: socket.socket) -> tuple[bytes, list[int]]:
    received = array.array("i")
    first, ancillary, _, _ = asking.recvmsg(LENGTH_BYTES, socket.CMSG_SPACE(3 * received.itemsize))
    for _, _, data in ancillary:
        received.frombytes(data)
    length, rest = int.from_bytes(first, "big"), bytearray()
    while len(rest) < length:
        rest += asking.recv(length - len(rest))
    return bytes(rest), [*received]


class ForkedProcess:
    """A process that was forked, with streams of this one.

    Args:
        address: Of the process that forks.
        words: After ``seatrial``; or ``-m``, a module and its arguments.
        streams: Descriptors that it has as standard input, output and error.

    Attributes:
        pid: Its number.
    """

    def __init__(self, address: str, words: Sequence[str], streams: Sequence[int]) -> None:
        asked = {"words": [*words], "environment": dict(os.environ), "folder": os.getcwd()}
        data = json.dumps(asked).encode()
        with socket.socket(socket.AF_UNIX) as to:
            to.connect(address)
            to.sendmsg(
                [len(data).to_bytes(LENGTH_BYTES, "big")],
                [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", streams))],
            )
            to.sendall(data)
            self._told = to.makefile()  # which keeps the connection
        self.pid = int(self._told.readline())
        self._code: int | None = None

    def signal(self, number: int) -> None:
        """Send it a signal, if its end was not waited for."""
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.signal(signal.SIGKILL)

    def wait(self) -> int:
        """Wait for its end; its exit code, or minus the signal that ended it."""
        if self._code is None:
            with self._told:
                self._code = int(self._told.readline())
        return self._code


def run(address: str, words: Sequence[str]) -> int:
    """Have a command run as if it were this process; its exit code.

    A command that a signal ended ends this process by the same one.
    """
    process = ForkedProcess(address, words, [0, 1, 2])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: process.signal(number))
    code = process.wait()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    part, place, *others = sys.argv[1:]
    if part == "serve":
        serve(place, others)
    else:
        sys.exit(run(place, others))
