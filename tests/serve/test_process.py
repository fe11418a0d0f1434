"""Service folders, and processes started from them with ``bentoml serve``."""

from __future__ import annotations

import importlib.util
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

import local_http
from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Limits, Server
from seatrial.errors import (
    DeviceUnavailable,
    MissingExtra,
    PortInUse,
    ServiceFailed,
)
from seatrial.serve.address import check_port, free_port
from seatrial.serve.process import SCRATCH, ServiceProcess, scratch_service
from seatrial.serve.service_folder import environment, write_service

Start = Callable[..., ServiceProcess]
HOST = "127.0.0.1"

pytestmark = [pytest.mark.usefixtures("time_limit"), pytest.mark.slow]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def family(process: ServiceProcess) -> list[psutil.Process]:
    parent = psutil.Process(process.process.pid)
    return [parent, *parent.children(recursive=True)]


def test_a_port_in_use_is_told_before_anything_is_compiled(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"{HOST}:{port}") as refusal:
            check_port(HOST, port)
        assert "--port" in refusal.value.hint
        deployment = Deployment("m", engine="null", server=Server(HOST, port))
        folder = write_service(tmp_path / "service", tiny_artifact, deployment)
        with pytest.raises(PortInUse):
            ServiceProcess(folder, deployment, environment(os.environ), tmp_path / "log")
        assert not (tmp_path / "log").exists()  # nothing was started
    check_port(HOST, port)
    check_port(HOST, free_port(HOST))


@pytest.mark.parametrize("damage", ["model", "engine", "service"])
def test_a_service_that_cannot_start_says_why_and_leaves_nothing_behind(
    tiny_artifact: Artifact, tmp_path: Path, damage: str
) -> None:
    deployment = Deployment(
        "m",
        engine="openvino",
        device="cuda" if damage == "engine" else "cpu",
        layout=CoreLayout(workers=2),
        server=Server(HOST, free_port(HOST)),
    )
    folder = write_service(tmp_path / "service", tiny_artifact, deployment)
    if damage == "model":
        file = folder / "model" / "model.onnx"
        data = file.read_bytes()
        file.unlink()  # a link to the store's
        file.write_bytes(data[:-100])
    elif damage == "service":
        (folder / "service.py").write_text("raise RuntimeError('no service here')")
    process = ServiceProcess(folder, deployment, environment(os.environ), tmp_path / "log")
    with pytest.raises(ServiceFailed) as failure, process:
        pytest.fail("it says that it is ready")
    reason = {
        "model": "is not the file that the manifest names",
        "engine": "cannot run on 'cuda'",
        "service": "no service here",
    }[damage]
    assert reason in failure.value.message
    assert process.process.poll() is not None
    processes = psutil.process_iter(["cmdline"])
    left = [p for p in processes if str(folder) in " ".join(p.info["cmdline"] or ())]
    assert left == []
    assert not listens(deployment.server.port)


