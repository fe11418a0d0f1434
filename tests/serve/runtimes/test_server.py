"""The server of a process: what it does where the service does not start."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import uvicorn

import local_http
from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Limits
from seatrial.serve.process import ServiceProcess
from seatrial.serve.runtimes import server
from seatrial.serve.service_folder import environment, write_service

SLOW = """
import time
import seatrial.engines.null

infer = seatrial.engines.null.NullLane.infer
seatrial.engines.null.NullLane.infer = lambda self, feeds: (
    time.sleep(3600) if len(feeds) and Path("slow").exists() else infer(self, feeds)
)
"""
FAILS = """
import socket, sys
from pathlib import Path
from seatrial.serve.runtimes.served import Served
from seatrial.serve.runtimes.server import serve

served = Served(Path(sys.argv[1]))
served.start = lambda: 1 // 0


class Elsewhere(socket.socket):
    # Says alone that others reach it.

    def getsockname(self):
        return "192.0.2.1", 3000


with Elsewhere() as listener:
    listener.bind(("127.0.0.1", 0))
    serve(served, listener, on_ready=lambda: print("ready"))
"""


@pytest.mark.slow
def test_a_request_that_is_cut_off_by_the_drain_gets_the_documented_error(
    start_service: Callable[..., ServiceProcess], photo: bytes, until: Callable[..., Any]
) -> None:
    limits = Limits(drain_s=2, deadline_s=30.0)
    with start_service(engine="null", limits=limits, drain_notice_s=0.5, code=SLOW) as service:
        folder = Path(psutil.Process(service.process.pid).children()[0].cwd())
        (folder / "slow").touch()
        with concurrent.futures.ThreadPoolExecutor() as pool:
            sent = pool.submit(
                httpx.post, f"{service.url}/detect", content=photo, timeout=60,
                headers={"X-Request-Id": "cut-off"},
            )  # fmt: skip
            busy = "seatrial_lanes_busy 1.0"
            until(lambda: busy in local_http.get(f"{service.url}/metrics").text)
            service.process.send_signal(signal.SIGTERM)
            answer = sent.result()
        assert answer.status_code == 503
        error = answer.json()["error"]
        assert (error["code"], error["reason"]) == ("Overloaded", "drain")
        assert error["request_id"] == "cut-off"
        assert int(answer.headers["retry-after"]) >= 1
        assert service.process.wait(20) == 0


def test_a_service_that_does_not_start_is_never_ready(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    deployment = Deployment("m", engine="null", layout=CoreLayout(workers=1))
    folder = write_service(tmp_path / "service", tiny_artifact, deployment)
    done = subprocess.run(
        [sys.executable, "-c", FAILS, folder / "deployment.toml"],
        env={k: v for k, v in environment(os.environ).items() if k != "SEATRIAL_SERVER_TOKEN"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "ready" not in done.stdout
    assert "ZeroDivisionError" in done.stderr
    assert done.stderr.startswith("warning: the service listens on 192.0.2.1 and needs no token")


@pytest.mark.parametrize("told", [False, True])
def test_a_server_looks_only_where_its_life_is_to_be_told_and_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    """An idle service wakes up for nothing else."""
    looks: list[int] = []
    enough = 3 if told else 1

    async def tell() -> None:
        """Tell the service manager."""

    async def look(self: uvicorn.Server, counter: int) -> bool:
        looks.append(counter)
        if len(looks) == enough:
            timer = threading.Timer(0.1, self.handle_exit, (signal.SIGTERM, None))
            timer.start()
            monkeypatch.setattr(server, "TICK_S", 3600.0)
        return len(looks) > enough and self.should_exit

    async def run() -> None:
        served: Any = None
        async with asyncio.timeout(60):
            config = uvicorn.Config("", callback_notify=tell if told else None)
            await server._Server(config, served, lambda: None).main_loop()

    assert server.TICK_S == 1.0
    monkeypatch.setattr(server._Server, "on_tick", look)
    monkeypatch.setattr(server, "TICK_S", 0.01)
    asyncio.run(run())
    assert looks == [0] * (enough + 1)  # what is due at a multiple of ten
