"""The metrics of the real service: their files on a full disk, and series that no path makes."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

import local_http
from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Limits, Server
from seatrial.serve.address import free_port
from seatrial.serve.control import SUPERVISOR
from seatrial.serve.metrics_files import FILE_BYTES
from seatrial.serve.process import ServiceProcess
from seatrial.serve.runtimes.bento_runtime import BentoMl
from seatrial.serve.service_folder import environment, write_service

METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PROPFIND")
# The shared memory and the temporary files of a service on file systems of 20 MiB of its own.
SMALL = """
mount -t tmpfs -o size=20m small /dev/shm && mount -t tmpfs -o size=20m small "$TMPDIR" && exec "$@"
"""
ROUTES = """
import json, sys
from pathlib import Path
from starlette.routing import Mount
from seatrial.serve.runtimes.bento import service

def walk(app, before=""):
    for name in ("app", "endpoint", "_app", "_probes"):
        if hasattr(app, name):
            yield from walk(getattr(app, name), before)
    for route in getattr(app, "routes", None) or ():
        path = before + getattr(route, "path", "")
        yield path
        # An application behind a route of ours sees the same path; a mounted one what follows.
        yield from walk(route, path if isinstance(route, Mount) else "")

print(json.dumps(sorted(set(walk(service(Path(sys.argv[1])).to_asgi())))))
"""

pytestmark = [pytest.mark.usefixtures("time_limit"), pytest.mark.slow]


@pytest.fixture
def on_small_disks(
    tiny_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ServiceProcess]:
    """A service whose temporary files are on file systems of 20 MiB."""
    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("file systems of its own need the rights of root")
    (tmp_path / "tmp").mkdir()
    deployment = Deployment(
        "m", engine="null", layout=CoreLayout(workers=1), limits=Limits(drain_s=5),
        server=Server(port=free_port("127.0.0.1")),
    )  # fmt: skip
    folder = write_service(tmp_path / "service", tiny_artifact, deployment)
    plain = BentoMl.command
    monkeypatch.setattr(
        BentoMl, "command", lambda *of: ["unshare", "-m", "sh", "-c", SMALL, "sh", *plain(*of)]
    )
    env = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    with ServiceProcess(folder, deployment, env, tmp_path / "log") as running:
        yield running


def test_what_killed_services_left_in_memory_goes_with_the_next_start(
    start_service: Callable[..., ServiceProcess], tmp_path: Path
) -> None:
    """And what they left among the temporary files: the folder of their commands."""
    env = {"TMPDIR": str(tmp_path)}
    with start_service(engine="null", layout=CoreLayout(workers=1), env=env) as first:
        supervisor = psutil.Process(first.process.pid)
        (worker,) = supervisor.children()
        left = Path(worker.environ()["PROMETHEUS_MULTIPROC_DIR"])
        supervisor.kill()
        worker.kill()
        first.process.wait()
        assert left.is_dir()
        commands = list(tmp_path.iterdir())
        assert [path.name.startswith(SUPERVISOR) for path in commands] == [True]
    with start_service(engine="null", layout=CoreLayout(workers=1), env=env) as second:
        assert not left.exists()
        assert not commands[0].exists()
        (worker,) = psutil.Process(second.process.pid).children()
        own = Path(worker.environ()["PROMETHEUS_MULTIPROC_DIR"])
        assert own.is_dir()
        assert stat.S_IMODE(own.stat().st_mode) == 0o700  # others could take its sockets' places
    assert not own.exists()
    assert not list(tmp_path.iterdir())


def fill(folder: Path) -> None:
    """Leave not a byte free."""
    with (folder / "filling").open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))


def test_disks_that_fill_later_take_nothing_away(
    on_small_disks: ServiceProcess, photo: bytes, tmp_path: Path
) -> None:
    """Everything that is written later has its room, series that did not exist before as well."""
    (worker,) = psutil.Process(on_small_disks.process.pid).children()
    shared = Path(f"/proc/{worker.pid}/root/dev/shm")
    (folder,) = shared.glob("seatrial-metrics-*")
    files = {file.name: file.stat() for file in folder.iterdir()}
    assert files
    sizes = {name: (file.st_size, file.st_blocks * 512) for name, file in files.items()}
    assert set(sizes.values()) == {(FILE_BYTES, FILE_BYTES)}, "see KINDS in serve/metrics_files.py"
    fill(shared)
    fill(Path(f"/proc/{worker.pid}/root{tmp_path}/tmp"))
    with local_http.client(base_url=on_small_disks.url, timeout=20) as client:
        for path, status in (("/livez", 200), ("/readyz", 200), ("/nothing", 404)):
            assert client.get(path).status_code == status
        for _ in range(20):
            assert client.post("/detect", content=photo).status_code == 200
            assert client.post("/detect", content=b"hello").status_code == 415
        page = client.get("/metrics").text
    assert 'seatrial_requests_total{code="415",route="/detect"} 20.0' in page
    assert {file.name for file in folder.iterdir()} == set(files)
    assert worker.is_running()


def series(client: httpx.Client) -> set[str]:
    """Names and labels of all that ``/metrics`` shows."""
    lines = client.get("/metrics").text.splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


def test_no_series_comes_of_a_path_that_a_client_makes_up(
    service: ServiceProcess, tiny_artifact: Artifact, tmp_path: Path
) -> None:
    """Every route of the whole application, with every method."""
    folder = write_service(tmp_path / "service", tiny_artifact, Deployment("m", engine="null"))
    listed = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ROUTES, folder / "deployment.toml"],
        env=environment(os.environ), capture_output=True, text=True, check=True,
    )  # fmt: skip
    paths: list[str] = json.loads(listed.stdout.splitlines()[-1])
    assert {"/detect", "/livez", "/metrics", "/model"} <= set(paths)

    def try_all(client: httpx.Client, word: str) -> None:
        for path in paths:
            for tried in (path, f"{path}/", f"{path}/{word}", f"{path}{word}", f"{path}?{word}=1"):
                for method in METHODS:
                    given: dict[str, Any] = {"headers": {"Host": word, "User-Agent": word}}
                    assert client.request(method, tried, **given).status_code < 500

    with local_http.client(base_url=service.url, timeout=20) as client:
        try_all(client, "zq1")
        before = series(client)
        try_all(client, "%7aq2zq3")
        assert series(client) == before
        assert not any("zq" in one for one in before)
