"""Processes of a service, found by the port that it listens on."""

from __future__ import annotations

import os
import socket

import psutil
import pytest

from child_processes import gone, running
from seatrial.system import processes
from seatrial.system.children import end
from seatrial.system.processes import find_service, with_descendants

# Listens; its child inherits the socket, as the workers of a pre-fork server do. Prints the ids.
SERVER = """
import os, socket, subprocess, sys
listener = socket.create_server(("127.0.0.1", 0))
listener.set_inheritable(True)
wait = "import sys; sys.stdin.readline()"
child = subprocess.Popen([sys.executable, "-c", wait], pass_fds=[listener.fileno()])
print(listener.getsockname()[1], os.getpid(), child.pid, flush=True)
sys.stdin.readline()
"""


def test_a_service_is_the_topmost_holder_of_its_port_and_all_below() -> None:
    with running(SERVER) as (_, (port, parent, child)):
        found = find_service(port, local=True)
        assert found.unknown == ""
        assert [process.pid for process in found.members] == sorted([parent, child])


# As `SERVER`; its child listens on a port of its own besides, as a worker does for gRPC.
WORKER = """
import socket, sys
own = socket.create_server(("127.0.0.1", 0))
print(own.getsockname()[1], flush=True)
sys.stdin.readline()
"""
SUPERVISOR = """
import os, socket, subprocess, sys
listener = socket.create_server(("127.0.0.1", 0))
child = subprocess.Popen(
    [sys.executable, "-c", sys.argv[1]], pass_fds=[listener.fileno()], stdout=subprocess.PIPE
)
own = child.stdout.readline().decode().strip()
print(listener.getsockname()[1], own, os.getpid(), child.pid, flush=True)
sys.stdin.readline()
"""


def test_a_port_of_a_worker_gives_the_whole_service() -> None:
    """What a service takes does not depend on the protocol that it is asked by."""
    with (
        running(SUPERVISOR, WORKER) as (_, (shared, own, parent, child)),
        running(SERVER) as (_, (another, *_)),
    ):
        assert len({shared, own, another}) == 3
        for port in (shared, own):
            found = [process.pid for process in find_service(port, local=True).members]
            assert found == sorted([parent, child])


def test_a_service_on_another_machine_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "process_iter", lambda: pytest.fail("looked"))
    found = find_service(80, local=False)
    assert (found.members, found.unknown) == ((), "the service runs on another machine")


def test_a_port_that_nobody_listens_on_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    found = find_service(port, local=True)
    assert found.members == ()
    assert f"listens on port {port}" in found.unknown


def test_a_connection_to_a_port_is_no_listener() -> None:
    with (
        running(SERVER) as (_, (port, parent, child)),
        socket.create_connection(("127.0.0.1", port)),
    ):
        pids = [process.pid for process in find_service(port, local=True).members]
        assert pids == sorted([parent, child])


def test_a_service_in_this_process_is_not_measured_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = find_service(listener.getsockname()[1], local=True)
    assert (found.members, found.unknown) == ((), "the service runs in the process of the client")


def test_a_proxy_is_not_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_name", lambda process: "docker-proxy")
    with running(SERVER) as (_, (port, *_)):
        found = find_service(port, local=True)
    assert found.members == ()
    assert found.unknown == f"docker-proxy holds port {port}; the service is behind it"


def test_descendants_are_counted_once_and_the_dead_left_out() -> None:
    with running(SERVER) as (process, (_, parent, child)):
        roots = [psutil.Process(child), psutil.Process(parent)]
        assert [p.pid for p in with_descendants(roots)] == sorted([parent, child])
        end(process, grace_s=60, group=True)
        assert gone(child)
        assert with_descendants([psutil.Process(os.getpid()), *roots])[0].pid is not None
        assert parent not in [p.pid for p in with_descendants(roots)]
