"""A supervisor's part in a change of models, with processes that only note what they are asked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dimmed_artifacts import dimmed_artifact
from seatrial.artifact import Artifact
from seatrial.deployment import Deployment
from seatrial.errors import NotSwapped
from seatrial.serve.control import ControlServer
from seatrial.serve.reload import RELOADED, Coordinator
from seatrial.serve.served_state import SecondState, ServedState
from seatrial.serve.service_folder import write_service

NOBODY = {"requests": {"live_answered": 0}, "seconds": {"live": 0.0}}


class LedProcesses:
    """A supervisor's part, and what its processes were asked.

    Attributes:
        folder: The service folder.
        sockets: The supervisor's folder.
        coordinator: Leads the processes.
        asked: Number of each process and command, in their order.
        refuses: Command -> number of the process that refuses it.
        told: What each process says of its canary, by its number.
        meanwhile: Command -> what is done while a process does it.
    """

    def __init__(self, folder: Path, sockets: Path) -> None:
        self.folder, self.sockets = folder, sockets
        self.coordinator = Coordinator(folder / "deployment.toml", sockets, None)
        self.asked: list[tuple[int, str]] = []
        self.refuses: dict[str, int] = {}
        self.told: dict[int, dict[str, Any]] = {}
        self.meanwhile: dict[str, Callable[[], None]] = {}

    def listen(self, *pids: int) -> None:
        """Have processes take commands; they are numbered in the order of their sockets."""
        for number, name in enumerate(sorted(f"worker-{pid}.sock" for pid in pids)):
            ControlServer(self.sockets / name, self._process(number))

    def _process(self, number: int) -> Callable[[str, dict[str, Any]], Any]:
        def answer(command: str, body: dict[str, Any]) -> Any:
            self.asked.append((number, command))
            if command in self.meanwhile:
                self.meanwhile[command]()
            if self.refuses.get(command) == number:
                raise NotSwapped("there is no room", hint="give it more memory")
            if command == "GET /status":
                told = {"pid": number, "name": "tiny", "digest": "0" * 64, "leaving": 0}
                return {**told, "canary": self.told.get(number)}
            return {}

        return answer

    @property
    def placed(self) -> list[str]:
        """Digests of the artifacts that were put beside the first one."""
        return sorted(path.name for path in (self.folder / RELOADED).glob("*"))


@pytest.fixture
def other(tiny_model: Callable[..., Any], tmp_path: Path) -> Artifact:
    return dimmed_artifact(tiny_model, tmp_path, 0.6, "other")


@pytest.fixture
def led(tiny_artifact: Artifact, tmp_path: Path) -> LedProcesses:
    folder = write_service(tmp_path / "service", tiny_artifact, Deployment("tiny", engine="null"))
    sockets = tmp_path / "supervisor"
    sockets.mkdir()
    return LedProcesses(folder, sockets)


@pytest.fixture
def rehearsed(led: LedProcesses, monkeypatch: pytest.MonkeyPatch) -> Callable[[Artifact], None]:
    """Has the trial of an artifact pass; `tests/test_rehearsal.py` has real ones."""

    def passes(artifact: Artifact) -> None:
        tried = {
            "path": str(artifact.path), "digest": artifact.digest,
            "name": artifact.manifest.name, "memory_bytes": 1, "images": 4,
            "comparison": {"agreement": {"share": 1.0}},
        }  # fmt: skip
        monkeypatch.setattr("seatrial.serve.reload.rehearse_apart", lambda *given: tried)

    return passes


@pytest.fixture
def child() -> Iterator[int]:
    """Number of a process that may be ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid


def with_canary(led: LedProcesses, live: str = "1" * 64) -> None:
    second = SecondState("/other", "2" * 64, "other", 0.5, shadow=True)
    ServedState("/tiny", live, "tiny", "tiny", second).write(led.sockets)


def canary(matched: int, lost: int, failure: str = "") -> dict[str, Any]:
    return {
        "failure": failure, **NOBODY, "images": {"compared": 1},
        "boxes": {"matched": matched, "lost": lost, "gained": 0},
    }  # fmt: skip
