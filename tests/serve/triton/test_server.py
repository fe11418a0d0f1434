"""Which server is found, and how it is started; `test_triton_process.py` starts one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from seatrial.deployment import Deployment, Triton
from seatrial.errors import InvalidConfig, MissingExtra
from seatrial.serve.triton import server as module
from seatrial.serve.triton.server import Ports, TritonServer, find_server, server_command

IMAGE = Triton().image
PORTS = Ports("127.0.0.1", 1, 2, 3)


@pytest.fixture(autouse=True)
def _nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "INSTALLED", tmp_path / "opt" / "bin" / "tritonserver")


def program(path: Path, text: str = "exit 0") -> Path:
    """A program that runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def found(tmp_path: Path, *folders: Path, python: Path | None = None) -> TritonServer:
    path = ":".join(map(str, folders))
    named = Triton(python=None if python is None else str(python))
    deployment = Deployment("tiny", engine="null", triton=named)
    return find_server(tmp_path / "scratch", deployment, {"PATH": path})


def test_an_installed_server_comes_first(tmp_path: Path) -> None:
    own = program(tmp_path / "own" / "bin" / "tritonserver")
    for name in ("python", "onnxruntime"):
        (tmp_path / "own" / "backends" / name).mkdir(parents=True)
    program(tmp_path / "docker" / "docker")
    server = found(tmp_path, own.parent, tmp_path / "docker")
    assert server.program == (str(own),)
    assert server.backends == {"python", "onnxruntime"}
    assert server.words == str(own)


def test_one_in_its_usual_place_is_found_without_path(tmp_path: Path) -> None:
    program(module.INSTALLED)
    server = found(tmp_path)
    assert server.program == (str(module.INSTALLED),)
    assert server.backends == {"python"}  # what every installation has


def test_without_one_a_container_engine_that_answers_is_taken(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "docker", "exit 1")  # no daemon
    with pytest.raises(MissingExtra, match="no Triton server") as caught:
        found(tmp_path, tmp_path / "bin")
    assert "pip install nvidia-pytriton==0.7.0" in caught.value.hint
    docker = program(tmp_path / "bin" / "docker")
    server = found(tmp_path, tmp_path / "bin")
    assert server.container == str(docker)
    assert server.words == f"the image {IMAGE}, run by {docker}"
    # What was named is taken, or nothing.
    with pytest.raises(MissingExtra, match="no nvidia-pytriton in the environment"):
        found(tmp_path, tmp_path / "bin", python=Path(sys.executable))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ('"missing": ["cv2"], "numpy": "1.26.4"', "cv2 is missing"),
        ('"missing": [], "numpy": "2.4.6"', "it has numpy 2.4.6, and the Python backend"),
        ('"missing": [], "numpy": "10.0"', "it has numpy 10.0"),
    ],
)
def test_an_environment_that_cannot_run_the_models_is_an_error(
    tmp_path: Path, facts: str, message: str
) -> None:
    python = program(tmp_path / "python", f"echo '{{\"wheel\": true, {facts}}}'")
    with pytest.raises(MissingExtra, match=message) as caught:
        found(tmp_path, python=python)
    assert "--no-deps -r" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exit 1", "code 1$"),
        ("echo one >&2; echo no module >&2; exit 3", "code 3: no module$"),
        ("echo nothing", "it prints something else$"),
    ],
)
def test_what_is_no_python_is_an_error(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidConfig, match=f"is no Python that runs: {said}"):
        found(tmp_path, python=program(tmp_path / "python", text))
    with pytest.raises(InvalidConfig, match="is no Python that runs: No such file"):
        found(tmp_path, python=tmp_path / "none")


def test_the_command_names_every_address(tmp_path: Path) -> None:
    server = TritonServer("", frozenset(), ("tritonserver",), ("--backend-directory=b",))
    words = server_command(server, tmp_path, PORTS, ("--rate-limit=off",))
    assert words[0] == "tritonserver"
    assert {
        f"--model-repository={tmp_path}", "--backend-directory=b", "--rate-limit=off",
        "--http-address=127.0.0.1", "--http-port=1", "--grpc-address=127.0.0.1", "--grpc-port=2",
        "--metrics-address=127.0.0.1", "--metrics-port=3",
    } == {*words[1:]}  # fmt: skip


def test_without_a_port_of_grpc_there_is_none(tmp_path: Path) -> None:
    server = TritonServer("", frozenset(), ("tritonserver",))
    words = server_command(server, tmp_path, Ports("127.0.0.1", 1, None, 3), ())
    assert "--allow-grpc=false" in words
    assert not [word for word in words if "--grpc-port" in word]
