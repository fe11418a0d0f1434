"""What is checked before a Triton server is started; `test_triton_process.py` starts one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Server, Triton
from seatrial.errors import InvalidConfig, MissingExtra, PortInUse
from seatrial.serve.address import bound, free_port
from seatrial.serve.runtimes.triton_runtime import TritonRuntime
from seatrial.system.token_files import SERVER_TOKENS

HOST = "127.0.0.1"


def deployment(artifact: Artifact, **server: Any) -> Deployment:
    return Deployment(
        str(artifact.path),
        engine="null",
        layout=CoreLayout(workers=2, instances=1, threads=1),
        server=Server(HOST, free_port(HOST), runtime="triton", **server),
        triton=Triton(python="/none/bin/python"),
    )


def installed(folder: Path) -> dict[str, str]:
    """Variables of a process that finds a server on its PATH."""
    folder.mkdir()
    (folder / "tritonserver").write_text("#!/bin/sh\n")
    (folder / "tritonserver").chmod(0o755)
    return {"PATH": str(folder)}


def test_it_says_what_is_started_and_writes_a_service(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    said: list[str] = []
    given = msgspec.structs.replace(deployment(tiny_artifact), triton=Triton())
    environment = installed(tmp_path / "bin")
    launch = TritonRuntime().launch(
        tiny_artifact,
        given,
        tmp_path / "service",
        environment,
        lambda what, *_, **__: said.append(what),
    )
    assert said == ["tiny on null: 2 lanes x 1 thread", f"Triton: {tmp_path}/bin/tritonserver"]
    folder = str(tmp_path / "service")
    assert launch.command == [
        sys.executable, "-m", "seatrial.serve.runtimes.triton_process", folder
    ]  # fmt: skip
    assert launch.environment == environment
    assert Deployment.read(tmp_path / "service" / "deployment.toml").engine == "null"


@pytest.mark.parametrize(
    ("server", "environment", "message"),
    [
        ({"token_file": "/tokens"}, {}, "does not check bearer tokens"),
        ({}, {SERVER_TOKENS: "a" * 20}, "does not check bearer tokens"),
        ({"tls_certificate": "/c", "tls_key": "/k"}, {}, "does not speak https"),
        ({"cors_origins": ("*",)}, {}, "does not allow pages of other origins"),
    ],
)
def test_what_only_our_own_server_does_is_refused(
    tiny_artifact: Artifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: dict[str, Any],
    environment: dict[str, str],
    message: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    given, runtime = deployment(tiny_artifact, **server), TritonRuntime()
    with pytest.raises(InvalidConfig, match=message):
        runtime.launch(tiny_artifact, given, tmp_path / "new", environment, lambda *_, **__: None)
    with pytest.raises(InvalidConfig, match=message):
        runtime.command(tmp_path, given)
    assert not (tmp_path / "new").exists()


def test_a_taken_port_and_a_missing_server_are_errors(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    given = deployment(tiny_artifact)

    def launch() -> None:
        TritonRuntime().launch(
            tiny_artifact, given, tmp_path / "service", {}, lambda *_, **__: None
        )

    with bound(HOST, given.server.port) as listener:
        listener.listen()
        with pytest.raises(PortInUse):
            launch()
    given = msgspec.structs.replace(given, triton=Triton(python=sys.executable))
    with pytest.raises(MissingExtra, match="no Triton server"):
        launch()


def test_a_folder_for_another_machine_is_written(tiny_artifact: Artifact, tmp_path: Path) -> None:
    words = TritonRuntime().write(tmp_path / "service", tiny_artifact, deployment(tiny_artifact))
    assert words == [
        "python", "-m", "seatrial.serve.runtimes.triton_process", str(tmp_path / "service")
    ]  # fmt: skip
    assert (tmp_path / "service" / "model" / "manifest.json").is_file()
