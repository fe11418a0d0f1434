"""Triton in a real container, from an image that is made here; runs with ``--containers``.

The image is laid out as NVIDIA's are: the server of the wheel in /opt/tritonserver, and the Python
of its environment first on PATH.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from container_engine import Engine, container_engine, make_image
from grpc_calls import calls, images_request
from grpc_calls import tensors as grpc_tensors
from open_inference import INFER, columns, images_body, rows, tensors
from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Limits, Server, Triton
from seatrial.serve.address import free_port
from seatrial.serve.process import ServiceProcess
from triton_environment import said_until, triton_environment

HOST, ENGINE = "127.0.0.1", "onnxruntime"
TAG = "seatrial-triton:test"
PROGRAMS = ("sh", "sleep", "bash")  # of the shell, and of Triton, which starts Python by it

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("wanted")]


@pytest.fixture(scope="module")
def wanted(pytestconfig: pytest.Config) -> None:
    if not pytestconfig.getoption("containers"):
        pytest.skip("a minute and 2 GB: pytest --containers builds an image and runs it")


@pytest.fixture(scope="module")
def engine(wanted: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with container_engine(tmp_path_factory.mktemp("engine")) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The image: the environment, its Python, and the server where NVIDIA has it."""
    python = triton_environment(tmp_path_factory.mktemp("triton") / "environment", ENGINE)
    subprocess.run(
        [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python, "pip"],
        check=True,
    )
    facts = subprocess.run(
        [python, "-c", "import sys, pytriton; print(sys.base_prefix, *pytriton.__path__)"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    base, server = Path(facts[0]), Path(facts[1]) / "tritonserver"
    backend = server / "backends" / "python"
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    libraries = server.parent.parent / "nvidia_pytriton.libs"
    kept = (base / "bin" / f"python{version}", base / "lib" / f"python{version}")
    make_image(
        engine,
        TAG,
        files=[python.parent.parent, *kept],
        placed={
            **{f"/bin/{name}": Path(f"/bin/{name}") for name in PROGRAMS},
            "/opt/tritonserver/bin/tritonserver": server / "bin" / "tritonserver",
            "/opt/tritonserver/backends/python": backend,
            "/opt/tritonserver/backends/python/triton_python_backend_stub": stub,
        },
        environment={
            "PATH": f"{python.parent}:/opt/tritonserver/bin:/bin",
            "LD_LIBRARY_PATH": f"{libraries}:{base / 'lib'}",
        },
        libraries=[str(libraries), str(base / "lib")],
    )


class Running:
    """``seatrial serve --on triton`` on the image."""

    def __init__(self, process: subprocess.Popen[str], said: str) -> None:
        self.process, self.said = process, said
        http, grpc, _ = (line.split()[1] for line in said.splitlines()[-3:])
        self.client = httpx.Client(base_url=http, timeout=60)
        self.grpc_port = int(grpc.rpartition(":")[2])

    def processes(self) -> list[int]:
        """Ids: the command, which looks after the server, and the client of the engine."""
        own = self.process.pid
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        return [own, int(children[-1])]


@contextmanager
def served(
    engine: Engine, artifact: Artifact, home: Path, until: str = "(metrics)"
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    home.mkdir()
    deployment = Deployment(
        str(artifact.path), engine=ENGINE, layout=CoreLayout(workers=1, instances=1, threads=1),
        limits=Limits(deadline_s=30.0), server=Server(HOST, free_port(HOST), free_port(HOST)),
        triton=Triton(image=TAG, backend="python"),
    )  # fmt: skip
    (home / "deployment.toml").write_text(deployment.to_toml())
    words = ["serve", "--on", "triton", "--deployment", str(home / "deployment.toml")]
    with subprocess.Popen(
        [sys.executable, "-m", "seatrial.cli.main", *words], text=True, start_new_session=True,
        env={**os.environ, **engine.environment, "SEATRIAL_HOME": str(home)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            said = said_until(process, until)
            yield process, said
        finally:
            process.kill()


def test_the_detections_are_those_of_our_service_and_sigterm_ends_all(
    engine: Engine, tiny_artifact: Artifact, files: list[bytes], tmp_path: Path,
    start_service: Callable[..., ServiceProcess],
) -> None:  # fmt: skip
    with start_service(engine=ENGINE, layout=CoreLayout(1, 1, 1, wide=False)) as ours:
        detected = [httpx.post(f"{ours.url}/detect", content=one).json() for one in files]
    with served(engine, tiny_artifact, tmp_path / "home") as (process, said):
        running = Running(process, said)
        assert f"Triton: the image {TAG}, run by " in said
        assert len(engine.containers()) == 1
        wanted = columns(detected[0])
        assert wanted["counts"] == [2]
        for sent, whole in ((files[:1], wanted), (files, columns(*detected))):
            body, headers = images_body(*sent)
            over_http = tensors(running.client.post(INFER, content=body, headers=headers))
            with calls(running.grpc_port) as service:
                over_grpc = grpc_tensors(service.ModelInfer(images_request(*sent)))
            for found in (over_http, over_grpc):
                assert [row["box"] for row in rows(found)] == whole["boxes"]
                assert [row["confidence"] for row in rows(found)] == whole["scores"]
                assert [row["label"] for row in rows(found)] == whole["labels"]
                assert found["counts"].tolist() == whole["counts"]
        running.client.close()
        process.terminate()
        assert process.wait(90) == 0
        assert engine.containers() == []


@pytest.mark.parametrize("killed", [(0,), (1,), (1, 0)], ids=str)
def test_whatever_is_killed_no_container_stays(
    engine: Engine, tiny_artifact: Artifact, tmp_path: Path, until: Callable[..., Any],
    killed: tuple[int, ...],
) -> None:  # fmt: skip
    """The command, the engine's client, both at once."""
    with served(engine, tiny_artifact, tmp_path / "home") as (process, said):
        running = Running(process, said)
        assert len(engine.containers()) == 1
        running.client.close()
        pids = running.processes()
        for index in killed:
            os.kill(pids[index], signal.SIGKILL)
        until(lambda: engine.containers() == [])


def test_one_that_is_told_to_end_while_it_loads_leaves_nothing(
    engine: Engine, tiny_artifact: Artifact, tmp_path: Path
) -> None:
    with served(engine, tiny_artifact, tmp_path / "home", until="Requirement already") as (
        process,
        _,
    ):
        process.send_signal(signal.SIGINT)
        assert process.wait(90) == 130
        assert engine.containers() == []


def test_an_image_that_is_nowhere_is_an_error(
    engine: Engine, tiny_artifact: Artifact, tmp_path: Path
) -> None:
    deployment = Deployment(
        str(tiny_artifact.path), engine="null", server=Server(HOST, free_port(HOST)),
        triton=Triton(image="localhost:1/none:none"),
    )  # fmt: skip
    (tmp_path / "deployment.toml").write_text(deployment.to_toml())
    words = ["serve", "--on", "triton", "--deployment", str(tmp_path / "deployment.toml")]
    done = subprocess.run(
        [sys.executable, "-m", "seatrial.cli.main", *words], text=True, timeout=120,
        env={**os.environ, **engine.environment, "SEATRIAL_HOME": str(tmp_path)},
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "the image localhost:1/none:none cannot be fetched" in done.stderr
    assert "--triton-image" in done.stderr
