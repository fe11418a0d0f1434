"""``seatrial`` commands in processes that fork from one which has done the slow imports.

Each command is a process of its own, with its own environment, folder and files, as from a shell;
it only starts ten times as fast. The file is also the program of the process that forks.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import os
import pty
import runpy
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TIME_LIMIT_S = 120.0


class Commands:
    """The process that forks; a context manager.

    Args:
        modules: What it imports first, where it is installed. None may read, when it is imported,
            what the environment of a command changes.
        python: The interpreter; default: that of the tests.
        environment: Of the process that forks; default: that of the tests.
        time_limit_s: Longest time of a command; the first one waits for the imports too.
    """

    def __init__(
        self,
        *modules: str,
        python: Path | str = sys.executable,
        environment: Mapping[str, str] | None = None,
        time_limit_s: float = TIME_LIMIT_S,
    ) -> None:
        self._time_limit_s = time_limit_s
        self._process = subprocess.Popen(
            [str(python), __file__, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def run_in_terminal(
        self, *words: str | Path, environment: Mapping[str, str], columns: int
    ) -> tuple[int, str]:
        """Run ``seatrial WORDS`` in a pseudo terminal; the exit code and all that it shows."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        shown = bytearray()

        def read() -> None:
            with contextlib.suppress(OSError):  # the terminal is closed
                while data := os.read(master, 65536):
                    shown.extend(data)

        reader = threading.Thread(target=read)
        reader.start()
        name = os.ttyname(slave)
        plain = {k: v for k, v in environment.items() if k not in ("COLUMNS", "LINES")}
        try:
            code = self._ask(words, {"TERM": "xterm", **plain}, [name, name])
        finally:
            os.close(slave)
            reader.join()
            os.close(master)
        return code, shown.decode().replace("\r\n", "\n")

    def run(
        self, *words: str | Path, environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run ``seatrial WORDS`` in the present folder to its end."""
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / name for name in ("stdout", "stderr")]
            code = self._ask(words, environment, [*map(str, files)])
            out, err = (file.read_text(encoding="utf-8") for file in files)
        return subprocess.CompletedProcess([*map(str, words)], code, out, err)

    def _ask(
        self, words: Sequence[str | Path], environment: Mapping[str, str], files: list[str]
    ) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {
            "words": [*map(str, words)],
            "environment": dict(environment),
            "folder": os.getcwd(),
            "files": files,
        }
        end = threading.Timer(self._time_limit_s, self._process.kill)
        end.start()
        try:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            code = self._process.stdout.readline()
        finally:
            end.cancel()
        assert code, f"{words} did not end within {self._time_limit_s:.0f} s"
        return int(code)

    def __enter__(self) -> Commands:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def import_all(modules: Sequence[str]) -> None:
    """Import those that are installed, once for all processes that are forked from here on."""
    for name in modules:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    gc.freeze()  # else each child would look through all that was imported


def _serve(modules: list[str]) -> None:
    import_all(modules)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            asked = json.loads(line)
            streams = [
                os.open(os.devnull, os.O_RDONLY),
                *(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600) for file in asked["files"]),
            ]
            be_the_command(asked["words"], asked["environment"], asked["folder"], streams)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def be_the_command(
    words: list[str], environment: Mapping[str, str], folder: str, streams: Sequence[int]
) -> None:
    """Run ``seatrial WORDS``, or ``python -m WORDS``, in this process, which ends with it.

    Args:
        words: After the program's name; ``-u`` and ``-m`` as Python has them.
        environment: All of its environment.
        folder: Its working folder.
        streams: Descriptors of standard input, output and error.
    """
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    words = words[1:] if words[:1] == ["-u"] else words
    code = 0
    try:
        if words[:1] == ["-m"]:
            sys.argv = [*words[1:]]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = ["seatrial", *words]
            main: Any = importlib.import_module("seatrial.cli.main").main
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    # As Python ends, but without taking the modules apart, which takes longer than many a command.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1:])
