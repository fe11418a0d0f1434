from __future__ import annotations

import socket

import psutil

from seatrial.system.processes import find_service


def test_service_is_found_by_its_port(detector):
    service = detector()
    found = find_service(service.port, local=True)
    assert [process.pid for process in found.members] == [service.process.pid]
    assert found.unknown == ""


def test_pre_fork_service_is_its_arbiter_with_all_workers(detector):
    service = detector(workers=2)
    arbiter = psutil.Process(service.process.pid)
    children = {child.pid for child in arbiter.children()}
    found = {process.pid for process in find_service(service.port, local=True).members}
    assert len(children) == 2
    # This process is a parent of the arbiter and does not hold the socket.
    assert found == {arbiter.pid} | children


def test_why_a_service_is_not_found():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert "process of the client" in find_service(port, local=True).unknown
    assert f"port {port}" in find_service(port, local=True).unknown
    assert "another machine" in find_service(port, local=False).unknown
