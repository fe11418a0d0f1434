from __future__ import annotations

import os
import time
import urllib.request
from types import SimpleNamespace

import psutil
import pytest

from child_processes import running
from seatrial.load import usage
from seatrial.load.usage import PROC_STAT, MachineTrace, UsageMeter
from seatrial.system.processes import ServiceProcesses, find_service, with_descendants


def work(service, cpu_s):
    """Let the service work on images, one at a time, until it has spent so much CPU time."""
    enough = service_cpu_s(service) + cpu_s
    while service_cpu_s(service) < enough:
        request = urllib.request.Request(f"{service.url}/detect", data=b"\xff\xd8", method="POST")
        urllib.request.urlopen(request, timeout=10).read()


@pytest.mark.parametrize("workers", [0, 1])
def test_cpu_of_the_service_is_counted_wherever_it_is_spent(detector, workers):
    service = detector(hold_ms=20, burn=1, workers=workers)
    work(service, 0.1)
    meter = UsageMeter(find_service(service.port, local=True), usable_cores=4)
    meter.opened()
    before = service_cpu_s(service)
    work(service, 0.4)
    spent = service_cpu_s(service) - before
    meter.closed()
    usage = meter.usage()
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


class Member:
    """A process of so many bytes, shared and its own; or one that cannot be read any more."""

    def __init__(self, pid, rss=0, pss=0, uss=0, error=None):
        self.pid, self.error = pid, error
        self.memory = SimpleNamespace(rss=rss, pss=pss, uss=uss)

    def cpu_times(self):
        return SimpleNamespace(user=0.5, system=0.25)

    def memory_info(self):
        if isinstance(self.error, psutil.NoSuchProcess):
            raise self.error
        return self.memory

    def memory_full_info(self):
        if self.error:
            raise self.error
        return self.memory


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (psutil.NoSuchProcess(3), (7000, 500, 300)),  # what has ended counts for nothing
        (psutil.AccessDenied(3), (7001, None, None)),  # a part would look like the whole
    ],
)
def test_memory_is_the_sum_of_what_can_be_read(monkeypatch, error, wanted):
    members = [Member(1, 3000, 200, 100), Member(2, 4000, 300, 200), Member(3, 1, error=error)]
    monkeypatch.setattr(usage, "with_descendants", lambda given: members)
    meter = UsageMeter(ServiceProcesses((psutil.Process(),)), usable_cores=2)
    meter.opened()
    meter.closed()
    server = meter.usage().server
    assert (server.rss_peak_bytes, server.pss_bytes, server.uss_bytes) == wanted


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


def test_a_process_that_ends_takes_its_time_with_it(monkeypatch):
    # Process 1 spends 5 s before the window and ends in it, 2 spends 0.5 s, 3 begins in it.
    seen = [{1: 5.0, 2: 7.0}, {1: 5.0, 2: 7.0}, {2: 7.5, 3: 0.25}]
    monkeypatch.setattr(usage, "_cpu_seconds", lambda members: seen.pop(0) if members else {})
    meter = UsageMeter(ServiceProcesses((psutil.Process(),)), usable_cores=2)
    meter.opened()
    meter.closed()
    server = meter.usage().server
    assert (server.cpu_s, server.processes, server.ended) == (0.75, 2, 1)


def test_time_counts_from_the_beginning_of_the_window_to_its_end(monkeypatch):
    wall, cpu = [1.0, 10.0, 12.5], [0.0, 3.0, 4.0]
    clock = SimpleNamespace(
        perf_counter=lambda: wall.pop(0), process_time=lambda: cpu.pop(0), perf_counter_ns=lambda: 0
    )
    monkeypatch.setattr(usage, "time", clock)
    meter = UsageMeter(find_service(1, local=False), usable_cores=2)
    meter.opened()
    meter.closed()
    assert meter.window_s == 2.5
    client = meter.usage().client
    assert (client.cpu_s, client.busy_cores) == (1.0, 0.4)


def test_others_on_the_machine_are_told_apart(detector):
    service, other = detector(), detector(hold_ms=20, burn=1)
    meter = UsageMeter(find_service(service.port, local=True), usable_cores=os.cpu_count())
    meter.opened()
    before = service_cpu_s(other)
    begun = time.monotonic()
    work(other, 0.5)
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
    before, end = time.process_time(), time.thread_time() + 0.2
    while time.thread_time() < end:
        pass
    spent = time.process_time() - before
    meter.closed()
    usage = meter.usage()
    assert usage.server is None
    assert usage.server_unknown == "the service runs on another machine"
    assert spent <= usage.client.cpu_s < spent + 0.1
    assert usage.client.busy_cores == pytest.approx(usage.client.cpu_s / meter.window_s)
    if not PROC_STAT.is_file():
        pytest.skip("no /proc/stat")
    assert usage.machine.other_cores is None
    assert usage.machine.busy_cores > 0


