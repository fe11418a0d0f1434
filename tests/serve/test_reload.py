"""Another model for a running service: real processes, under load."""

from __future__ import annotations

import errno
import http.client
import json
import os
import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

import local_http
from dimmed_artifacts import dimmed_artifact
from seatrial.artifact import Artifact
from seatrial.cli.admin import ServiceOptions
from seatrial.cli.reload import rehearse, reload
from seatrial.deployment import CoreLayout, Deployment, Limits, Reload, Server
from seatrial.errors import NotSwapped, ServiceFailed
from seatrial.serve.address import free_port
from seatrial.serve.control import SUPERVISOR, ControlServer, ask, find_socket
from seatrial.serve.parent import PARENT
from seatrial.serve.process import ServiceProcess
from seatrial.serve.reload import Coordinator
from seatrial.serve.service_folder import write_service
from seatrial.serve.worker_commands import SOCKET
from seatrial.system.children import has_ended

WORKERS = 2
DIGEST = "X-Model-Digest"
PATIENCE_S = 60.0

pytestmark = [pytest.mark.usefixtures("time_limit"), pytest.mark.slow]


class Reloadable(NamedTuple):
    """A service of two processes, and the two artifacts that it goes to and fro between."""

    process: ServiceProcess
    folder: Path
    admin: tuple[str, int]
    bright: Artifact
    dimmed: Artifact

    def command(self, command: str, **body: Any) -> tuple[int, Any]:
        return ask(self.admin, command, body)

    def status(self) -> Any:
        status, told = self.command("GET /admin/status")
        assert status == 200, told
        return told

    def digests(self) -> list[str]:
        return [one["digest"] for one in self.status()["processes"]]

    def serve(self, artifact: Artifact) -> None:
        """Serve an artifact, whatever was served before, without a canary."""
        if self.status()["canary"]:
            assert self.command("POST /admin/canary/abandon")[0] == 200
        status, told = self.command("POST /admin/reload", model=str(artifact.path))
        assert status == 200, told

    def log(self) -> str:
        return (self.folder / "service.log").read_text()

    def counted(self, name: str) -> float:
        lines = local_http.get(f"{self.process.url}/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


@pytest.fixture(scope="module")
def reloadable(
    tiny_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reloadable]:
    folder = tmp_path_factory.mktemp("reload")
    bright = dimmed_artifact(tiny_model, folder, 1.0, "bright")
    dimmed = dimmed_artifact(tiny_model, folder, 0.6, "dimmed")
    admin_port = free_port("127.0.0.1")
    deployment = Deployment(
        model="bright",
        engine="onnxruntime",
        layout=CoreLayout(WORKERS, 1, 1, wide=False),
        limits=Limits(drain_s=20, deadline_s=50.0),  # of a busy machine
        server=Server(port=free_port("127.0.0.1"), drain_notice_s=0.0, admin_port=admin_port),
        reload=Reload(),
    )
    service = write_service(folder / "bento", bright, deployment)
    env = {**os.environ, "TMPDIR": str(folder), "SEATRIAL_HOME": str(folder / "home")}
    with ServiceProcess(service, deployment, env, folder / "service.log") as running:
        found = Reloadable(running, folder, ("127.0.0.1", admin_port), bright, dimmed)
        until(lambda: len(found.status()["processes"]) == WORKERS)
        yield found


def until(condition: Callable[[], Any]) -> Any:
    give_up = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < give_up, "it never came to be"
        time.sleep(0.05)
    return value


class Load:
    """Clients that ask without a pause; each answer is kept."""

    def __init__(self, url: str, photo: bytes, clients: int = 2) -> None:
        self.answers: list[tuple[int, str, float]] = []
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(url, photo)) for _ in range(clients)
        ]

    def _ask(self, url: str, photo: bytes) -> None:
        with local_http.client(base_url=url, timeout=PATIENCE_S) as client:
            while not self._over.is_set():
                answer = client.post("/detect", content=photo)
                found = answer.json()
                confidence = found["detections"][0]["confidence"] if answer.is_success else 0.0
                self.answers.append((answer.status_code, answer.headers[DIGEST], confidence))
                time.sleep(0.005)

    def __enter__(self) -> Load:
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for one in self._threads:
            one.join(PATIENCE_S)


