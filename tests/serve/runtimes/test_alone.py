"""One server process without a supervisor: what the service manager is told, signals, PID 1."""

from __future__ import annotations

import email.utils
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import psutil
import pytest

import local_http
from child_processes import running
from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Limits, Server
from seatrial.errors import InvalidConfig
from seatrial.serve.address import free_port, with_port
from seatrial.serve.control import ask
from seatrial.serve.process import ServiceProcess
from seatrial.serve.runtimes.alone import one_process
from seatrial.serve.service_folder import environment, write_service

Start = Callable[..., ServiceProcess]
Until = Callable[[Callable[[], Any]], Any]
HOST = "127.0.0.1"
ENDED = "SIGTERM: the service ends\nthe service has ended\n"

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A service manager's socket; its path is in ``tmp_path``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(60)
        yield listening


@pytest.fixture(scope="module")
def alone(start_service: Start) -> Iterator[ServiceProcess]:
    with start_service(engine="null", runtime="uvicorn") as running:
        yield running


def command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "seatrial.serve.runtimes.alone", str(folder / "deployment.toml")]


def test_the_manager_hears_of_the_start_the_life_and_the_end(
    start_service: Start, photo: bytes, manager: socket.socket, tmp_path: Path, until: Until
) -> None:
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000"}
    with start_service(
        engine="null", runtime="uvicorn", env=env, limits=Limits(drain_s=5), drain_notice_s=1.0
    ) as running:
        assert manager.recv(100) == b"READY=1"
        assert psutil.Process(running.process.pid).children() == []
        answer = local_http.post(f"{running.url}/detect", content=photo, timeout=20)
        assert answer.status_code == 200
        assert manager.recv(100) == b"WATCHDOG=1"
        running.process.terminate()
        while (said := manager.recv(100)) == b"WATCHDOG=1":
            pass
        assert said == b"STOPPING=1"
        ready = local_http.get(f"{running.url}/readyz")
        assert (ready.status_code, ready.text) == (503, "the service ends\n")
        assert ready.headers["connection"] == "close"
        # A balancer that has not looked yet sends on.
        assert local_http.post(f"{running.url}/detect", content=photo).status_code == 200
        assert running.process.wait(20) == 0
    log = running._log.read_text()
    assert log.splitlines() == [
        f"ready: {running.url}",
        "SIGTERM: the service ends",
        "the service has ended",
    ]


def switches(process: psutil.Process) -> int:
    """How often threads of a process waited, or were woken up."""
    tasks = Path(f"/proc/{process.pid}/task").glob("*/status")
    pattern = re.compile(r"^voluntary_ctxt_switches:\s*(\d+)", re.MULTILINE)
    return sum(int(found[1]) for one in tasks if (found := pattern.search(one.read_text())))


def test_a_service_that_has_nothing_to_do_is_not_woken(alone: ServiceProcess, until: Until) -> None:
    """All of its threads together; a connection that waits for its next request is open."""
    process = psutil.Process(alone.process.pid)
    with local_http.client(base_url=alone.url) as kept:
        assert kept.get("/livez").status_code == 200

        def is_at_rest() -> bool:  # what the answer left to do is done
            before = switches(process)
            time.sleep(3.0)
            return switches(process) - before <= 4  # the watchdog looks each two seconds

        until(is_at_rest)


def test_answers_have_the_date_of_their_second(alone: ServiceProcess, until: Until) -> None:
    """Nothing but requests has it made anew."""

    def said() -> float:
        date = local_http.get(f"{alone.url}/livez").headers["date"]
        return email.utils.parsedate_to_datetime(date).timestamp()

    first = said()
    until(lambda: said() > first)
    for _ in range(3):
        time.sleep(0.7)
        asked = time.time()
        assert asked - 2.1 <= said() <= time.time()  # of its second, or of the one before


