"""SIGHUP with a terminal, without one, and when it closes: real processes on a pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Server
from seatrial.serve.address import free_port, is_ready
from seatrial.serve.runtimes import registry
from seatrial.serve.service_folder import environment, write_service
from seatrial.system.children import end

Until = Callable[[Callable[[], Any]], Any]
HOST = "127.0.0.1"

pytestmark = pytest.mark.usefixtures("time_limit")


class InTerminal:
    """A service that a shell would start: it leads the session of a terminal.

    Attributes:
        process: Its first process.
        terminal: The other end of the terminal; to close it is to close the window.
        log: What it says.
    """

    def __init__(self, process: subprocess.Popen[bytes], terminal: int, log: Path) -> None:
        self.process, self.terminal, self.log = process, terminal, log

    def close_terminal(self) -> None:
        os.close(self.terminal)
        self.terminal = -1


@pytest.fixture
def in_terminal(
    tiny_artifact: Artifact, tmp_path: Path, until: Until
) -> Iterator[Callable[..., InTerminal]]:
    started: list[InTerminal] = []

    def start(runtime: str, *, nohup: bool = False) -> InTerminal:
        terminal, own = pty.openpty()
        server = Server(HOST, free_port(HOST), drain_notice_s=0.0, runtime=runtime)
        layout = CoreLayout(1, 1, 1, wide=False)
        deployment = Deployment("tiny", engine="null", server=server, layout=layout)
        folder = write_service(tmp_path / "service", tiny_artifact, deployment)
        words = registry.runtime(runtime).command(folder, deployment)

        def lead() -> None:
            fcntl.ioctl(own, termios.TIOCSCTTY, 0)
            if nohup:
                signal.signal(signal.SIGHUP, signal.SIG_IGN)

        log = tmp_path / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                words, env={**environment(os.environ, folder), "TMPDIR": str(tmp_path)},
                stdin=own, stdout=output, stderr=output, start_new_session=True, preexec_fn=lead,
            )  # fmt: skip
        os.close(own)
        started.append(InTerminal(process, terminal, log))
        until(lambda: is_ready(server) and (runtime == "bentoml" or "ready: " in log.read_text()))
        # A reload reads it, and ends there.
        (folder / "deployment.toml").write_text("model = 1")
        return started[-1]

    yield start
    for one in started:
        end(one.process, grace_s=20)
        if one.terminal >= 0:
            one.close_terminal()


@pytest.mark.parametrize("runtime", ["uvicorn", "bentoml"])
def test_a_service_ends_with_its_terminal_and_reloads_while_it_is_there(
    in_terminal: Callable[..., InTerminal], until: Until, tmp_path: Path, runtime: str
) -> None:
    service = in_terminal(runtime)
    service.process.send_signal(signal.SIGHUP)
    until(lambda: "the model is not swapped" in service.log.read_text())
    assert service.process.poll() is None
    service.close_terminal()
    assert service.process.wait(60) == 0
    assert not [*tmp_path.glob("seatrial-starts-*")]


def test_with_nohup_it_outlives_its_terminal_and_reloads(
    in_terminal: Callable[..., InTerminal], until: Until
) -> None:
    service = in_terminal("uvicorn", nohup=True)
    service.close_terminal()
    service.process.send_signal(signal.SIGHUP)
    until(lambda: "the model is not swapped" in service.log.read_text())
    assert service.process.poll() is None


# Takes the signal before there is a service.
EARLY = """
import os, signal
from seatrial.serve.runtimes.hangup import hangup
hangup().listen()
os.kill(os.getpid(), signal.SIGHUP)
print("goes on")
"""


def test_before_there_is_a_service_nothing_happens() -> None:
    done = subprocess.run(
        [sys.executable, "-c", EARLY], capture_output=True, text=True, check=False,
        start_new_session=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "goes on\n")
    assert "SIGHUP before the service is ready" in done.stderr
