"""A service whose workers cannot start ends, and says why."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Limits, RuntimeName, Server
from seatrial.errors import InvalidArtifact
from seatrial.serve.address import free_port
from seatrial.serve.runtimes import starts, supervise
from seatrial.serve.runtimes.bento_runtime import BentoMl
from seatrial.serve.service_folder import environment, write_service

HOST = "127.0.0.1"

pytestmark = pytest.mark.slow


RAISES = """
def start():
    import os, pathlib
    count = pathlib.Path(__file__).with_name(f"starts-{os.getpid()}")
    count.touch()
    raise RuntimeError(f"attempt {len(list(count.parent.glob('starts-*')))}")

Seatrial.start = start
"""


def written(artifact: Artifact, folder: Path, code: str = RAISES) -> tuple[Path, Deployment]:
    """A service folder on a free port whose workers fail when they start."""
    layout, server = CoreLayout(workers=1), Server(HOST, free_port(HOST))
    deployment = Deployment("model", engine="null", layout=layout, server=server)
    write_service(folder, artifact, deployment)
    with (folder / "service.py").open("a") as file:
        file.write(code)
    return folder, deployment


def ended(words: list[str], *, files: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
    if files:
        words = ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh", *words]
    return subprocess.run(
        words,
        env={**environment(os.environ), **more},
        text=True,
        timeout=240,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )


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


IN_WORKERS = """
from seatrial.serve.runtimes.served import own_worker
if own_worker():
    raise LookupError("not there")
"""


def test_an_error_before_the_application_is_there_counts(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    folder, deployment = written(tiny_artifact, tmp_path / "service", IN_WORKERS)
    result = ended(supervise.command(folder, deployment))
    assert result.returncode == 6, result.stdout
    assert "error: the service did not start: LookupError: not there\n" in result.stdout
    assert result.stdout.count("ended with code 1: another one is started") <= 3


def test_a_deployment_that_is_not_valid_is_told_without_a_traceback(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    folder, deployment = written(tiny_artifact, tmp_path / "service")
    with (folder / "deployment.toml").open("a") as file:
        file.write("[engin]\n")
    result = ended(BentoMl().command(folder, deployment))
    assert result.returncode == 2, result.stdout
    assert "Traceback" not in result.stdout
    assert result.stdout.splitlines()[-2].startswith("error: the service did not start: ")
    assert "engin" in result.stdout.splitlines()[-2]


@pytest.mark.parametrize("runtime", ["bentoml", "uvicorn"])
def test_an_error_after_the_model_is_loaded_ends_the_service_without_a_traceback(
    tiny_artifact: Artifact, tmp_path: Path, runtime: RuntimeName
) -> None:
    """Descriptors are counted when all else is open."""
    layout, server = CoreLayout(workers=1), Server(HOST, free_port(HOST), runtime=runtime)
    limits = Limits(connections=5000)
    deployment = Deployment("model", engine="null", layout=layout, server=server, limits=limits)
    folder = write_service(tmp_path / "service", tiny_artifact, deployment)
    words = [sys.executable, "-m", "seatrial.serve.runtimes.alone", str(folder / "deployment.toml")]
    if runtime == "bentoml":
        words = supervise.command(folder, deployment)
    result = ended(words, files=1000)
    assert result.returncode == 6, result.stdout
    assert "Traceback" not in result.stdout
    message, hint = result.stdout.splitlines()[-2:]
    assert message.startswith(
        "error: the service did not start: a process may have 1000 open files, which leaves room"
    )
    assert hint.startswith("hint: allow more: ulimit -n 5")
    others = [
        line for line in result.stdout.splitlines()[:-2] if "a server process did not" in line
    ]
    assert len(others) == (3 if runtime == "bentoml" else 0)


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
        assert ended_by == []
        with pytest.raises(InvalidArtifact), starts.counted(0):
            raise InvalidArtifact(f"attempt {number}", hint="pull it again")
    assert ended_by == [os.getppid()]
    assert verdict(tmp_path) == [starts.FailedStart("attempt 0", "pull it again", 3)]


def test_starts_that_were_killed_count_although_nobody_could_write_an_error(
    tmp_path: Path, ended_by: list[int]
) -> None:
    seen: list[int] = []

    for number in range(3):
        with pytest.raises(KeyboardInterrupt), starts.counted(0):
            # What its note says while it starts is what a killed one leaves.
            seen.append(len(starts._read(tmp_path / "worker-0.json")))
            raise KeyboardInterrupt
        starts._write(tmp_path / "worker-0.json", [starts.FailedStart()] * (number + 1))
    ended_by.clear()
    (tmp_path / starts.VERDICT).unlink()
    with starts.counted(0) as serves:
        serves()
    assert seen == [1, 2, 3]
    assert ended_by == [os.getppid()]
    assert verdict(tmp_path) == [starts.FailedStart(starts.SILENT)]


def test_a_start_that_works_forgets_those_that_failed(tmp_path: Path, ended_by: list[int]) -> None:
    for _ in range(2):
        for worker in (0, 0, 1):  # each worker has a count of its own
            with pytest.raises(ValueError, match="no"), starts.counted(worker):
                raise ValueError("no")
        for worker in (0, 1):
            with pytest.raises(ValueError, match="later"), starts.counted(worker) as serves:
                serves()
                raise ValueError("later")
    assert ended_by == []
    assert list(tmp_path.iterdir()) == []


def test_an_end_that_was_asked_for_is_no_failed_start(tmp_path: Path, ended_by: list[int]) -> None:
    with pytest.raises(ValueError, match="no"), starts.counted(0):
        raise ValueError("no")
    for _ in range(3):
        with pytest.raises(SystemExit), starts.counted(0):
            raise SystemExit(0)
        with starts.counted(0):  # the server came back of a signal
            pass
    assert ended_by == []
    assert len(starts._read(tmp_path / "worker-0.json")) == 1
