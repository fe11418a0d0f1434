"""``seatrial serve`` as a process: what it says when, and how Ctrl-C ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import local_http
from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Server
from seatrial.serve.address import free_port
from seatrial.serve.runtimes.supervise import command
from seatrial.serve.service_folder import environment, write_service

HOST = "127.0.0.1"

pytestmark = pytest.mark.usefixtures("time_limit")


@contextmanager
def started(words: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process whose output is read line by line; killed where it is still there at the end."""
    with subprocess.Popen(
        words,
        env={**environment(os.environ), "SEATRIAL_HOME": str(folder / "home")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """The output up to the line with a text."""
    assert process.stdout is not None
    said = ""
    while text not in said:
        line = process.stdout.readline()
        assert line, f"it ended:\n{said}"
        said += line
    return said


def serve(artifact: Artifact, port: int) -> list[str]:
    return [
        sys.executable, "-m", "seatrial.cli.main", "serve", "--model", str(artifact.path),
        "--engine", "null", "--workers", "1", "--port", str(port),
    ]  # fmt: skip


def test_it_says_once_that_it_is_ready_and_ctrl_c_ends_it(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    port = free_port(HOST)
    with started(serve(tiny_artifact, port), tmp_path) as process:
        said = read_until(process, "ready: ")
        assert said.splitlines()[-1] == f"ready: http://{HOST}:{port}"
        assert local_http.get(f"http://{HOST}:{port}/readyz").status_code == 200
        process.send_signal(signal.SIGINT)
        rest = process.communicate()[0]
        assert process.returncode == 0
        assert "ready: " not in rest
        assert "Traceback" not in rest


def test_ctrl_c_while_it_loads_ends_it_without_a_traceback(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    with started(serve(tiny_artifact, free_port(HOST)), tmp_path) as process:
        read_until(process, "(Ctrl-C ends)")
        process.send_signal(signal.SIGINT)
        assert process.communicate()[0] == "interrupted\n"
        assert process.returncode == 130


def test_ctrl_c_while_its_workers_start_ends_it_as_interrupted(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    deployment = Deployment(
        "m", engine="null", layout=CoreLayout(workers=1), server=Server(HOST, free_port(HOST))
    )
    folder = write_service(tmp_path / "service", tiny_artifact, deployment)
    with (folder / "service.py").open("a") as code:  # it is never ready
        code.write("\nSeatrial.start = lambda: 1 // 0\n")
    with started(command(folder, deployment), tmp_path) as process:
        read_until(process, "Starting production")
        process.send_signal(signal.SIGINT)
        assert "ready: " not in process.communicate()[0]
        assert process.returncode == 130
