"""A service whose workers cannot start ends, and says why."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Server
from seatrial.errors import InvalidArtifact
from seatrial.serve.address import free_port
from seatrial.serve.runtimes import starts, supervise
from seatrial.serve.runtimes.bento_runtime import BentoMl
from seatrial.serve.service_folder import environment, write_service

HOST = "127.0.0.1"

pytestmark = pytest.mark.slow


def written(artifact: Artifact, folder: Path) -> tuple[Path, Deployment]:
    """A service folder on a free port whose workers fail when they start."""
    layout, server = CoreLayout(workers=1), Server(HOST, free_port(HOST))
    deployment = Deployment("model", engine="null", layout=layout, server=server)
    write_service(folder, artifact, deployment)
    with (folder / "service.py").open("a") as file:
        file.write(RAISES)
    return folder, deployment


def ended(words: list[str], **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        env={**environment(os.environ), **more},
        text=True,
        timeout=240,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )


RAISES = """
def start():
    import os, pathlib
    count = pathlib.Path(__file__).with_name(f"starts-{os.getpid()}")
    count.touch()
    raise RuntimeError(f"attempt {len(list(count.parent.glob('starts-*')))}")

Seatrial.start = start
"""


def test_three_failed_starts_end_the_service_with_the_first_error(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    folder, deployment = written(tiny_artifact, tmp_path / "service")
    result = ended(supervise.command(folder, deployment))
    assert result.returncode == 6, result.stdout
    assert result.stdout.splitlines()[-2:] == [
        "error: the service did not start: RuntimeError: attempt 1",
        "hint: see the traceback in the log",
    ]
    assert len(list(folder.glob("starts-*"))) == 3


def test_in_a_container_where_no_worker_starts_again_the_first_failure_ends_it(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    folder, deployment = written(tiny_artifact, tmp_path / "service")
    result = ended(BentoMl().command(folder, deployment), BENTOML_CONTAINERIZED="true")
    assert result.returncode == 6, result.stdout
    assert "error: the service did not start: RuntimeError: attempt 1" in result.stdout
    assert len(list(folder.glob("starts-*"))) == 1


@pytest.fixture
def ended_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Makes this process a worker whose notes lie in `tmp_path`; the processes that it ends."""
    found: list[int] = []
    monkeypatch.setenv(starts.FOLDER, f"{os.getppid()}:{tmp_path}")
    monkeypatch.setattr(os, "kill", lambda pid, number: found.append(pid))
    return found


def verdict(folder: Path) -> list[starts.FailedStart]:
    return starts._read(folder / starts.VERDICT)


def test_an_error_of_ours_keeps_its_message_hint_and_code(
    tmp_path: Path, ended_by: list[int]
) -> None:
    for number in range(3):

        def fails(number: int = number) -> None:
            raise InvalidArtifact(f"attempt {number}", hint="pull it again")

        assert ended_by == []
        with pytest.raises(InvalidArtifact):
            starts.counted(fails, 0)
    assert ended_by == [os.getppid()]
    assert verdict(tmp_path) == [starts.FailedStart("attempt 0", "pull it again", 3)]


def test_starts_that_were_killed_count_although_nobody_could_write_an_error(
    tmp_path: Path, ended_by: list[int]
) -> None:
    seen: list[int] = []

    def killed() -> None:  # what its note says while it starts is what a killed one leaves
        notes = starts._read(tmp_path / "worker-0.json")
        seen.append(len(notes))
        raise KeyboardInterrupt

    for number in range(3):
        with pytest.raises(KeyboardInterrupt):
            starts.counted(killed, 0)
        starts._write(tmp_path / "worker-0.json", [starts.FailedStart()] * (number + 1))
    ended_by.clear()
    (tmp_path / starts.VERDICT).unlink()
    starts.counted(lambda: None, 0)
    assert seen == [1, 2, 3]
    assert ended_by == [os.getppid()]
    assert verdict(tmp_path) == [starts.FailedStart(starts.SILENT)]


def test_a_start_that_works_forgets_those_that_failed(tmp_path: Path, ended_by: list[int]) -> None:
    def fails() -> None:
        raise ValueError("no")

    for _ in range(2):
        for _ in range(2):
            with pytest.raises(ValueError, match="no"):
                starts.counted(fails, 0)
        with pytest.raises(ValueError, match="no"):  # another worker's count is its own
            starts.counted(fails, 1)
        assert starts.counted(lambda: "served", 0) == "served"
        assert starts.counted(lambda: "served", 1) == "served"
    assert ended_by == []
    assert list(tmp_path.iterdir()) == []
