from __future__ import annotations

import os
import platform

import psutil

from seatrial.bench.environment import describe_environment
from seatrial.system.processes import ServiceProcesses, find_service


def test_the_processes_of_a_service_are_described(detector):
    service = detector(workers=1)
    found = describe_environment(find_service(service.port, local=True), local=True)
    assert found.local
    process = psutil.Process(service.process.pid)
    assert len(found.processes) == 2
    assert {row.name for row in found.processes} == {process.name()}
    assert all(row.threads >= 1 for row in found.processes)
    assert found.processes[0].affinity == tuple(process.cpu_affinity())


def test_a_process_that_has_ended_is_left_out(detector):
    service = detector()
    members = find_service(service.port, local=True)
    service.process.kill()
    service.process.wait()
    assert describe_environment(members, local=True).processes == ()


def test_the_machine_and_the_client_are_described(monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (3.25, 2.0, 1.0))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5, 3} if pid == 0 else {0})
    found = describe_environment(ServiceProcesses((), "elsewhere"), local=False)
    assert not found.local
    assert found.affinity == (3, 5)  # of this process
    assert found.memory_bytes == psutil.virtual_memory().total
    assert found.versions["python"] == platform.python_version()
    assert found.versions.keys() >= {"seatrial", "httptools", "uvloop"}
    assert found.load_1min == 3.25  # of the last minute, not of five or fifteen