def test_a_service_that_is_never_ready_is_given_up(tiny_artifact: Artifact, tmp_path: Path) -> None:
    deployment = Deployment("m", engine="null", server=Server(HOST, free_port(HOST)))
    folder = write_service(tmp_path / "service", tiny_artifact, deployment)
    (folder / "service.py").write_text("import signal\nsignal.pause()")
    process = ServiceProcess(
        folder, deployment, environment(os.environ), tmp_path / "log", ready_within_s=0.5
    )
    with pytest.raises(ServiceFailed, match=r"not ready within 0\.5 s"), process:
        pass
    assert process.process.poll() is not None


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_lets_a_running_request_end(
    start_service: Start, photo: bytes, workers: int
) -> None:
    """The request is under way for certain: half of its body is sent, the rest comes later.

    That the drain has begun is seen by a second connection, idle, which the server hangs up.
    """
    with start_service(engine="null", layout=CoreLayout(workers=workers)) as service:
        port = int(service.url.rpartition(":")[2])
        members = family(service)
        head = f"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: {len(photo)}\r\n"
        with (
            socket.create_connection((HOST, port), timeout=20) as connection,
            socket.create_connection((HOST, port), timeout=20) as idle,
        ):
            idle.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert idle.recv(1000).startswith(b"HTTP/1.1 200")
            connection.sendall((head + "Expect: 100-continue\r\n\r\n").encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 100")  # the application reads it
            connection.sendall(photo[:100])
            service.process.send_signal(signal.SIGTERM)
            while idle.recv(1000):
                pass
            assert service.process.poll() is None
            connection.sendall(photo[100:])
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        assert answer.startswith(b"HTTP/1.1 200")
        assert b'"detections":[]' in answer
        assert service.process.wait(20) == 0
        assert not any(p.is_running() and p.status() != "zombie" for p in members)
        check_port(HOST, port)


NEVER_DECODES = """
import time
import seatrial.detect.detector
seatrial.detect.detector.decode = lambda *args, **options: time.sleep(3600)
"""


def test_work_that_does_not_end_does_not_keep_the_service_up(
    tiny_artifact: Artifact, tmp_path: Path, photo: bytes, until: Callable[..., Any]
) -> None:
    deployment = Deployment(
        "m",
        engine="null",
        layout=CoreLayout(workers=1),
        limits=Limits(drain_s=1),
        server=Server(HOST, free_port(HOST)),
    )
    folder = write_service(tmp_path / "service", tiny_artifact, deployment)
    with (folder / "service.py").open("a") as code:
        code.write(NEVER_DECODES)
    log = tmp_path / "log"
    with (
        ServiceProcess(folder, deployment, environment(os.environ), log) as service,
        socket.create_connection((HOST, deployment.server.port), timeout=20) as connection,
    ):
        members = family(service)
        head = f"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: {len(photo)}\r\n\r\n"
        connection.sendall(head.encode() + photo)
        until(
            lambda: "seatrial_requests_present 1.0" in local_http.get(f"{service.url}/metrics").text
        )
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(40) == 0
        assert not any(p.is_running() and p.status() != "zombie" for p in members)
    assert "left behind" in log.read_text()


def test_a_service_started_by_hand_with_bentoml_serve(
    tiny_artifact: Artifact, tmp_path: Path, photo: bytes, until: Callable[..., Any]
) -> None:
    """By the very line that ``seatrial serve --write`` prints."""
    port = free_port(HOST)
    wrote = subprocess.run(
        [
            sys.executable, "-m", "seatrial.cli.main", "serve", "--model", tiny_artifact.path,
            "--write", "service", "--workers", "1", "--port", str(port),
        ],
        cwd=tmp_path,
        env={**os.environ, "SEATRIAL_HOME": str(tmp_path / "home")},
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )  # fmt: skip
    command = shlex.split(wrote.stderr.partition("start it with: ")[2])
    assert command[0] == "bentoml"
    command[0] = str(Path(sys.executable).parent / "bentoml")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment(os.environ),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:

        def ready() -> bool:
            assert process.poll() is None, (tmp_path / "log").read_text()
            try:
                return local_http.get(f"http://{HOST}:{port}/readyz").status_code == 200
            except httpx.TransportError:
                return False

        until(ready)
        answer = local_http.post(f"http://{HOST}:{port}/detect", files={"image": photo}).json()
        assert [row["label"] for row in answer["detections"]] == ["red"]
    finally:
        process.terminate()
        assert process.wait(20) == 0
    assert not listens(port)


def test_workers_do_not_outlive_a_supervisor_that_was_killed(
    start_service: Start, until: Callable[..., Any]
) -> None:
    with start_service(engine="null") as service:
        members = family(service)
        assert len(members) >= 2
        service.process.kill()
        service.process.wait(20)
    until(lambda: not any(p.is_running() and p.status() != "zombie" for p in members))


def test_a_service_ends_with_the_process_that_started_it(
    tiny_artifact: Artifact, tmp_path: Path, until: Callable[..., Any]
) -> None:
    folder = write_service(
        tmp_path / "service",
        tiny_artifact,
        Deployment("m", engine="null", layout=CoreLayout(workers=1)),
    )
    port = free_port(HOST)
    script = f"""
import os, signal
from pathlib import Path
from seatrial.deployment import Deployment, Server
from seatrial.serve.process import ServiceProcess
from seatrial.serve.service_folder import environment
deployment = Deployment("m", server=Server(port={port}))
with ServiceProcess(Path({str(folder)!r}), deployment, environment(os.environ), Path("log")) as it:
    print(it.process.pid, flush=True)
    signal.pause()
"""
    command = [sys.executable, "-c", script]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path, env=env) as owner:
        supervisor = psutil.Process(int(owner.stdout.readline()))
        owner.kill()
    until(lambda: not supervisor.is_running() or supervisor.status() == "zombie")
    until(lambda: not listens(port))


def test_a_scratch_service_is_removed_when_it_ends(
    tiny_artifact: Artifact, tmp_path: Path, photo: bytes
) -> None:
    folder, said = tmp_path / "services", []
    left = folder / f"{SCRATCH}999999999-x"  # of a process that was killed
    mine = folder / f"{SCRATCH}{os.getpid()}-x"
    for old in (left, mine):
        old.mkdir(parents=True)
    deployment = Deployment("m", engine="null", layout=CoreLayout(workers=1))
    started = scratch_service(deployment, tiny_artifact, folder, os.environ, said.append)
    with started as service:
        assert local_http.post(f"{service.url}/detect", content=photo).status_code == 200
        assert len(list(folder.iterdir())) == 2
        assert not left.exists()
        members = family(service)
        assert said == ["starting tiny on null, cpu, none"]
    assert said[1:] == ["stopping the service"]
    assert list(folder.iterdir()) == [mine]
    assert not any(p.is_running() and p.status() != "zombie" for p in members)


def test_a_scratch_service_that_cannot_run_is_not_started(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    deployment = Deployment("m", engine="openvino", device="cuda")
    with (
        pytest.raises(DeviceUnavailable),
        scratch_service(deployment, tiny_artifact, tmp_path / "services", os.environ),
    ):
        pytest.fail("it runs")
    assert not (tmp_path / "services").exists()


def test_bentoml_that_is_missing_is_named(
    tiny_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = Deployment("m", server=Server(HOST, free_port(HOST)))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="bentoml is not installed") as refusal:
        ServiceProcess(tmp_path, deployment, {}, tmp_path / "log")
    assert "[serve]" in refusal.value.hint
