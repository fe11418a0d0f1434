"""The end of real services: with engines that hang, and behind a balancer."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

import local_http
from seatrial.deployment import CoreLayout, Limits
from seatrial.serve.address import free_port
from seatrial.serve.process import ServiceProcess
from seatrial.serve.runtimes.draining import Drain

Start = Callable[..., ServiceProcess]
Until = Callable[[Callable[[], Any]], Any]
HOST = "127.0.0.1"
DRAIN_S = 2
ONE_LANE = CoreLayout(1, 1, 1, wide=False)

pytestmark = [pytest.mark.usefixtures("time_limit"), pytest.mark.slow]

# The null engine, which hangs once a file is there. What ctypes calls keeps Python's lock: no other
# thread of the process runs, and no handler of a signal.
HANGS = """
import ctypes, os, time
from pathlib import Path
import seatrial.engines.null
import seatrial.serve.watchdog

infer = seatrial.engines.null.NullLane.infer

def hang(self, feeds):
    if Path("hang").exists():
        {hang}
    return infer(self, feeds)

seatrial.engines.null.NullLane.infer = hang
"""
SLEEPS = HANGS.format(hang="time.sleep(3600)")
BLOCKS = HANGS.format(hang="ctypes.PyDLL(None).sleep(3600)")
CANNOT_RENEW = """
del seatrial.engines.null.NullEngine.renew
seatrial.serve.watchdog.LEAST_S = 0.5
"""


def family(service: ServiceProcess) -> list[psutil.Process]:
    parent = psutil.Process(service.process.pid)
    return [parent, *parent.children(recursive=True)]


def folder(service: ServiceProcess) -> Path:
    return Path(psutil.Process(service.process.pid).children()[0].cwd())


def post_in_background(service: ServiceProcess, photo: bytes, pool: ThreadPoolExecutor) -> Any:
    def post() -> int:
        with contextlib.suppress(httpx.TransportError):
            return local_http.post(f"{service.url}/detect", content=photo, timeout=60).status_code
        return 0

    return pool.submit(post)


@pytest.mark.parametrize("code", [SLEEPS, BLOCKS], ids=["sleeps", "keeps Python's lock"])
def test_a_service_whose_engine_hangs_ends_after_its_drain(
    start_service: Start, photo: bytes, until: Until, code: str
) -> None:
    limits = Limits(drain_s=DRAIN_S, deadline_s=0.5)
    with (
        start_service(engine="null", limits=limits, code=code) as service,
        ThreadPoolExecutor(1) as pool,
    ):
        members = family(service)
        (folder(service) / "hang").touch()
        answer = post_in_background(service, photo, pool)
        if code == SLEEPS:
            assert answer.result() == 504
        else:
            (worker,) = members[1:]
            until(lambda: worker.status() == psutil.STATUS_SLEEPING and worker.num_threads() > 2)
            time.sleep(0.3)  # its request is with the engine then, which no probe can tell
        service.process.send_signal(signal.SIGTERM)
        service.process.wait(30)
        assert not any(p.is_running() and p.status() != "zombie" for p in members)


def test_a_process_whose_engine_cannot_be_mended_ends_and_another_one_serves(
    start_service: Start, photo: bytes, until: Until
) -> None:
    with (
        start_service(engine="null", layout=ONE_LANE, code=SLEEPS + CANNOT_RENEW) as service,
        ThreadPoolExecutor(1) as pool,
    ):
        (first,) = family(service)[1:]
        hang = folder(service) / "hang"
        hang.touch()
        assert post_in_background(service, photo, pool).result() in (500, 504)
        hang.unlink()
        until(lambda: not first.is_running() or first.status() == psutil.STATUS_ZOMBIE)

        def answered() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return local_http.post(f"{service.url}/detect", content=photo).status_code == 200
            return False

        until(answered)
        assert "seatrial_worker_deaths_total 1.0" in local_http.get(f"{service.url}/metrics").text
        log = service._log.read_text()
    assert "error: no lane of the engine works: this process ends" in log
    assert f"error: server process {first.pid} ended with code 6: another one is started" in log


def test_readiness_ends_before_the_service_does(start_service: Start, photo: bytes) -> None:
    limits = Limits(drain_s=20)
    with (
        start_service(engine="null", limits=limits, drain_notice_s=3.0) as service,
        local_http.client(base_url=service.url, timeout=20) as client,
    ):
        assert "connection" not in client.get("/readyz").headers
        service.process.send_signal(signal.SIGTERM)
        while (ready := client.get("/readyz")).status_code == 200:
            pass
        assert (ready.status_code, ready.text) == (503, "the service ends\n")
        assert ready.headers["connection"] == "close"
        # Alive, and it serves whoever has not noticed yet, on new connections too.
        assert local_http.get(f"{service.url}/livez").status_code == 200
        answer = local_http.post(f"{service.url}/detect", content=photo)
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert service.process.wait(30) == 0


CONFIGURATION = """
defaults
    mode http
    timeout connect 1s
    timeout client 30s
    timeout server 30s
    retries 2
    option redispatch
    option httpchk GET /readyz
frontend entry
    bind {host}:{port}
    default_backend services
backend services
    balance roundrobin
    default-server check inter 200ms fall 1 rise 1
    server a {host}:{a}
    server b {host}:{b}
