"""How a container is started and how it ends; `test_triton_process_container.py` runs one."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from seatrial.deployment import Triton
from seatrial.errors import ServiceFailed
from seatrial.serve.triton.container import SCRIPT, Container, container_of, fetch_image
from seatrial.serve.triton.server import Ports, TritonServer

IMAGE = Triton().image
PORTS = Ports("127.0.0.1", 1, 2, 3)


def server(program: Path | str) -> TritonServer:
    return TritonServer("", frozenset(), (IMAGE,), container=str(program))


def command(folder: Path, ports: Ports = PORTS, device: str = "cpu") -> tuple[str, ...]:
    made = container_of(
        server("/bin/docker"), folder, ports, ("-x",), name="here", detector="tiny",
        device=device, grace_s=40.0,
    )  # fmt: skip
    assert (made.program, made.name) == ("/bin/docker", "here")
    return made.command


def test_it_publishes_the_ports_where_the_deployment_says(tmp_path: Path) -> None:
    words = command(tmp_path, device="cuda")
    text = " ".join(words)
    assert text.startswith("/bin/docker run --rm --init --interactive --name here ")
    for inside, outside in ((8000, 1), (8001, 2), (8002, 3)):
        assert f"-p 127.0.0.1:{outside}:{inside}" in text
    assert f"-v {tmp_path}:/models:ro {IMAGE} sh -c" in text
    assert "--gpus=all" in words
    assert "pip install --no-deps -r /models/tiny/requirements.txt && exec tritonserver" in text
    assert words[-2:] == ("--model-repository=/models", "-x")
    on_ipv6 = command(tmp_path, Ports("::1", 1, 2, 3))
    assert "[::1]:1:8000" in on_ipv6
    assert "--gpus=all" not in on_ipv6
    without = command(tmp_path, Ports("127.0.0.1", 1, None, 3))
    assert without[-1] == "--allow-grpc=false"
    assert not [word for word in without if "8001" in word]


def program(path: Path, text: str) -> Path:
    """A program that runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@contextmanager
def shell(
    folder: Path,
    *,
    pip: str,
    tritonserver: str,
    script: str = SCRIPT.format(grace_s=1, requirements="requirements.txt"),
) -> Iterator[subprocess.Popen[str]]:
    """The script of a container, run by a shell here, with such programs in it."""
    program(folder / "pip", pip)
    program(folder / "tritonserver", tritonserver)
    with subprocess.Popen(
        ["sh", "-c", script, "tritonserver", "--one", "two words"],
        env={"PATH": f"{folder}:{os.environ['PATH']}"}, text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as running:  # fmt: skip
        try:
            yield running
        finally:
            os.killpg(running.pid, signal.SIGKILL)


def said(running: subprocess.Popen[str]) -> str:
    assert running.stdout is not None
    return running.stdout.readline()


def leave(running: subprocess.Popen[str]) -> None:
    """End its standard input, as the death of whoever holds it does."""
    assert running.stdin is not None
    running.stdin.close()


def test_no_text_becomes_a_word_of_the_shell(tmp_path: Path) -> None:
    made = tmp_path / "made"
    detector = f"a; touch {made}; 'b' $(touch {made}) `touch {made}`"
    container = container_of(
        server("/bin/docker"), tmp_path, PORTS, (), name="here", detector=detector, grace_s=1.0
    )
    script = container.command[container.command.index("-c") + 1]
    with shell(tmp_path, pip='echo "$4"', tritonserver="exec sleep 1000", script=script) as running:
        assert said(running) == f"/models/{detector}/requirements.txt\n"
    assert not made.exists()


SERVES = 'echo "serves $# $2"; exec sleep 1000'


def test_the_server_has_its_arguments_and_signals_reach_it(tmp_path: Path) -> None:
    with shell(tmp_path, pip='echo "$@"', tritonserver=SERVES) as running:
        assert said(running) == "install --no-deps -r requirements.txt\n"
        assert said(running) == "serves 2 two words\n"
        running.terminate()
        assert running.wait(60) == -signal.SIGTERM


def test_it_ends_with_its_standard_input(tmp_path: Path) -> None:
    with shell(tmp_path, pip="", tritonserver=SERVES) as running:
        assert said(running).startswith("serves")
        leave(running)
        assert running.wait(60) == -signal.SIGTERM


def test_it_ends_while_packages_are_installed(tmp_path: Path) -> None:
    with shell(tmp_path, pip="echo installs; exec sleep 1000", tritonserver="") as running:
        assert said(running) == "installs\n"
        leave(running)
        assert running.wait(60) == -signal.SIGTERM


def test_one_that_does_not_end_is_killed(tmp_path: Path) -> None:
    deaf = "trap '' TERM; echo serves; while :; do sleep 0.1; done"
    with shell(tmp_path, pip="", tritonserver=deaf) as running:
        assert said(running) == "serves\n"
        leave(running)
        assert running.wait(60) == -signal.SIGKILL


def test_packages_that_cannot_be_installed_end_it(tmp_path: Path) -> None:
    with shell(tmp_path, pip="exit 3", tritonserver="echo serves") as running:
        assert running.wait(60) == 3
        assert said(running) == ""


def never() -> bool:
    return False


def test_an_image_that_is_here_is_not_fetched(tmp_path: Path) -> None:
    engine = program(tmp_path / "docker", '[ "$1 $2" = "image inspect" ]')
    told: list[str] = []
    assert fetch_image(server(engine), lambda what, *_, **__: told.append(what), never)
    assert told == []


def test_another_one_is_fetched_or_the_error_says_why(tmp_path: Path) -> None:
    told: list[str] = []

    def fetched(text: str, stopping: Callable[[], bool] = never) -> bool:
        engine = program(tmp_path / "docker", f'[ "$1" = image ] && exit 1\n{text}')
        return fetch_image(server(engine), lambda what, *_, **__: told.append(what), stopping)

    assert fetched("exit 0")
    assert told == [f"fetching the image {IMAGE}"]
    with pytest.raises(ServiceFailed, match="cannot be fetched: denied") as failed:
        fetched("echo denied >&2; exit 1")
    assert "--triton-image" in failed.value.hint
    assert not fetched("exec sleep 1000", lambda: True)  # it was told to end


def test_removing_what_is_gone_is_no_error(tmp_path: Path) -> None:
    Container(str(program(tmp_path / "docker", "exit 1")), "here", ()).remove()
    Container(str(tmp_path / "none"), "here", ()).remove()