def shown(url: str, photo: bytes) -> set[str]:
    """Names, labels, kinds and helps of the metrics after requests that make all of them."""
    for body in (photo, b"hello"):
        local_http.post(f"{url}/detect", content=body, timeout=20)
    local_http.get(f"{url}/nothing")
    page = local_http.get(f"{url}/metrics", timeout=20)
    assert page.headers["content-type"].startswith("text/plain; version=")
    # Paths of artifacts, ids of processes: no line has any.
    return {
        line if line.startswith("#") else line.rpartition(" ")[0]
        for line in page.text.splitlines()
    }  # fmt: skip


def test_both_runtimes_show_the_same_metrics(
    start_service: Start, alone: ServiceProcess, photo: bytes
) -> None:
    with start_service(engine="null") as supervised:
        there = shown(supervised.url, photo)
    here = shown(alone.url, photo)
    # The edge of the buckets that is the deadline, which follows from the time of an image.
    edge = re.compile(r'le="\d+\.\d+"')
    assert {edge.sub("", line) for line in here} == {edge.sub("", line) for line in there}
    assert 'seatrial_requests_total{code="415",route="/detect"}' in here


def test_what_cannot_start_says_why_with_the_code_of_the_error(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        server = Server(HOST, taken.getsockname()[1], runtime="uvicorn")
        deployment = Deployment("m", engine="null", server=server)
        folder = write_service(tmp_path / "service", tiny_artifact, deployment)
        ended = subprocess.run(
            command(folder), env=environment(os.environ), capture_output=True, text=True,
            check=False,
        )  # fmt: skip
    assert ended.returncode == 6
    assert ended.stderr.startswith("error: the service did not start: cannot listen on 127.0.0.1:")
    assert ended.stderr.count("\n") == 2


def test_it_is_one_process_and_takes_all_cores() -> None:
    assert one_process(Deployment("m")).layout.workers == 1
    assert one_process(Deployment("m", layout=CoreLayout(workers=1))).layout.workers == 1
    with pytest.raises(InvalidConfig, match=r"layout\.workers is 2"):
        one_process(Deployment("m", layout=CoreLayout(workers=2)))


def test_the_command_writes_sockets_alone_and_each_of_its_lines_is_json(
    tiny_artifact: Artifact, tmp_path: Path, photo: bytes
) -> None:
    port, temporary = free_port(HOST), tmp_path / "temporary"
    temporary.mkdir()
    words = ["serve", "--model", str(tiny_artifact.path), "--engine", "null", "--port", str(port)]
    words += ["--on", "uvicorn", "--log-format", "json"]
    home = {"SEATRIAL_HOME": str(tmp_path / "home"), "TMPDIR": str(temporary)}
    with subprocess.Popen(
        [sys.executable, "-m", "seatrial.cli.main", *words],
        env={**os.environ, **home},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = [json.loads(next(process.stderr)) for _ in range(3)]
        assert [row["event"] for row in said] == ["starting", "starting", "ready"]
        assert said[-1]["message"] == f"ready: http://{HOST}:{port}"
        assert local_http.post(f"http://{HOST}:{port}/detect", content=photo).status_code == 200
        (own,) = temporary.iterdir()
        sockets = {f"service-{port}.sock", f"worker-{process.pid}.sock"}
        assert {path.name for path in own.iterdir()} == sockets
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert not (tmp_path / "home").exists()
    assert list(temporary.iterdir()) == []


# The first process of a container starts a child that is left behind: its parent is then PID 1.
ORPHAN = "setsid sh -c 'sleep 0.1 & exit 0'"


@pytest.fixture
def first_process(tiny_artifact: Artifact, tmp_path: Path) -> Iterator[Callable[[], Any]]:
    """Starts the server as PID 1; gives the process outside, the server and its port."""
    alone_words = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*alone_words, "true"], check=False, capture_output=True).returncode:
        pytest.skip("a process namespace needs the rights of root")
    server = Server(HOST, free_port(HOST), drain_notice_s=0.0, runtime="uvicorn")
    deployment = Deployment("m", engine="null", server=server, limits=Limits(drain_s=2))
    folder = write_service(tmp_path / "service", tiny_artifact, deployment)
    started: list[subprocess.Popen[str]] = []

    def start() -> tuple[subprocess.Popen[str], psutil.Process]:
        outside = subprocess.Popen(
            [*alone_words, *command(folder)],
            env=environment(os.environ), stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(outside)
        give_up = time.monotonic() + 60
        while not (inside := psutil.Process(outside.pid).children()):
            assert time.monotonic() < give_up
            time.sleep(0.01)
        return outside, inside[0]

    yield start
    for outside in started:
        outside.kill()
        outside.communicate()


@pytest.mark.slow
def test_as_the_first_process_of_a_container(first_process: Any, until: Until) -> None:
    outside, inside = first_process()
    assert outside.stderr.readline().startswith("ready: ")
    namespace = ["nsenter", "-t", str(inside.pid), "-p", "-m"]
    subprocess.run([*namespace, "sh", "-c", ORPHAN], check=True)
    until(lambda: inside.children(recursive=True) == [])  # a zombie would stay
    inside.terminate()
    assert outside.wait(20) == 0


@pytest.mark.slow
def test_as_the_first_process_it_can_be_ended_before_it_is_ready(
    first_process: Any, until: Until
) -> None:
    outside, inside = first_process()
    handled = re.compile(r"^SigCgt:\s*(\w+)$", re.MULTILINE)

    def handles_sigterm() -> bool:
        found = handled.search(Path(f"/proc/{inside.pid}/status").read_text())
        return bool(found and int(found[1], 16) >> (signal.SIGTERM - 1) & 1)

    until(handles_sigterm)
    inside.terminate()
    assert outside.wait(20) == 0


# The exit that a signal raises is lost: in a destructor, or as the error of a library.
DROPPED = """
import os, signal, sys
from seatrial.errors import InvalidArtifact
from seatrial.serve.runtimes import alone, served, server

number, where, file = int(sys.argv[1]), sys.argv[2], sys.argv[3]
ERRORS = {
    "error": InvalidArtifact("does not load"),
    "system error": SystemError("returned a result with an exception set"),
}

class Dying:
    def __del__(self):
        signal.raise_signal(number)

def while_loading(self):
    Dying()
    return opened(self)

def as_an_error(self):
    try:
        signal.raise_signal(number)
    except SystemExit as error:
        raise ERRORS[where] from error

def while_starting(served, listener, **options):
    Dying()
    return serve(served, listener, **options)

opened, serve = served.Served.open, server.serve
if where == "loading":
    served.Served.open = while_loading
elif where in ERRORS:
    served.Served.open = as_an_error
else:
    server.serve = while_starting
sys.unraisablehook = lambda dropped: print("dropped", dropped.exc_type.__name__, flush=True)
alone.main(file)
"""


@pytest.mark.parametrize(
    ("where", "number", "code", "said"),
    [
        ("loading", signal.SIGTERM, 0, ENDED),
        ("error", signal.SIGINT, 130, "interrupted\n"),
        ("system error", signal.SIGTERM, 0, ENDED),
        ("starting", signal.SIGINT, 130, "interrupted\n"),
    ],
)
def test_a_signal_ends_it_though_the_exit_was_dropped(
    tiny_artifact: Artifact, tmp_path: Path, where: str, number: int, code: int, said: str
) -> None:
    server = Server(HOST, free_port(HOST), drain_notice_s=0.0, runtime="uvicorn")
    deployment = Deployment("m", engine="null", server=server)
    folder = write_service(tmp_path / "service", tiny_artifact, deployment)
    words = [str(int(number)), where, str(folder / "deployment.toml")]
    ended = subprocess.run(
        [sys.executable, "-c", DROPPED, *words],
        env=environment(os.environ), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (code, said)
    assert ended.stdout == ("" if "error" in where else "dropped SystemExit\n")


def test_a_change_of_the_token_file_is_told_once(
    tiny_artifact: Artifact, tmp_path: Path, until: Until
) -> None:
    """Requests and commands on the admin port share one set of tokens."""
    tokens, later, log = (tmp_path / name for name in ("tokens", "later", "log"))
    tokens.write_text("a" * 32)
    later.write_text("b" * 32)
    admin_port = free_port(HOST)
    server = Server(
        HOST, 0, drain_notice_s=0.0, runtime="uvicorn", token_file=str(tokens),
        admin_port=admin_port,
    )  # fmt: skip
    deployment = with_port(Deployment("m", engine="null", server=server))
    folder = write_service(tmp_path / "service", tiny_artifact, deployment)

    def statuses(token: str) -> tuple[int, int]:
        headers = {"Authorization": f"Bearer {token}"}
        answer = local_http.get(f"{running.url}/model", headers=headers)
        return answer.status_code, ask((HOST, admin_port), "GET /admin/status", token=token)[0]

    with ServiceProcess(folder, deployment, os.environ, log) as running:
        assert statuses("a" * 32) == (200, 200)
        later.replace(tokens)
        until(lambda: statuses("b" * 32) == (200, 200))
        assert statuses("a" * 32) == (401, 401)
        until(lambda: "in force" in log.read_text())
    assert log.read_text().count("1 token in force") == 1


def test_an_error_has_its_json(alone: ServiceProcess) -> None:
    answer = local_http.get(f"{alone.url}/nothing")
    assert answer.status_code == 404
    assert json.loads(answer.text)["error"]["code"] == "Http404"


def test_of_two_that_start_at_the_same_moment_one_ends_with_the_line_of_a_taken_port(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    """One that says that it is ready is the one that listens."""
    deployment = with_port(Deployment("model", engine="null", server=Server(port=0)))
    folder = write_service(tmp_path / "service", tiny_artifact, deployment)
    env = {**environment(os.environ, folder), "TMPDIR": str(tmp_path)}
    with ExitStack() as stack:
        logs = [stack.enter_context((tmp_path / name).open("w+")) for name in ("first", "second")]
        both = [subprocess.Popen(command(folder), stderr=log, env=env) for log in logs]
        for one in both:
            stack.callback(one.wait)
            stack.callback(one.terminate)
        loser = next(ended(both))
        winner = both[1 - both.index(loser)]
        assert loser.returncode == 6
        assert said_in(logs[both.index(loser)]).startswith(
            "error: the service did not start: cannot listen on "
            f"{HOST}:{deployment.server.port}: Address already in use\n"
        )
        url = f"http://{HOST}:{deployment.server.port}/readyz"
        assert local_http.get(url, timeout=60).status_code == 200  # it waits in the queue meanwhile
        assert winner.poll() is None
        assert said_in(logs[both.index(winner)]).startswith("ready: ")


def said_in(log: IO[str]) -> str:
    log.seek(0)
    return log.read()


def ended(processes: list[subprocess.Popen[bytes]]) -> Iterator[subprocess.Popen[bytes]]:
    """The processes that have ended, the first of them as soon as it has."""
    while not (gone := [one for one in processes if one.poll() is not None]):
        time.sleep(0.02)
    yield from gone


LOADING = """
import os, sys
os.environ["TMPDIR"] = sys.argv[2]  # it is killed
from seatrial.serve.runtimes import alone, served

served.Served.open = lambda self: sys.stdin.read()  # which takes as long as its end is open
print(1, flush=True)
alone.main(sys.argv[1])
"""


def test_the_port_is_taken_before_the_model_is_loaded(
    tiny_artifact: Artifact, tmp_path: Path, until: Until
) -> None:
    """Where it was only bound, another service could listen there first."""
    deployment = with_port(Deployment("model", engine="null", server=Server(port=0)))
    folder = write_service(tmp_path / "service", tiny_artifact, deployment)
    address = (HOST, deployment.server.port)

    def taken() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(address) == 0

    with running(LOADING, str(folder / "deployment.toml"), str(tmp_path)) as (process, _):
        until(taken)
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="Address already in use"):
                other.bind(address)
        assert process.poll() is None
