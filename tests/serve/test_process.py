"""Service folders, and processes started from them with ``bentoml serve``."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
import pytest
import yaml

from seatrial.artifact import MANIFEST, Artifact
from seatrial.deployment import CoreLayout, Deployment, Limits, Server
from seatrial.errors import (
    DeviceUnavailable,
    InvalidInput,
    MissingExtra,
    NotWritable,
    PortInUse,
    ServiceFailed,
)
from seatrial.serve.process import (
    SCRATCH,
    ServiceProcess,
    check_port,
    command,
    command_by_hand,
    environment,
    free_port,
    scratch_service,
    url,
    with_port,
    write_service,
)

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


def test_a_folder_stands_alone(tiny_artifact: Artifact, tmp_path: Path) -> None:
    deployment = Deployment("whatever", engine="null", limits=Limits(queue=7))
    folder = write_service(tmp_path / "a" / "service", tiny_artifact, deployment)
    assert sorted(p.name for p in folder.iterdir()) == [
        "bentofile.yaml", "deployment.toml", "model", "service.py",
    ]  # fmt: skip
    written = Deployment.read(folder / "deployment.toml")
    assert written == msgspec.structs.replace(deployment, model="model")
    assert Artifact.open(folder / "model").digest == tiny_artifact.digest
    assert folder.stat().st_mode & 0o777 == 0o755
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["service"]


@pytest.mark.parametrize(
    ("deployment", "extras"),
    [
        (Deployment("m"), "serve,openvino"),
        (Deployment("m", engine="null"), "serve"),
        (Deployment("m", engine="onnxruntime", device="cuda"), "serve,onnxruntime-gpu"),
        (Deployment("m", engine="torch-compile"), "serve,torch"),
    ],
)
def test_a_folder_to_build_from_has_what_it_says_is_installed(
    tiny_artifact: Artifact, tmp_path: Path, deployment: Deployment, extras: str
) -> None:
    folder = write_service(tmp_path / "service", tiny_artifact, deployment, with_package=True)
    (wheel,) = (folder / "wheels").iterdir()
    said = yaml.safe_load((folder / "bentofile.yaml").read_text())
    assert said["python"] == {
        "packages": [f"./wheels/{wheel.name}[{extras}]"],
        "wheels": [f"wheels/{wheel.name}"],
    }


def test_a_link_beside_the_files_of_an_artifact_is_left_behind(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("not for the service")
    copied = tmp_path / "artifact"
    shutil.copytree(tiny_artifact.path, copied)
    (copied / "extra.txt").symlink_to(secret)
    folder = write_service(tmp_path / "service", Artifact.open(copied), Deployment("m"))
    assert sorted(path.name for path in (folder / "model").iterdir()) == sorted(
        path.name for path in tiny_artifact.path.iterdir()
    )


def test_an_older_service_is_replaced_and_anything_else_is_kept(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    folder = tmp_path / "service"
    write_service(folder, tiny_artifact, Deployment("m", engine="null"))
    (folder / "left over.txt").write_text("")
    write_service(folder, tiny_artifact, Deployment("m", engine="openvino"))
    assert Deployment.read(folder / "deployment.toml").engine == "openvino"
    assert not (folder / "left over.txt").exists()
    other = tmp_path / "documents"
    other.mkdir()
    (other / "thesis.tex").write_text("x")
    with pytest.raises(InvalidInput, match="holds files already"):
        write_service(other, tiny_artifact, Deployment("m"))
    assert (other / "thesis.tex").read_text() == "x"
    with pytest.raises(InvalidInput, match="is a file"):
        write_service(other / "thesis.tex", tiny_artifact, Deployment("m"))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_environment_keeps_what_it_was_and_reports_nothing_home() -> None:
    assert environment({"A": "b"}) == {"A": "b", "BENTOML_DO_NOT_TRACK": "True"}


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


def test_an_address_of_another_machine() -> None:
    with pytest.raises(PortInUse, match=r"192\.0\.2\.1"):
        check_port("192.0.2.1", 3000)


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
        until(lambda: "seatrial_requests_present 1.0" in httpx.get(f"{service.url}/metrics").text)
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
                return httpx.get(f"http://{HOST}:{port}/readyz").status_code == 200
            except httpx.TransportError:
                return False

        until(ready)
        answer = httpx.post(f"http://{HOST}:{port}/detect", files={"image": photo}).json()
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
from seatrial.serve.process import ServiceProcess, environment
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


def test_the_command_serves_where_the_deployment_says() -> None:
    deployment = Deployment("m", server=Server("127.0.0.1", 3456), limits=Limits(drain_s=9))
    words = command(Path("/srv/x"), deployment)
    assert words[:5] == [sys.executable, "-m", "bentoml", "serve", "service:Seatrial"]
    options = dict(zip(words[5::2], words[6::2], strict=True))
    assert options == {
        "--working-dir": "/srv/x",
        "--host": "127.0.0.1",
        "--port": "3456",
        "--timeout-graceful-shutdown": "9",
    }


def test_the_command_that_a_person_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    deployment = Deployment("m", server=Server("127.0.0.2", 3456), limits=Limits(drain_s=9))
    assert command_by_hand(Path("x"), deployment) == [
        "bentoml", "serve", str(tmp_path / "x"), "--host", "127.0.0.2", "--port", "3456",
        "--timeout-graceful-shutdown", "9",
    ]  # fmt: skip


def test_port_0_becomes_a_free_one() -> None:
    given = Deployment("m", server=Server(port=4000), limits=Limits(queue=3))
    assert with_port(given) is given
    chosen = with_port(msgspec.structs.replace(given, server=Server("127.0.0.2", 0)))
    assert chosen.server.port > 0
    assert (chosen.server.host, chosen.limits) == ("127.0.0.2", given.limits)
    check_port("127.0.0.2", chosen.server.port)


def test_addresses() -> None:
    assert url(Server("127.0.0.1", 80)) == "http://127.0.0.1:80"
    assert url(Server("::1", 3000)) == "http://[::1]:3000"


def test_the_manifest_travels_with_the_folder(tiny_artifact: Artifact, tmp_path: Path) -> None:
    folder = write_service(tmp_path / "s", tiny_artifact, Deployment("m"))
    assert (folder / "model" / MANIFEST).read_bytes() == (
        tiny_artifact.path / MANIFEST
    ).read_bytes()


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
        assert httpx.post(f"{service.url}/detect", content=photo).status_code == 200
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


def test_the_model_of_a_service_takes_no_room_of_its_own(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    """Where the file system has hard links; the artifact is put on the disk of the folder."""
    there = shutil.copytree(tiny_artifact.path, tmp_path / "tiny")
    folder = write_service(tmp_path / "service", Artifact.open(there), Deployment("m"))
    for file in tiny_artifact.manifest.files:
        assert (folder / "model" / file.path).samefile(there / file.path)


def test_bentoml_that_is_missing_is_named(
    tiny_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = Deployment("m", server=Server(HOST, free_port(HOST)))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="bentoml is not installed") as refusal:
        ServiceProcess(tmp_path, deployment, {}, tmp_path / "log")
    assert "[serve]" in refusal.value.hint


def test_a_folder_that_cannot_be_written(tiny_artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritable, match="file"):
        write_service(tmp_path / "file" / "service", tiny_artifact, Deployment("m"))


@pytest.mark.parametrize("host", ["\u00fc" * 80, "a\0b", "192.0.2.1", ".."])
def test_what_is_no_host_of_this_machine_is_refused(host: str) -> None:
    unknown_port = Deployment("m", server=Server(host, 0))
    for check in (lambda: check_port(host, 0), lambda: with_port(unknown_port)):
        with pytest.raises(PortInUse, match="cannot listen on") as caught:
            check()
        assert "--host" in caught.value.hint