def test_no_request_fails_while_models_change_and_each_answer_is_of_one_of_them(
    reloadable: Reloadable, photo: bytes
) -> None:
    url = reloadable.process.url
    confidences: dict[str, float] = {}
    with Load(url, photo) as load:
        for artifact in (reloadable.dimmed, reloadable.bright):
            reloadable.serve(artifact)
            assert reloadable.digests() == [artifact.digest] * WORKERS
            # No process is behind: each answer from now on is of the new one.
            late = local_http.post(f"{url}/detect", content=photo, timeout=PATIENCE_S)
            assert late.headers[DIGEST] == artifact.digest
            confidences[artifact.digest] = late.json()["detections"][0]["confidence"]
            model = local_http.get(f"{url}/model")
            assert model.json()["digest"] == model.headers[DIGEST] == artifact.digest
    bright, dimmed = confidences[reloadable.bright.digest], confidences[reloadable.dimmed.digest]
    assert dimmed == pytest.approx(0.6 * bright, abs=0.02)
    assert {status for status, _, _ in load.answers} == {200}
    assert {digest: confidence for _, digest, confidence in load.answers} == confidences
    assert all(confidences[digest] == confidence for _, digest, confidence in load.answers)
    assert len(load.answers) > 100
    until(lambda: not any(one["leaving"] for one in reloadable.status()["processes"]))
    assert local_http.get(f"{url}/v2/models/bright").status_code == 200


def test_a_bad_model_is_not_swapped_in_and_says_why(
    reloadable: Reloadable, tiny_model: Callable[..., Any], tmp_path: Path, photo: bytes
) -> None:
    before = reloadable.digests()
    swapped = reloadable.counted('seatrial_reloads_total{result="swapped"}')
    status, told = reloadable.command("POST /admin/reload")  # what is served already
    assert (status, told["result"]) == (200, "unchanged")
    assert reloadable.counted('seatrial_reloads_total{result="swapped"}') == swapped
    refused = reloadable.counted('seatrial_reloads_total{result="refused"}')
    damaged = dimmed_artifact(tiny_model, tmp_path, 0.7, "damaged")
    graph = damaged.path / damaged.manifest.formats["onnx"]
    graph.chmod(0o600)
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    status, told = reloadable.command("POST /admin/reload", model=str(damaged.path))
    assert (status, told["error"]["code"]) == (409, "NotSwapped")
    assert "sha256 differs" in told["error"]["message"]
    assert "sha256 differs" in reloadable.log()
    for name in ("nothing-of-the-kind", "--help"):  # a name is no option of the command behind
        status, told = reloadable.command("POST /admin/reload", model=name)
        assert (status, told["error"]["code"]) == (409, "NotSwapped")
        assert f"no artifact named '{name}'" in told["error"]["message"]
    assert reloadable.digests() == before
    assert reloadable.counted('seatrial_reloads_total{result="refused"}') == refused + 3
    assert local_http.post(f"{reloadable.process.url}/detect", content=photo).status_code == 200


