"""``seatrial serve`` up to the program that takes its place."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from seatrial.artifact import Artifact
from seatrial.cli.deployment import DeploymentOptions, TritonOptions
from seatrial.cli.serve import serve
from seatrial.deployment import Deployment, RuntimeName
from seatrial.errors import DeviceUnavailable, InvalidConfig, NotWritable
from seatrial.serve.address import free_port
from seatrial.serve.runtimes import metrics_folder, supervise
from seatrial.serve.runtimes.handover import PIPE, SIGNALS


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Any, ...]]:
    """The programs that would be run in this process's place, and the signals blocked then."""
    taken: list[tuple[Any, ...]] = []

    def execve(path: str, words: list[str], environment: dict[str, str]) -> None:
        # As `take_signals` of that program; this process goes on.
        blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        for descriptor in (signal.set_wakeup_fd(-1), int(environment[PIPE])):
            os.close(descriptor)
        taken.append((path, words, environment, blocked))

    monkeypatch.setenv("SEATRIAL_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setattr(os, "dup2", lambda *descriptors: None)
    return taken


def options(artifact: Artifact, **changes: Any) -> DeploymentOptions:
    return DeploymentOptions(model=str(artifact.path), **{"engine": "null", **changes})


def test_the_supervisor_takes_its_place(
    tiny_artifact: Artifact, programs: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    port = free_port("127.0.0.1")
    serve(options=options(tiny_artifact), port=port)
    ((path, words, environment, blocked),) = programs
    folder = tmp_path / "home" / "services" / f"tiny-{port}"
    deployment = Deployment.read(folder / "deployment.toml")
    assert (deployment.engine, deployment.server.port) == ("null", port)
    assert words == supervise.command(folder, deployment)
    assert path == words[0]
    assert environment["BENTOML_DO_NOT_TRACK"] == "True"
    assert blocked >= set(SIGNALS)  # Python's own handler would print a traceback


def test_a_folder_is_written_and_nothing_started(
    tiny_artifact: Artifact,
    programs: list[tuple[Any, ...]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serve(options=options(tiny_artifact), port=3999, write=tmp_path / "service")
    deployment = Deployment.read(tmp_path / "service" / "deployment.toml")
    where = str(tmp_path / "service")
    by_hand = " ".join(["bentoml", "serve", where, *supervise.options(deployment)])
    assert f"start it with: {by_hand}" in capsys.readouterr().err
    assert programs == []


def test_what_cannot_run_is_refused_before_anything_is_written(
    tiny_artifact: Artifact,
    programs: list[tuple[Any, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(DeviceUnavailable):
        serve(options=options(tiny_artifact, engine="openvino", device="cuda"), port=0)
    monkeypatch.setattr(metrics_folder, "METRICS_BYTES", 2**60)
    with pytest.raises(NotWritable, match="a service needs"):
        serve(options=options(tiny_artifact), port=0)
    assert programs == []
    assert not (tmp_path / "home" / "services").exists()


@pytest.mark.parametrize("runtime", ["bentoml", "uvicorn", "triton"])
@pytest.mark.parametrize("written", [True, False])
def test_what_cannot_be_served_is_not_written_either(
    tiny_artifact: Artifact,
    programs: list[tuple[Any, ...]],
    tmp_path: Path,
    runtime: RuntimeName,
    written: bool,
) -> None:
    port = free_port("127.0.0.1")
    folder = tmp_path / "service"
    with pytest.raises(InvalidConfig, match="of HTTP and of gRPC"):
        serve(
            options=options(tiny_artifact),
            port=port,
            grpc_port=port,
            on=runtime,
            write=folder if written else None,
        )
    file = tmp_path / "deployment.toml"
    file.write_text(f'model = "{tiny_artifact.path}"\nengine = "null"\n[reload]\nimages = "nope"\n')
    if runtime != "triton":  # which takes no other model while it serves
        with pytest.raises(InvalidConfig, match=r"reload\.images: .*nope does not exist"):
            serve(
                options=DeploymentOptions(deployment=file),
                port=port,
                on=runtime,
                write=folder if written else None,
            )
    assert programs == []
    assert not folder.exists()


@pytest.mark.parametrize(
    ("given", "option"),
    [
        (TritonOptions(triton_python=Path("x")), "--triton-python"),
        (TritonOptions(triton_image="x"), "--triton-image"),
    ],
)
@pytest.mark.parametrize("runtime", [None, "bentoml", "uvicorn"])
def test_options_of_another_runtime_are_refused(
    tiny_artifact: Artifact,
    programs: list[tuple[Any, ...]],
    given: TritonOptions,
    option: str,
    runtime: RuntimeName | None,
) -> None:
    words = f"{option} is for --on triton, and {runtime or 'bentoml'} is started"
    with pytest.raises(InvalidConfig, match=words):
        serve(options=options(tiny_artifact), port=0, on=runtime, triton=given)
    assert programs == []


@pytest.mark.parametrize("given", [{"log": "requests"}, {"log_format": "json"}])
def test_the_log_of_triton_has_no_options(
    tiny_artifact: Artifact, programs: list[tuple[Any, ...]], given: dict[str, Any]
) -> None:
    option = f"--{next(iter(given)).replace('_', '-')}"
    with pytest.raises(InvalidConfig, match=f"Triton's log is its own: {option} does"):
        serve(options=options(tiny_artifact), port=0, on="triton", **given)
