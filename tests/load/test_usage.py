from __future__ import annotations

import os
import socket
import time
import urllib.request

import psutil
import pytest

from seatrial.load.usage import UsageMeter
from seatrial.system.processes import find_service, with_descendants


def settle(service, seconds):
    """Let the service burn CPU on pictures for a while, one at a time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        request = urllib.request.Request(f"{service.url}/detect", data=b"\xff\xd8", method="POST")
        urllib.request.urlopen(request, timeout=10).read()


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


@pytest.mark.parametrize("workers", [0, 1])
def test_cpu_of_the_service_is_counted_wherever_it_is_spent(detector, workers):
    service = detector(hold_ms=20, burn=1, workers=workers)
    settle(service, 0.2)
    meter = UsageMeter(find_service(service.port, local=True), usable_cores=4)
    meter.opened()
    before = service_cpu_s(service)
    settle(service, 1.0)
    spent = service_cpu_s(service) - before
    meter.closed()
    usage = meter.usage()
    assert spent > 0.2
    assert usage.server.cpu_s == pytest.approx(spent, abs=0.05)
    assert usage.server.utilisation == pytest.approx(usage.server.busy_cores / 4)
    assert usage.server.processes == 1 + workers
    assert usage.client.cpu_s < spent


def service_cpu_s(service):
    tree = with_descendants([psutil.Process(service.process.pid)])
    return sum(sum(process.cpu_times()[:2]) for process in tree)


def test_memory_is_the_sum_over_the_tree_and_its_peak(detector):
    service = detector(workers=1)
    found = find_service(service.port, local=True)
    meter = UsageMeter(found, usable_cores=2)
    meter.opened()
    meter.tick()
    meter.closed()
    server = meter.usage().server
    rss = sum(process.memory_info().rss for process in found.members)
    assert server.rss_peak_bytes == pytest.approx(rss, rel=0.1)
    # The fork shares pages, which only the proportional size counts once.
    assert 0 < server.uss_bytes <= server.pss_bytes < server.rss_peak_bytes


def test_a_process_that_ends_is_told(detector):
    service = detector(workers=2)
    found = find_service(service.port, local=True)
    meter = UsageMeter(found, usable_cores=2)
    meter.opened()
    # The arbiter waits for its first child and takes note of its end.
    first = min(psutil.Process(service.process.pid).children(), key=lambda child: child.pid)
    first.kill()
    first.wait(timeout=10)
    meter.closed()
    server = meter.usage().server
    assert (server.ended, server.processes) == (1, 2)
    assert server.cpu_s >= 0.0


def test_others_on_the_machine_are_told_apart(detector):
    service, other = detector(), detector(hold_ms=20, burn=1)
    meter = UsageMeter(find_service(service.port, local=True), usable_cores=os.cpu_count())
    meter.opened()
    before = service_cpu_s(other)
    begun = time.monotonic()
    settle(other, 1.0)
    spent = service_cpu_s(other) - before
    meter.closed()
    window_s = time.monotonic() - begun
    machine = meter.usage().machine
    if machine is None:
        pytest.skip("no /proc/stat")
    assert machine.other_cores * window_s > 0.7 * spent
    assert 0.0 <= machine.steal_share <= 1.0
    assert machine.busy_cores >= machine.other_cores


def test_without_a_service_only_the_client_is_known():
    meter = UsageMeter(find_service(1, local=False), usable_cores=2)
    meter.opened()
    end = time.thread_time() + 0.2
    while time.thread_time() < end:
        pass
    meter.closed()
    usage = meter.usage()
    assert usage.server is None
    assert usage.server_unknown == "the service runs on another machine"
    assert usage.client.cpu_s == pytest.approx(0.2, abs=0.1)
    assert usage.machine is None or usage.machine.other_cores is None