def test_sighup_reads_the_deployment_again_and_a_worker_that_is_killed_follows(
    reloadable: Reloadable, photo: bytes
) -> None:
    wanted = reloadable.dimmed
    if reloadable.digests()[0] == wanted.digest:
        wanted = reloadable.bright
    file = reloadable.folder / "bento" / "deployment.toml"
    before = file.read_text()
    file.write_text(before.replace('model = "model"', f'model = "{wanted.path}"'))
    reloadable.process.process.send_signal(signal.SIGHUP)
    until(lambda: reloadable.digests() == [wanted.digest] * WORKERS)
    file.write_text(before)
    assert f"serving {wanted.manifest.name}" in reloadable.log()
    killed = reloadable.status()["processes"][0]["pid"]
    os.kill(killed, signal.SIGKILL)

    def others() -> bool:
        processes = reloadable.status()["processes"]
        return len(processes) == WORKERS and killed not in [one["pid"] for one in processes]

    until(others)
    assert reloadable.digests() == [wanted.digest] * WORKERS
    url = reloadable.process.url
    for _ in range(10):
        answer = local_http.post(f"{url}/detect", content=photo, timeout=PATIENCE_S)
        assert answer.headers[DIGEST] == wanted.digest
    assert local_http.get(f"{url}/v2/models/bright").status_code == 200  # its name at the start


def test_a_canary_answers_its_share_and_is_promoted(reloadable: Reloadable, photo: bytes) -> None:
    live, other = reloadable.dimmed, reloadable.bright
    if reloadable.digests()[0] == other.digest:
        live, other = other, live
    share, asked = 0.3, 400
    status, told = reloadable.command(
        "POST /admin/canary", model=str(other.path), share=share, shadow=False
    )
    assert status == 200, told
    assert told["canary"]["digest"] == other.digest
    assert reloadable.digests() == [live.digest] * WORKERS
    seen: Counter[str] = Counter()
    with local_http.client(base_url=reloadable.process.url, timeout=PATIENCE_S) as client:
        for _ in range(asked):
            answer = client.post("/detect", content=photo)
            assert answer.status_code == 200
            seen[answer.headers[DIGEST]] += 1
            if random.random() < 0.1:  # the kernel chooses a process for each connection
                client.get("/livez", headers={"Connection": "close"})
    five_sigma = 5 * (share * (1 - share) * asked) ** 0.5
    assert seen[other.digest] == pytest.approx(share * asked, abs=five_sigma)
    assert seen[live.digest] == asked - seen[other.digest]
    told = reloadable.status()["canary"]
    assert told["requests"]["canary_answered"] == seen[other.digest]
    assert told["requests"]["live_answered"] == seen[live.digest]
    counted = reloadable.counted('seatrial_variant_requests_total{code="200",variant="canary"}')
    assert counted >= seen[other.digest]
    status, told = reloadable.command("POST /admin/reload", model=str(live.path))
    assert (status, told["error"]["message"]) == (409, "there is a canary")
    assert reloadable.command("POST /admin/canary/promote")[0] == 200
    assert reloadable.digests() == [other.digest] * WORKERS
    assert reloadable.status()["canary"] is None
    assert reloadable.command("POST /admin/canary/promote")[0] == 409


def test_a_shadow_answers_nobody_and_is_compared(reloadable: Reloadable, photo: bytes) -> None:
    live, other = reloadable.bright, reloadable.dimmed
    if reloadable.digests()[0] == other.digest:
        live, other = other, live
    asked = 20
    status, told = reloadable.command(
        "POST /admin/canary", model=str(other.path), share=1, shadow=True
    )
    assert status == 200, told
    for _ in range(asked):
        answer = local_http.post(
            f"{reloadable.process.url}/detect", content=photo, timeout=PATIENCE_S
        )
        assert answer.headers[DIGEST] == live.digest

    def images() -> dict[str, int]:
        found: dict[str, int] = reloadable.status()["canary"]["images"]
        return found

    until(lambda: sum(images().values()) == asked)
    found = reloadable.status()["canary"]
    assert found["images"]["compared"] > 0
    assert found["boxes"] == {"matched": found["images"]["compared"], "lost": 0, "gained": 0}
    assert found["agreement"] == 1.0
    assert reloadable.command("POST /admin/canary/abandon")[0] == 200
    assert reloadable.status()["canary"] is None
    assert reloadable.digests() == [live.digest] * WORKERS


