"""``seatrial demo`` as a command: what it refuses, what it prints, how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from forked_commands import Commands
from packages import skip_without
from seatrial.artifact import Artifact
from seatrial.errors import (
    InvalidArtifact,
    InvalidConfig,
    InvalidInput,
    MissingExtra,
    PortInUse,
    SeatrialError,
    ServiceFailed,
)
from seatrial.system.extras import install_command

pytestmark = pytest.mark.slow

TIME_LIMIT_S = 180
HIDE = (
    "import importlib.util as util, sys\n"
    "found = util.find_spec\n"
    "util.find_spec = lambda name, *rest: None if name == {hidden!r} else found(name, *rest)\n"
    "from seatrial.cli.main import main\n"
    "main()"
)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "tmp").mkdir()
    home = str(tmp_path / "home")
    return {**os.environ, "SEATRIAL_HOME": home, "HOME": home, "TMPDIR": str(tmp_path / "tmp")}


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    # Not Gradio: it reads the environment when it is imported.
    slow = ("cyclopts", "rich.table", "rich.progress", "numpy", "cv2", "onnxruntime")
    with Commands("seatrial.cli.demo", *slow, time_limit_s=TIME_LIMIT_S) as running:
        yield running


@pytest.fixture
def refused(commands: Commands, environment: dict[str, str], tmp_path: Path) -> Callable[..., str]:
    """Runs the command, which must fail as an error of a kind does; gives what it said.

    A package that is hidden from it is so from its start.
    """

    def run(kind: type[SeatrialError], *arguments: str, hidden: str = "") -> str:
        if hidden:
            done = subprocess.run(
                [sys.executable, "-c", HIDE.format(hidden=hidden), "demo", *arguments],
                env=environment,
                capture_output=True,
                text=True,
                timeout=TIME_LIMIT_S,
            )
        else:
            done = commands.run("demo", *arguments, environment=environment)
        assert done.returncode == kind.exit_code, done.stderr
        assert "Traceback" not in done.stderr
        assert "Ctrl-C ends" not in done.stderr
        assert list((tmp_path / "tmp").glob("seatrial-*")) == []
        return done.stderr

    return run


@pytest.fixture
def model(tiny_artifact: Artifact) -> tuple[str, ...]:
    return "--model", str(tiny_artifact.path), "--engine", "onnxruntime"


def test_neither_a_model_nor_a_service(refused: Callable[..., str]) -> None:
    assert "error: no model given" in refused(InvalidConfig, "gradio")


def test_both_a_model_and_a_service(refused: Callable[..., str], model: Any) -> None:
    said = refused(InvalidConfig, "gradio", *model, "--url", "http://127.0.0.1:1")
    assert "--model or --url, not both" in said


@pytest.mark.parametrize("port", ["99999", "-1"])
def test_what_is_no_port_is_said_as_serve_says_it(
    refused: Callable[..., str], model: Any, port: str
) -> None:
    said = refused(InvalidConfig, "gradio", *model, "--port", port)
    assert "error: --port must be" in said


@pytest.mark.parametrize("front_end", ["gradio", "streamlit"])
def test_a_wrong_model_is_said_before_a_page_opens(
    refused: Callable[..., str], front_end: str
) -> None:
    skip_without(front_end, extra="demo")
    said = refused(InvalidArtifact, front_end, "--model", "nosuch", "--port", "0")
    assert "error: no artifact named 'nosuch'" in said


def test_a_wrong_address_is_said_before_a_page_opens(refused: Callable[..., str]) -> None:
    skip_without("streamlit", extra="demo")
    said = refused(ServiceFailed, "streamlit", "--url", "http://127.0.0.1:1", "--port", "0")
    assert "error: nothing answers at http://127.0.0.1:1: Connection refused\n" in said
    assert "hint: start a service (seatrial serve --model NAME), or correct the address" in said
    said = refused(InvalidConfig, "streamlit", "--url", "127.0.0.1:3000", "--port", "0")
    assert "is not an http address" in said


def test_a_wrong_model_to_compare_with_is_said_before_a_page_opens(
    refused: Callable[..., str], model: Any
) -> None:
    skip_without("streamlit", extra="demo")
    said = refused(InvalidArtifact, "streamlit", *model, "--compare", "nosuch", "--port", "0")
    assert "error: no artifact named 'nosuch'" in said


def test_examples_that_are_not_there(
    refused: Callable[..., str], model: Any, tmp_path: Path
) -> None:
    skip_without("streamlit", extra="demo")
    absent = str(tmp_path / "absent")
    said = refused(InvalidInput, "streamlit", *model, "--examples", absent, "--port", "0")
    assert "cannot be read" in said
    assert "hint: seatrial data sample photos" in said


def test_a_port_that_is_in_use(refused: Callable[..., str], model: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(PortInUse, "gradio", *model, "--port", str(port))
    assert f"error: cannot listen on 127.0.0.1:{port}" in said
    assert "--port" in said


@pytest.mark.parametrize("front_end", ["gradio", "streamlit"])
def test_a_front_end_that_is_not_installed_names_the_extra(
    refused: Callable[..., str], model: Any, front_end: str
) -> None:
    said = refused(MissingExtra, front_end, *model, "--port", "0", hidden=front_end)
    assert f"error: {front_end} is not installed" in said
    assert f"hint: {install_command('demo')}" in said


@pytest.fixture
def running(environment: dict[str, str], model: Any) -> Iterator[Callable[..., Any]]:
    """Starts the command; gives the process and the address that it printed."""
    started: list[subprocess.Popen[str]] = []

    def start(front_end: str) -> tuple[subprocess.Popen[str], str]:
        skip_without(front_end, extra="demo")
        process = subprocess.Popen(
            [sys.executable, "-m", "seatrial.cli.main", "demo", front_end, *model, "--port", "0"],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.fullmatch(r"(http://127\.0\.0\.1:\d+)  \(Ctrl-C ends\)\n", line):
                return process, found[1]
        pytest.fail("it ended before it answered")

    yield start
    for process in started:
        process.kill()
        process.communicate()


# The other two: `start_demo` of tests/demo ends both by SIGTERM, and the tutorial's Gradio ends by
# Ctrl-C; each has its exit code checked.
@pytest.mark.parametrize(
    ("front_end", "number", "code"),
    [("streamlit", signal.SIGINT, 0), ("gradio", signal.SIGTERM, 128 + signal.SIGTERM)],
)
def test_a_signal_ends_it_with_all_that_it_started(
    running: Callable[..., Any], front_end: str, number: int, code: int, tmp_path: Path
) -> None:
    process, url = running(front_end)
    with urllib.request.urlopen(url, timeout=20) as page:
        assert "content-security-policy" in page.headers
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, rest = process.communicate(timeout=30)
    assert process.returncode == code
    assert rest == ""
    assert [child for child in children if child.is_running()] == []
    assert list((tmp_path / "tmp").iterdir()) == []
