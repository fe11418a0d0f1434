"""The commands that a server process takes from its supervisor."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dimmed_artifacts import dimmed_artifact
from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment
from seatrial.detect.detector import Detector
from seatrial.errors import EngineFailed
from seatrial.serve.control import ask
from seatrial.serve.served_state import ServedState
from seatrial.serve.service import Service
from seatrial.serve.startup import open_service
from seatrial.serve.worker_commands import WorkerCommands
from served_application import Running

pytestmark = pytest.mark.usefixtures("time_limit")


def open_beside(artifact: Artifact, beside: Service) -> Service:
    layout = CoreLayout(1, 1, 1, wide=False)
    return open_service(
        artifact, Deployment("x", engine="onnxruntime", layout=layout), beside=beside
    )


def commands(running: Running, folder: Path) -> Path:
    """Have a running application take commands; its socket."""
    made: list[WorkerCommands] = []
    there = threading.Event()

    def listen() -> None:
        made.append(WorkerCommands(running.app.state.serving, open_beside, folder))
        there.set()

    running.loop.call_soon_threadsafe(listen)
    assert there.wait(30)
    return made[0].path


def fails(*given: Any) -> None:
    raise EngineFailed("it raises on an image")


def test_loaded_beside_then_switched_or_dropped(
    run_app: Callable[..., Any],
    tiny_model: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = dimmed_artifact(tiny_model, tmp_path, 0.6, "other")
    asked: dict[str, Any] = {"path": str(other.path), "digest": other.digest}
    with run_app() as running:
        socket = commands(running, tmp_path)
        first = running.service.digest
        assert ask(socket, "POST /switch", {"digest": other.digest})[0] == 409  # none is prepared
        status, told = ask(socket, "POST /prepare", {**asked, "memory_bytes": 2**50})
        assert status == 409
        assert told["error"]["message"].startswith("two models do not fit")
        status, told = ask(socket, "POST /prepare", {**asked, "digest": "0" * 64})
        assert "it has changed" in told["error"]["message"]
        with monkeypatch.context() as patch:
            patch.setattr(Detector, "check", fails)
            status, told = ask(socket, "POST /prepare", asked)
            assert (status, told["error"]["message"]) == (500, "it raises on an image")
        assert ask(socket, "POST /switch", {"digest": other.digest})[0] == 409
        assert ask(socket, "POST /prepare", asked) == (200, {"digest": other.digest})
        assert running.service.digest == first
        assert ask(socket, "POST /drop") == (200, {})
        assert ask(socket, "POST /switch", {"digest": other.digest})[0] == 409
        assert ask(socket, "POST /prepare", asked)[0] == 200
        status, told = ask(socket, "POST /switch", {"digest": other.digest})
        assert (status, told["digest"], told["served_as"]) == (200, other.digest, "tiny")
        assert running.service.digest == other.digest
        assert ask(socket, "POST /switch", {"digest": other.digest})[0] == 200  # once is enough
        assert ask(socket, "POST /promote", {"digest": first})[0] == 409
        assert ask(socket, "POST /nothing")[0] == 400


def test_a_process_that_starts_late_follows_what_is_written(
    run_app: Callable[..., Any],
    tiny_model: Callable[..., Any],
    tmp_path: Path,
    until: Callable[[Any], Any],
) -> None:
    other = dimmed_artifact(tiny_model, tmp_path, 0.6, "other")
    with run_app() as running:
        ServedState(str(other.path), other.digest, "other", "tiny").write(tmp_path)
        commands(running, tmp_path)
        until(lambda: running.service.digest == other.digest)


def test_a_process_that_is_told_to_fail_says_so_whatever_else_it_does(
    run_app: Callable[..., Any],
    tiny_model: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ends as one that failed: a service manager starts no other one for an end in order."""
    other = dimmed_artifact(tiny_model, tmp_path, 0.6, "other")
    begun, over = threading.Event(), threading.Event()

    def open_slowly(*given: Any) -> Any:
        begun.set()
        over.wait(60)
        raise RuntimeError("too late")

    monkeypatch.setitem(globals(), "open_beside", open_slowly)
    with run_app() as running:
        socket = commands(running, tmp_path)
        health, failed = running.service.health, threading.Event()
        health.on_failure = failed.set
        asked = {"path": str(other.path), "digest": other.digest}
        loading = threading.Thread(target=ask, args=(socket, "POST /prepare", asked))
        loading.start()
        assert begun.wait(60)
        assert ask(socket, "POST /fail", {"reason": "it does not switch"}) == (200, {})
        assert failed.is_set()
        assert running.client.get("/livez").text == "it does not switch\n"
        over.set()
        loading.join()