def test_who_gives_up_before_the_switch_has_nothing_changed(reloadable: Reloadable) -> None:
    live = reloadable.digests()
    bright = reloadable.bright
    other = reloadable.dimmed if live[0] == bright.digest else bright
    connection = http.client.HTTPConnection(*reloadable.admin)
    body = json.dumps({"model": str(other.path)})
    connection.request("POST", "/admin/reload", body, {"Content-Type": "application/json"})
    connection.close()  # long before a process has started that tries it
    until(lambda: f"who asked for {other.path} has left" in reloadable.log())
    assert reloadable.digests() == live
    reloadable.serve(other)  # no change is under way
    assert reloadable.digests() == [other.digest] * WORKERS


def test_what_sighup_began_is_given_up_as_what_a_command_began(
    reloadable: Reloadable, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its trial hangs here, and nobody waits for it whose connection could be closed."""
    live = reloadable.digests()
    service = ServiceOptions(url="http://{}:{}".format(*reloadable.admin))
    supervisor = reloadable.process.process
    supervisor.send_signal(signal.SIGHUP)

    def trials() -> list[psutil.Process]:
        children = psutil.Process(supervisor.pid).children(recursive=True)
        return [one for one in children if "rehearse" in one.cmdline()]

    (trial,) = until(trials)
    trial.suspend()
    reload(abandon=True, service=service)
    assert "no canary" in capsys.readouterr().err
    assert has_ended(trial.pid)
    assert "is tried no more: it was given up" in reloadable.log()
    assert reloadable.digests() == live
    with pytest.raises(NotSwapped, match="no change is under way"):
        reload(abandon=True, service=service)
    reloadable.serve(reloadable.dimmed)  # no change is under way
    assert reloadable.digests() == [reloadable.dimmed.digest] * WORKERS


def test_one_process_without_a_supervisor_reloads_on_sighup(
    tiny_model: Callable[..., Any], tmp_path: Path, photo: bytes
) -> None:
    first = dimmed_artifact(tiny_model, tmp_path, 1.0, "first")
    second = dimmed_artifact(tiny_model, tmp_path, 0.6, "second")
    deployment = Deployment(
        model=str(first.path),
        engine="onnxruntime",
        layout=CoreLayout(1, 1, 1, wide=False),
        server=Server(port=free_port("127.0.0.1"), drain_notice_s=0.0, runtime="uvicorn"),
    )
    service = write_service(tmp_path / "service", first, deployment)
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with ServiceProcess(service, deployment, env, tmp_path / "service.log") as running:

        def digest() -> str:
            answer = local_http.post(f"{running.url}/detect", content=photo, timeout=PATIENCE_S)
            assert answer.status_code == 200
            return str(answer.headers[DIGEST])

        assert digest() == first.digest
        file = service / "deployment.toml"
        file.write_text(file.read_text().replace('model = "model"', f'model = "{second.path}"'))
        running.process.send_signal(signal.SIGHUP)
        until(lambda: digest() == second.digest)
        commands = find_socket(deployment.server, tmp_path)
        assert commands is not None
        assert ask(commands, "GET /admin/status")[1]["digest"] == second.digest
    assert find_socket(deployment.server, tmp_path) is None


def test_one_process_that_ends_as_it_does_not_switch_has_swapped_nothing(
    tiny_model: Callable[..., Any], tiny_artifact: Artifact, tmp_path: Path
) -> None:
    other = dimmed_artifact(tiny_model, tmp_path, 0.6, "other")
    deployment = Deployment(
        model=str(tiny_artifact.path),
        engine="onnxruntime",
        layout=CoreLayout(1, 1, 1, wide=False),
        server=Server(port=free_port("127.0.0.1"), drain_notice_s=0.0, runtime="uvicorn"),
    )
    service = write_service(tmp_path / "service", tiny_artifact, deployment)
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with ServiceProcess(service, deployment, env, tmp_path / "service.log") as running:
        commands = find_socket(deployment.server, tmp_path)
        assert commands is not None
        asked: list[str] = []

        def does_not_switch(command: str, body: dict[str, Any]) -> Any:
            asked.append(command)
            if command != "POST /prepare":  # nor does it end as one that failed
                raise NotSwapped("it does not")

        ControlServer(commands.parent / f"{SOCKET}{running.process.pid}.sock", does_not_switch)
        try:
            status = ask(commands, "POST /admin/reload", {"model": str(other.path)})[0]
        except ServiceFailed:  # it has ended before its answer was out
            status = 502
        assert status == 502
        assert "POST /switch" in asked
        assert running.process.wait(60) == ServiceFailed.exit_code
    log = (tmp_path / "service.log").read_text()
    assert "error: the model is not swapped: the service ends: " in log


def test_a_process_that_is_stopped_is_named_at_once(reloadable: Reloadable) -> None:
    """It would be waited for as long as loading a model may take."""
    reloadable.serve(reloadable.bright)
    pid = reloadable.status()["processes"][0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        status, told = reloadable.command("POST /admin/reload", model=str(reloadable.dimmed.path))
        assert (status, told["error"]["message"]) == (409, f"process {pid} is stopped")
        assert pid not in [one["pid"] for one in reloadable.status()["processes"]]
        assert time.monotonic() - began < PATIENCE_S
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: reloadable.digests() == [reloadable.bright.digest] * WORKERS)


def test_what_a_killed_process_left_does_not_count_where_another_has_its_number(
    reloadable: Reloadable,
) -> None:
    (folder,) = reloadable.folder.glob(f"{SUPERVISOR}*")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(folder / f"{SOCKET}{os.getpid()}.sock"))  # and does not listen
    other = next(
        one
        for one in (reloadable.bright, reloadable.dimmed)
        if one.digest != reloadable.status()["digest"]
    )
    reloadable.serve(other)
    assert reloadable.digests() == [other.digest] * WORKERS


def test_wrong_commands_say_what_is_known(reloadable: Reloadable) -> None:
    for body in ({}, {"model": "x", "share": 2}, {"model": "x", "share": True}, {"share": 0.5}):
        assert reloadable.command("POST /admin/canary", **body)[0] == 400
    served = reloadable.status()["digest"]
    other = reloadable.dimmed if served == reloadable.bright.digest else reloadable.bright
    for command in ("POST /admin/reload", "POST /admin/canary/promote"):
        status, told = reloadable.command(command, modle=str(other.path))  # not the default model
        assert (status, told["error"]["message"]) == (400, "unknown key 'modle'")
    assert reloadable.status()["digest"] == served
    same = str((reloadable.bright if other is reloadable.dimmed else reloadable.dimmed).path)
    status, told = reloadable.command("POST /admin/canary", model=same, share=0.5)
    assert (status, told["error"]["code"]) == (409, "NotSwapped")
    status, told = reloadable.command("POST /admin/nothing")
    assert status == 400
    assert "POST /admin/reload" in told["error"]["hint"]


def test_a_rehearsal_ends_with_its_service(
    tiny_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the memory of a model, and may run for minutes: nobody would wait for it."""
    folder = write_service(tmp_path / "service", tiny_artifact, Deployment("tiny", engine="null"))
    given: list[str] = []

    def begun(command: list[str], *, env: dict[str, str], **options: Any) -> Any:
        given.append(env[PARENT])
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr("subprocess.Popen", begun)
    coordinator = Coordinator(folder / "deployment.toml", tmp_path, None)
    with pytest.raises(NotSwapped, match="cannot be tried"):
        coordinator.reload()
    assert given == [str(os.getpid())]

    def asked(parent: int) -> None:
        raise InterruptedError

    monkeypatch.setattr("seatrial.serve.parent.end_with_parent", asked)
    monkeypatch.setenv(PARENT, str(os.getppid()))
    with pytest.raises(InterruptedError):
        rehearse("served", "other")