"""


@contextlib.contextmanager
def balanced(port: int, ports: tuple[int, int], tmp_path: Path) -> Iterator[str]:
    """HAProxy before two services."""
    haproxy = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if haproxy is None:
        pytest.skip("haproxy is not installed: apt install haproxy")
    file = tmp_path / "haproxy.cfg"
    file.write_text(CONFIGURATION.format(host=HOST, port=port, a=ports[0], b=ports[1]))
    with subprocess.Popen([haproxy, "-db", "-f", file], stderr=subprocess.DEVNULL) as process:
        try:
            yield f"http://{HOST}:{port}"
        finally:
            process.kill()


def test_no_request_fails_while_two_services_are_restarted_behind_a_balancer(
    start_service: Start, photo: bytes, tmp_path: Path, until: Until
) -> None:
    first = free_port(HOST)
    ports = first, free_port(HOST, (first,))
    failures: list[str] = []
    answers = [0]
    stop = threading.Event()

    def start(port: int) -> ServiceProcess:
        return start_service(engine="null", port=port, layout=ONE_LANE, drain_notice_s=1.0)

    def load(address: str, keep: bool) -> None:
        client = local_http.client(base_url=address, timeout=30)
        while not stop.is_set():
            try:
                response = client.post("/detect", content=photo)
                if response.status_code != 200:
                    failures.append(f"{response.status_code} {response.text[:200]}")
                answers[0] += 1
            except httpx.TransportError as error:
                failures.append(repr(error))
            if not keep:
                client.close()
                client = local_http.client(base_url=address, timeout=30)
            time.sleep(0.05)  # the services that start need the cores too
        client.close()

    with contextlib.ExitStack() as stack:
        started = [start(port) for port in ports]  # both at a time
        for service in started:
            stack.callback(service.stop)
            service.wait_ready()
        first, second = started
        address = stack.enter_context(balanced(free_port(HOST), ports, tmp_path))
        until(lambda: answers_once(address))
        pool = stack.enter_context(ThreadPoolExecutor(2))
        stack.callback(stop.set)
        for keep in (True, False):
            pool.submit(load, address, keep)
        until(lambda: all(requests_of(port) > 5 for port in ports))
        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(60) == 0
        stack.enter_context(start(ports[0]))
        # As an orchestrator does: the next one ends when this one gets requests.
        until(lambda: requests_of(ports[0]) > 5)
        second.process.send_signal(signal.SIGTERM)
        assert second.process.wait(60) == 0
        before = answers[0]
        until(lambda: answers[0] > before + 20)
        stop.set()
        pool.shutdown()
    assert failures == []


def answers_once(address: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return local_http.get(f"{address}/readyz").status_code == 200
    return False


def requests_of(port: int) -> float:
    page = local_http.get(f"http://{HOST}:{port}/metrics").text
    name = 'seatrial_requests_total{code="200",route="/detect"} '
    return float(page.partition(name)[2].partition("\n")[0] or 0)


def test_connections_after_the_notice_are_refused_and_not_left_waiting(
    start_service: Start, photo: bytes
) -> None:
    """While a long request is answered, nobody else waits for a service that is about to end."""
    limits = Limits(drain_s=20)
    with start_service(engine="null", limits=limits, layout=CoreLayout(workers=2)) as service:
        port = int(service.url.rpartition(":")[2])
        head = f"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: {len(photo)}\r\n"
        with socket.create_connection((HOST, port), timeout=20) as slow:
            slow.sendall((head + "Expect: 100-continue\r\n\r\n").encode())
            assert slow.recv(100).startswith(b"HTTP/1.1 100")
            service.process.send_signal(signal.SIGTERM)
            give_up = time.monotonic() + 20
            while time.monotonic() < give_up:
                try:
                    socket.create_connection((HOST, port), timeout=5).close()
                except ConnectionRefusedError:
                    break
                time.sleep(0.01)
            else:
                pytest.fail("it still takes connections")
            assert service.process.poll() is None
            slow.sendall(photo)
            assert slow.recv(1000).startswith(b"HTTP/1.1 200")


STUCK_LOOP = """
import asyncio, os, signal, sys, time
from types import SimpleNamespace
from seatrial.serve.health import Health
from seatrial.serve.runtimes.draining import Drain

signal.signal(signal.SIGTERM, lambda *given: None)  # the server's own


async def main():
    health = Health(lambda: 1)
    health.failure = sys.argv[1]
    Drain(0.1, 0.2).listen(SimpleNamespace(health=health, running=True))
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(600)


asyncio.run(main())
"""


@pytest.mark.parametrize(("failure", "code"), [("", 0), ("no lane works", 6)])
def test_a_process_whose_event_loop_is_stuck_ends_by_itself(failure: str, code: int) -> None:
    """Where no supervisor is there to kill it."""
    done = subprocess.run(
        [sys.executable, "-c", STUCK_LOOP, failure],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == code
    assert done.stderr == "warning: requests that still run are left behind\n"


def test_the_notice_is_a_part_of_the_drain() -> None:
    assert Drain(1.0, 5.0).wait_s == 4.0
    assert Drain(0.0, 5.0).wait_s == 5.0
    assert Drain(9.0, 5.0).wait_s == 0.1  # a moment for what is nearly answered
