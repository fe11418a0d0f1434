"""Room for a service's temporary files: looked for before it starts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Server
from seatrial.errors import NotWritable
from seatrial.serve.address import free_port
from seatrial.serve.metrics_files import reserve_files
from seatrial.serve.process import ServiceProcess
from seatrial.serve.runtimes import metrics_folder
from seatrial.serve.runtimes.metrics_folder import METRICS_BYTES, metrics_root
from seatrial.serve.service_folder import environment, write_service

HOST = "127.0.0.1"
REFERENCE = Path(__file__).parents[3] / "docs/reference/deployment.md"

pytestmark = pytest.mark.usefixtures("time_limit")


def free(monkeypatch: pytest.MonkeyPatch, size: int) -> list[Path]:
    """Let every disk have so many bytes free; returns the folders that are asked for."""
    asked: list[Path] = []

    def usage(folder: Any) -> SimpleNamespace:
        asked.append(Path(folder))
        return SimpleNamespace(free=size)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    return asked


def test_the_message_names_the_folder_and_the_room(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(metrics_folder, "SHARED_MEMORY", tmp_path / "none")
    asked = free(monkeypatch, METRICS_BYTES)
    assert metrics_root() == tmp_path
    assert asked == [tmp_path]
    free(monkeypatch, METRICS_BYTES - 1)
    with pytest.raises(NotWritable) as refusal:
        metrics_root()
    message = refusal.value.message
    assert message == (
        f"{tmp_path} has 20479 KiB free; a service needs 20480 KiB there for its metrics"
    )
    assert "TMPDIR" in refusal.value.hint


def test_the_room_is_that_of_the_files_and_the_reference_says_it(tmp_path: Path) -> None:
    """Eight processes have it: four, and those in their places."""
    reserve_files(tmp_path)
    taken = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert 8 * taken == metrics_folder.METRICS_BYTES
    (row,) = [line for line in REFERENCE.read_text().splitlines() if line.startswith("| metrics,")]
    assert re.findall(r"([\d.]+) MiB", row) == [
        f"{size / 2**20:g}" for size in (taken, 8 * taken, 8 * taken)
    ]


def test_shared_memory_comes_first_where_it_has_room(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(metrics_folder, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "elsewhere")
    free(monkeypatch, METRICS_BYTES)
    assert metrics_root() == tmp_path
    free(monkeypatch, 1024)
    with pytest.raises(NotWritable, match="elsewhere has 1 KiB"):
        metrics_root()


def test_no_folder_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def none_there() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(metrics_folder, "SHARED_MEMORY", tmp_path / "none")
    monkeypatch.setattr(tempfile, "gettempdir", none_there)
    with pytest.raises(NotWritable, match="No usable temporary directory"):
        metrics_root()


def test_a_service_without_room_is_not_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    free(monkeypatch, 0)
    deployment = Deployment("m", server=Server(HOST, free_port(HOST)))
    with pytest.raises(NotWritable, match="0 KiB free"):
        ServiceProcess(tmp_path, deployment, {}, tmp_path / "log")
    assert not (tmp_path / "log").exists()


NO_ROOM = """
import shutil
from types import SimpleNamespace
shutil.disk_usage = lambda folder: SimpleNamespace(free=1024)
"""
START = """
import sys
from pathlib import Path
from seatrial.serve.runtimes.bento import service
service(Path(sys.argv[1]) / "deployment.toml")
"""


def test_a_process_started_by_hand_says_it_in_a_line(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    deployment = Deployment("m", engine="null", layout=CoreLayout(workers=1))
    folder = write_service(tmp_path / "service", tiny_artifact, deployment)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", NO_ROOM + START, folder],
        env={**environment(os.environ), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 7
    told = f"error: the service did not start: {tmp_path} has 1 KiB free; a service needs 20480 KiB"
    assert done.stderr.startswith(told)
    assert done.stderr.count("\n") == 2
