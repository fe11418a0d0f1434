"""``seatrial serve`` as a process: what it says when, and how Ctrl-C ends it."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import local_http
from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Server
from seatrial.serve.address import free_port, is_ready
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
        assert rest.splitlines()[0] == "SIGINT: the service ends"
        assert rest.splitlines()[-1] == "the service has ended"
        assert "BentoServer" not in said  # whose line says localhost where all addresses are meant


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
        read_until(process, "another one is started")
        process.send_signal(signal.SIGINT)
        assert "ready: " not in process.communicate()[0]
        assert process.returncode == 130


def test_a_port_that_another_process_took_meanwhile_ends_it_with_the_line_of_the_check(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    """It was free when ``seatrial serve`` looked; who answers there is not this service."""
    with answering_ready() as (port, asked):
        deployment = Deployment(
            "model", engine="null", layout=CoreLayout(workers=1), server=Server(port=port)
        )
        folder = write_service(tmp_path / "service", tiny_artifact, deployment)
        with started(command(folder, deployment), tmp_path) as process:
            said = process.communicate()[0]
    assert process.returncode == 6
    assert said.splitlines() == [
        f"error: the service did not start: cannot listen on {HOST}:{port}: Address already in use",
        "hint: choose another with --port, or server.port of the deployment; --port 0 takes a free "
        "one",
    ]
    assert asked == []


@contextmanager
def answering_ready() -> Iterator[tuple[int, list[str]]]:
    """Port of another service that is ready, and the requests that it has answered."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

    with http.server.ThreadingHTTPServer((HOST, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_address[1], asked
        server.shutdown()


@pytest.mark.parametrize("runtime", ["bentoml", "uvicorn"])
def test_a_log_that_nobody_reads_ends_no_service(
    tiny_artifact: Artifact, tmp_path: Path, runtime: str
) -> None:
    """Nor does one whose reader leaves before the service is ready: the first line is lost too."""
    port = free_port(HOST)
    reading, writing = os.pipe()
    os.close(reading)
    env = {**environment(os.environ), "SEATRIAL_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    words = [*serve(tiny_artifact, port), "--on", runtime]
    with subprocess.Popen(words, env=env, stderr=writing, stdout=subprocess.PIPE) as process:
        os.close(writing)
        try:
            while not is_ready(Server(HOST, port)):
                assert process.poll() is None
                time.sleep(0.05)
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