@pytest.fixture
def ticks(monkeypatch, tmp_path):
    """Sets what ``/proc/stat`` says: user, nice, system, idle, iowait, irq, softirq, steal."""
    file = tmp_path / "stat"
    monkeypatch.setattr("seatrial.load.usage.PROC_STAT", file)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    return lambda *values: file.write_text(f"cpu  {' '.join(map(str, values))}\ncpu0 1 2\n")


def test_busy_and_stolen_time_follow_from_the_ticks(ticks):
    ticks(*[100] * 8)
    meter = UsageMeter(find_service(1, local=False), usable_cores=4)
    meter.opened()
    # 30 + 10 + 20 + 5 + 5 of 200 ticks are work, 10 are stolen.
    ticks(130, 110, 120, 200, 120, 105, 105, 110)
    meter.closed()
    machine = meter.usage().machine
    assert machine.busy_cores == pytest.approx(70 / 200 * 4)
    assert machine.steal_share == pytest.approx(10 / 200)


def test_without_ticks_the_machine_is_not_known(ticks):
    ticks(*[100] * 8)
    meter = UsageMeter(find_service(1, local=False), usable_cores=4)
    meter.opened()
    meter.closed()
    assert meter.usage().machine is None


def test_others_are_what_neither_service_nor_client_used(ticks, detector):
    ticks(*[100] * 8, 0, 0)
    meter = UsageMeter(find_service(detector().port, local=True), usable_cores=4)
    meter.opened()
    ticks(200, *[100] * 7, 0, 0)  # all ticks are work: four busy cores
    meter.closed()
    usage = meter.usage()
    assert usage.machine.busy_cores == 4.0
    rest = 4.0 - usage.server.busy_cores - usage.client.busy_cores
    assert usage.machine.other_cores == pytest.approx(max(0.0, rest))


def test_fewer_columns_than_proc_5_names_are_not_read(ticks):
    ticks(*[100] * 7)
    meter = UsageMeter(find_service(1, local=False), usable_cores=4)
    meter.opened()
    ticks(*[200] * 7)
    meter.closed()
    assert meter.usage().machine is None


def test_steal_between_two_times_is_a_share_of_what_passed_between_them():
    trace = MachineTrace()
    assert trace.steal_share(0, 10) is None
    # user, nice, system, idle, iowait, irq, softirq, steal, guest
    trace.add(0, (100, 0, 0, 100, 0, 0, 0, 10, 7), 0)
    trace.add(10, (150, 0, 0, 140, 0, 0, 0, 20, 9), 0)
    trace.add(20, (250, 0, 0, 140, 0, 0, 0, 20, 9), 0)
    assert trace.steal_share(0, 10) == pytest.approx(0.1)
    assert trace.steal_share(10, 20) == 0.0
    assert trace.steal_share(5, 15) == pytest.approx(5 / 100)
    assert trace.steal_share(20, 30) is None  # nothing is known after the last row
    assert trace.rss_at(5) is None


def test_a_machine_without_its_own_account_of_steal_has_none():
    trace = MachineTrace()
    trace.add(0, (), 100)
    trace.add(10, (), 300)
    assert trace.steal_share(0, 10) is None
    assert trace.rss_at(5) == 200


def test_the_trace_has_a_row_for_each_tick_of_the_load():
    meter = UsageMeter(ServiceProcesses((psutil.Process(),)), usable_cores=2)
    meter.tick()
    meter.opened()
    meter.closed()
    assert len(meter.trace.at_ns) == 3
    assert meter.trace.at_ns == sorted(meter.trace.at_ns)
    assert meter.trace.rss_at(meter.trace.at_ns[1]) > 2**20


def test_further_processes_of_the_client_count_as_the_client():
    code = "import time\nprint(1, flush=True)\nwhile time.process_time() < 0.5: pass\ninput()"
    meter = UsageMeter(find_service(1, local=False), usable_cores=4)
    with running(code) as (process, _):
        meter.clients([process.pid])
        meter.opened()
        before_s = time.process_time()
        child = psutil.Process(process.pid)
        while sum(child.cpu_times()[:2]) < 0.45:
            pass
        own_s = time.process_time() - before_s
        meter.closed()
    assert meter.usage().client.cpu_s > own_s + 0.3


def test_a_process_of_the_client_that_has_ended_is_left_out():
    with running("print(1)") as (process, _):
        process.wait()
    meter = UsageMeter(find_service(1, local=False), usable_cores=4)
    meter.clients([process.pid])
    meter.opened()
    meter.closed()
    assert meter.usage().client.cpu_s >= 0
