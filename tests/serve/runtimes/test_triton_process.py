"""``seatrial serve --on triton`` as a process: what it says, and each way that it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import onnx
import pytest
from PIL import Image

import local_http
from documents import Reader
from seatrial.artifact import Artifact
from seatrial.deployment import Limits, Server
from seatrial.serve.address import free_port
from seatrial.serve.triton.own_code import requirements
from seatrial.serve.triton.server import Ports
from triton_environment import SERVER, said_until
from triton_serving import ENGINE, HOST, deployment_of, start_client, told_by

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("time_limit")]

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "triton.md"
# Each request of these images takes a lane most of a second, whatever the machine.
LARGE_HW = (4900, 4900)


def processes_of(session: int) -> list[str]:
    """Names of the processes of a session that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            name, _, rest = stat.read_text().rpartition(")")
            state, _, _, its_session = rest.split()[:4]
            if int(its_session) == session and state != "Z":
                found.append(name.partition("(")[2])
    return found


@contextmanager
def served(
    artifact: Artifact, python: Path, home: Path, until: str = "(metrics)"
) -> Iterator[tuple[Any, str, int]]:
    """``seatrial serve --on triton``: the process, what it said, and the server's process."""
    home.mkdir()
    limits = Limits(deadline_s=60.0)  # of a request that waits for another one
    port = free_port(HOST)
    at = Server(HOST, port, free_port(HOST, (port,)))
    deployment = deployment_of(artifact, engine="null", limits=limits, server=at)
    (home / "deployment.toml").write_text(deployment.to_toml())
    words = [
        sys.executable, "-m", "seatrial.cli.main", "serve", "--on", "triton",
        "--triton-python", str(python), "--deployment", str(home / "deployment.toml"),
    ]  # fmt: skip
    with subprocess.Popen(
        words, env={**os.environ, "SEATRIAL_HOME": str(home)}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            said = said_until(process, until)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            while not (found := children.read_text().split()[-1:]):
                time.sleep(0.01)
            yield process, said, int(found[0])
        finally:
            process.kill()


def test_serve_says_what_it_starts_and_a_killed_one_takes_the_server_with_it(
    triton_python: Path, tiny_artifact: Artifact, tmp_path: Path, until: Callable[..., Any]
) -> None:
    with served(tiny_artifact, triton_python, tmp_path / "home") as (process, said, server):
        assert "Triton: the tritonserver of nvidia-pytriton in" in said
        assert "tiny on null: 1 lane x 1 thread\n" in said
        assert "tiny: python\ntiny.graph: python\n" in said
        url = said.split("ready: ")[1].split()[0]
        assert url.startswith(f"http://{HOST}:")
        assert local_http.get(f"{url}/v2/models/tiny/ready").status_code == 200
        assert len(processes_of(server)) == 3  # the server, and one for each model
        process.kill()
        until(lambda: processes_of(server) == [])


def test_ctrl_c_while_models_load_ends_all(
    triton_python: Path, tiny_artifact: Artifact, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    with served(tiny_artifact, triton_python, home, until="starting") as (process, _, server):
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert processes_of(server) == []
        assert "Traceback" not in process.stderr.read()


def test_sigterm_lets_requests_end_and_leaves_nothing_behind(
    triton_python: Path, tiny_artifact: Artifact, tmp_path: Path
) -> None:
    """When the first is answered, another one runs and the last one waits: all are on one lane."""
    home, large = tmp_path / "home", tmp_path / "large.png"
    Image.new("L", LARGE_HW).save(large)
    with served(tiny_artifact, triton_python, home) as (process, said, server):
        http, grpc, _ = (line.split()[1] for line in said.splitlines()[-3:])
        ports = Ports(HOST, *(int(one.rpartition(":")[2]) for one in (http, grpc)), 0)
        words = ("overload", large, "tiny", "4", "3")
        with start_client(triton_python, ports, *words) as client:
            said_until(client, "an answer came")
            process.send_signal(signal.SIGTERM)
            assert told_by(client)["answers"] == ["answered"] * 3
        assert process.wait(60) == 0
        assert processes_of(server) == []


def test_the_commands_of_the_guide_run(
    triton_python: Path, tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    """In the environment that is there: `triton_python` has done what pip is asked for."""
    folder = tmp_path / "guide"
    folder.mkdir()
    onnx.save(tiny_model(), folder / "model.onnx")
    port = free_port(HOST)
    changes = {
        "python -m venv triton\n": f"ln -s {triton_python.parent.parent} triton\n",
        f"triton/bin/pip install {SERVER}\n": "",
        "triton/bin/pip install --no-deps -r": "cat",
        "--deployment deployment.toml --": f"--port {port} --deployment deployment.toml --",
    }
    reader = Reader(
        folder, changes, {"seatrial serve --on triton": port}, {"SEATRIAL_HOME": str(folder)}
    )
    printed = reader.follow(GUIDE)
    assert reader.left == {}
    assert "tritonserver --model-repository=repository --disable-auto" in printed[0]
    assert printed[1] == "".join(f"{one}\n" for one in requirements(ENGINE))


def test_with_nohup_it_outlives_its_terminal() -> None:
    code = (
        "import signal; from seatrial.serve.runtimes.triton_process import Signals; Signals(); "
        "print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"
    )
    for words, ignored in (("", "False\n"), ("nohup ", "True\n")):
        command = f"{words}'{sys.executable}' -c '{code}'"
        done = subprocess.run(
            ["sh", "-c", command], check=True, capture_output=True, stdin=subprocess.DEVNULL,
            text=True, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )  # fmt: skip
        assert done.stdout == ignored
