"""uvicorn as a runtime: what it starts from."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Server
from seatrial.serve.address import free_port
from seatrial.serve.runtimes.uvicorn_runtime import Uvicorn
from seatrial.system.memory import heap_environment

HOST = "127.0.0.1"
MODULE = "seatrial.serve.runtimes.alone"


def test_it_starts_from_a_file_in_memory_that_names_the_artifact(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    deployment = Deployment("m", engine="null", server=Server(HOST, free_port(HOST)))
    said: list[str] = []
    folder = tmp_path / "x"
    launch = Uvicorn().launch(tiny_artifact, deployment, folder, {"A": "b"}, said.append)
    assert launch.command[:3] == [sys.executable, "-m", MODULE]
    assert launch.environment == heap_environment({"A": "b"})
    assert launch.environment["A"] == "b"
    written = Deployment.read(Path(launch.command[3]))
    assert written == msgspec.structs.replace(
        deployment, model=str(tiny_artifact.path.absolute()), layout=CoreLayout(workers=1)
    )
    assert said[0].startswith("tiny on null: 1 process x ")
    assert not folder.exists()


def test_a_folder_for_another_machine(tiny_artifact: Artifact, tmp_path: Path) -> None:
    words = Uvicorn().write(tmp_path / "x", tiny_artifact, Deployment("m", engine="null"))
    file = tmp_path / "x" / "deployment.toml"
    assert words == ["python", "-m", MODULE, str(file)]
    assert Deployment.read(file).layout.workers == 1
    assert Uvicorn().command(tmp_path / "x", Deployment("m"))[1:] == ["-m", MODULE, str(file)]
