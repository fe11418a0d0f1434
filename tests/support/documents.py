"""Runs the commands of a page as a reader would: block by block, in one folder."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torchvision_operators
from forked_program import ForkedProgram

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A command that goes on until it is ended, and where it can be reached then.
STAYS = re.compile(r"^seatrial (serve|demo) .*$", re.MULTILINE)
# Triton answers while its models load: before this, Ctrl-C interrupts a start.
SAID = re.compile(r"ready: http|http://\S+  \(Ctrl-C ends\)")
PATIENCE_S = 240.0


def blocks(page: Path) -> list[str]:
    """The shell blocks of a Markdown page."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


class Reader:
    """Somebody who follows a page.

    Args:
        folder: Working folder; all pages of one reader share it.
        changes: Text of a page -> what is run in its place; each must be there.
        ports: Command that stays -> port where it listens.
        environment: Added to this process's.
    """

    def __init__(
        self,
        folder: Path,
        changes: Mapping[str, str],
        ports: Mapping[str, int],
        environment: Mapping[str, str],
    ) -> None:
        self.folder, self.ports = folder, ports
        self.left = dict(changes)
        self._changes = dict(changes)
        self._tools = tools = folder.parent / "tools"
        tools.mkdir(exist_ok=True)
        # A page is for a shell in which the environment of Seatrial is active.
        for name, words in (
            ("seatrial", " -m seatrial.cli.main"),
            ("python", ""),
            ("python3", ""),
        ):
            tool = tools / name
            tool.write_text(f'#!/bin/sh\nexec "{sys.executable}"{words} "$@"\n')
            tool.chmod(0o755)
        # Another working folder must not change which sources are imported.
        paths = [os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(":") if p]
        self.environment = {
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHONPATH": ":".join([*torchvision_operators.for_children(), *paths]),
            # No page installs it; each export would be tried in it for several seconds.
            "WITHOUT_MODULES": "tensorrt_rtx",
            **environment,
        }

    def forking(self, *modules: str) -> ForkedProgram:
        """A context in which ``seatrial`` forks from a process that has imported some modules."""
        return ForkedProgram(self._tools / "seatrial", modules, self.environment)

    def follow(self, page: Path) -> list[str]:
        """Run all blocks of a page; what stays is ended after its last one.

        Returns:
            What each block printed.
        """
        printed = []
        with contextlib.ExitStack() as running:
            for block in blocks(page):
                text = self._changed(block)
                stays = STAYS.search(text)
                now = text[: stays.start()] if stays else text
                printed.append(self.run(now))
                if stays and "--write" not in stays[0]:
                    running.enter_context(self.staying(stays[0]))
        return printed

    def _changed(self, text: str) -> str:
        for before, after in self._changes.items():
            if before in text:
                text = text.replace(before, after)
                self.left.pop(before, None)
        return text

    def run(self, text: str) -> str:
        """Run a block, which must succeed; returns what it printed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}"
        return done.stdout

    @contextlib.contextmanager
    def staying(self, command: str) -> Iterator[None]:
        """Run a command that goes on for as long as the block lasts, from when it answers."""
        port = next(port for start, port in self.ports.items() if command.startswith(start))
        log = self.folder.parent / "staying.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            give_up = time.monotonic() + PATIENCE_S
            while not (SAID.search(log.read_text()) and _answers(port)):
                assert process.poll() is None, f"{command}\n{log.read_text()}"
                assert time.monotonic() < give_up, f"{command}\n{log.read_text()}"
                time.sleep(0.1)
            yield
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            code = process.wait(60)
        assert code == 0, f"{command}\n{log.read_text()}"


def _answers(port: int) -> bool:
    """Whether a service is ready, or a page is there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2) as asked:
        asked.sendall(b"GET /readyz HTTP/1.0\r\nHost: x\r\n\r\n")
        status = asked.recv(64).split(b" ")
        return len(status) > 1 and status[1] in (b"200", b"404")
    return False
