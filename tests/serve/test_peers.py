"""Connections go to the process that has fewest, and none to one that does not take them."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest

import local_http
from seatrial.deployment import CoreLayout
from seatrial.serve import peers as module
from seatrial.serve.peers import OPEN, PID, Peers

Until = Callable[[Callable[[], Any]], Any]


class Given:
    """A connection as the loop has it: of its facts, the socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def get_extra_info(self, name: str) -> Any:
        return {"socket": self.connection}.get(name)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


def given(peers: Peers, connections: int) -> bool:
    with socket.socket() as connection:
        return peers.give(Given(connection), connections)  # type: ignore[arg-type]


def test_a_connection_goes_to_the_process_that_has_two_fewer(tmp_path: Path) -> None:
    async def test() -> None:
        taken: list[socket.socket] = []
        all_here = asyncio.Event()

        async def take(connection: socket.socket) -> None:
            taken.append(connection)
            second.has(len(taken))
            if len(taken) == 4:
                all_here.set()

        first = Peers(tmp_path, 0, 3, take)
        assert not given(first, 9)  # it is alone
        second = Peers(tmp_path, 1, 3, take)
        mine = 0
        for _ in range(8):  # all at once: what is on its way counts
            if not given(first, mine):
                mine += 1
        await all_here.wait()
        assert (mine, len(taken)) == (4, 4)
        await asyncio.sleep(0)
        assert not given(first, 4)
        assert given(first, 5)
        second.close()  # what was given before is taken
        assert len(taken) + len(second._tasks) == 5
        await asyncio.gather(*second._tasks)
        assert not given(first, 100)
        first.close()
        first.close()
        assert sorted(os.listdir(tmp_path)) == ["connections"]
        for one in taken:
            one.close()

    run(test())


def test_a_process_that_does_not_take_gets_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        taken: list[socket.socket] = []

        async def take(connection: socket.socket) -> None:
            taken.append(connection)

        first, second = Peers(tmp_path, 0, 2, take), Peers(tmp_path, 1, 2, take)
        monkeypatch.setattr(module, "STUCK_S", 0.0)
        assert given(first, 9)
        time.sleep(0.001)
        assert not given(first, 9)
        while not taken:
            await asyncio.sleep(0)
        await asyncio.gather(*second._tasks)
        assert given(first, 9)
        first.close()
        second.close()
        await asyncio.gather(*second._tasks)
        for one in taken:
            one.close()

    run(test())


def test_a_process_in_the_place_of_another_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its predecessor was given, and never took, is not on its way."""

    async def test() -> None:
        async def take(connection: socket.socket) -> None:
            connection.close()

        monkeypatch.setattr(module, "STUCK_S", 0.0)
        first, second = Peers(tmp_path, 0, 2, take), Peers(tmp_path, 1, 2, take)
        assert given(first, 9)
        second.close()
        await asyncio.gather(*second._tasks)
        assert not given(first, 9)
        third = Peers(tmp_path, 1, 2, take)
        time.sleep(0.001)
        assert given(first, 9)
        first.close()
        third.close()
        await asyncio.gather(*third._tasks)

    run(test())


def test_a_process_that_had_no_descriptor_left_gets_more_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel closes what is given then: it is on its way no more."""

    async def test() -> None:
        async def take(connection: socket.socket) -> None:
            raise AssertionError("there is no descriptor for it")

        first, second = Peers(tmp_path, 0, 2, take), Peers(tmp_path, 1, 2, take)
        monkeypatch.setattr(module, "STUCK_S", 0.0)
        assert given(first, 9)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            second._receive()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert not second._tasks
        assert given(first, 9)
        for one in (first, second):  # without what is under way
            one._loop.remove_reader(one._socket)
            one._socket.close()

    run(test())


def test_a_process_that_is_stopped_or_dead_gets_none(tmp_path: Path) -> None:
    async def test() -> None:
        async def take(connection: socket.socket) -> None:
            connection.close()

        first, second = Peers(tmp_path, 0, 2, take), Peers(tmp_path, 1, 2, take)
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        second._memory[1 * second._row + PID] = other.pid
        assert given(first, 2)
        psutil.Process(other.pid).suspend()
        while psutil.Process(other.pid).status() != psutil.STATUS_STOPPED:
            time.sleep(0.001)
        assert not given(first, 9)
        other.kill()
        other.wait()
        assert not given(first, 9)
        assert second._memory[second._row + OPEN] == 0
        first.close()
        second.close()
        await asyncio.gather(*second._tasks)

    run(test())


@pytest.mark.slow
@pytest.mark.usefixtures("time_limit")
def test_clients_that_connect_together_are_shared_among_processes(
    start_service: Callable[..., Any], photo: bytes, until: Until
) -> None:
    """As many as lanes or more: else one process refuses what the other has time for."""
    with start_service(engine="null", layout=CoreLayout(workers=2)) as service:
        port = int(service.url.rpartition(":")[2])
        workers = psutil.Process(service.process.pid).children()

        def counts() -> list[int]:
            return sorted(
                sum(
                    one.status == psutil.CONN_ESTABLISHED and one.laddr.port == port
                    for one in worker.net_connections("tcp")
                )
                for worker in workers
            )

        # The service is ready when the first of them is.
        until(lambda: all((Path(_folder(worker)) / f"connections-{n}").is_socket()
                          for n, worker in enumerate(workers)))  # fmt: skip
        until(lambda: counts() == [0, 0])
        clients = [local_http.client(base_url=service.url, timeout=20) for _ in range(8)]
        try:
            for client in clients:
                assert client.post("/detect", content=photo).status_code == 200
            assert counts() == [4, 4]
            for client in clients:
                assert client.post("/detect", content=photo).status_code == 200
            assert counts() == [4, 4]
        finally:
            for client in clients:
                client.close()


def _folder(worker: psutil.Process) -> str:
    return worker.environ()["PROMETHEUS_MULTIPROC_DIR"]
