"""Use of the machine by a load: cores and memory of service, client and everything else."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import psutil

from seatrial.system.processes import ServiceProcesses, with_descendants

PROC_STAT = Path("/proc/stat")
STEAL = 7  # of the numbers of its first line


class ServerUsage(msgspec.Struct, frozen=True):
    """The service's whole process tree over the measured window.

    Attributes:
        cpu_s: User and system time, core-seconds.
        busy_cores: `cpu_s` over the length of the window.
        utilisation: `busy_cores` over the usable cores of the machine, 0-1.
        rss_peak_bytes: Largest sum of resident sets; shared pages count once per process.
        pss_bytes: Proportional set size at the end: shared pages count once. None where it
            may not be read.
        uss_bytes: Unshared part of `pss_bytes`.
        processes: Number of living members of the tree at the end.
        ended: Number of members that ended within the window; their time in it is not counted.
    """

    cpu_s: float
    busy_cores: float
    utilisation: float
    rss_peak_bytes: int
    pss_bytes: int | None
    uss_bytes: int | None
    processes: int
    ended: int


class ClientUsage(msgspec.Struct, frozen=True):
    """CPU of the client's processes, of which this one is one, over the window.

    Attributes:
        cpu_s: CPU time, core-seconds.
        busy_cores: `cpu_s` over the window's length.
    """

    cpu_s: float
    busy_cores: float


class MachineUsage(msgspec.Struct, frozen=True):
    """The machine over the window, from ``/proc/stat`` (proc(5)).

    Attributes:
        busy_cores: Cores busy with any work: user, nice, system, interrupts.
        steal_share: Share of the cores' time that the hypervisor gave to other machines, 0-1.
        other_cores: Cores busy with neither service nor client; None where the service's part is
            not known.
        load_1min: Load average at the end of the window.
    """

    busy_cores: float
    steal_share: float
    other_cores: float | None
    load_1min: float


class Usage(msgspec.Struct, frozen=True):
    """Cost of one measured window.

    Attributes:
        server: CPU and memory of the service; None where it cannot be seen.
        server_unknown: Why `server` is None; empty where it is known.
        client: CPU of the client.
        machine: All that the machine did; None where it does not say.
    """

    server: ServerUsage | None
    server_unknown: str
    client: ClientUsage
    machine: MachineUsage | None


class MachineTrace:
    """The machine over the time of a load: a row about twice a second.

    Attributes:
        at_ns: Time of each row, `perf_counter_ns`.
        ticks: Ticks of the cores since the start of the machine: stolen, all.
        rss_bytes: Resident memory of the service; 0 where it is not known.
    """

    def __init__(self) -> None:
        self.at_ns: list[int] = []
        self.ticks: list[tuple[int, int]] = []
        self.rss_bytes: list[int] = []

    def add(self, at_ns: int, ticks: Sequence[int], rss_bytes: int) -> None:
        """Note a row.

        Args:
            at_ns: Its time.
            ticks: First line of ``/proc/stat``; empty where there is none.
            rss_bytes: Resident memory of the service.
        """
        self.at_ns.append(at_ns)
        self.ticks.append((ticks[STEAL], sum(ticks[: STEAL + 1])) if len(ticks) > STEAL else (0, 0))
        self.rss_bytes.append(rss_bytes)

    def steal_share(self, begin_ns: int, end_ns: int) -> float | None:
        """Share of the cores' time that the hypervisor took between two times; None: not known."""
        if not self.at_ns:
            return None
        (stolen_0, stolen_1), (all_0, all_1) = (
            np.interp([begin_ns, end_ns], self.at_ns, column)
            for column in zip(*self.ticks, strict=True)
        )
        return float((stolen_1 - stolen_0) / (all_1 - all_0)) if all_1 > all_0 else None

    def rss_at(self, at_ns: int) -> int | None:
        """Resident memory of the service at a time, bytes; None where it is not known."""
        if not any(self.rss_bytes):
            return None
        return round(float(np.interp(at_ns, self.at_ns, self.rss_bytes)))


class _Snapshot(msgspec.Struct, frozen=True):
    at_s: float
    client_cpu_s: float
    server_cpu_s: dict[int, float]
    machine_ticks: tuple[int, ...]


class UsageMeter:
    """Observer of a load (`load.window.Observer`): reads CPU at begin and end, memory in between.

    Attributes:
        trace: The machine over the time of the load.
    """

    def __init__(self, service: ServiceProcesses, usable_cores: int) -> None:
        self._service = service
        self._cores = usable_cores
        self._members = with_descendants(service.members)
        self._clients: tuple[psutil.Process, ...] = ()
        self._begin = self._end = self._snapshot()
        self._rss_peak = 0
        self._measuring = False
        self.trace = MachineTrace()

    def clients(self, pids: Iterable[int]) -> None:
        """Note further processes of the client, before the window (`ClientsObserver`)."""
        self._clients = tuple(psutil.Process(pid) for pid in pids if psutil.pid_exists(pid))

    def opened(self) -> None:
        """The measured window begins."""
        self._rss_peak = 0
        self._begin = self._snapshot()
        self._measuring = True
        self.tick()

    def tick(self) -> None:
        """Sample memory and the machine."""
        rss_bytes = _rss_bytes(self._members)
        self.trace.add(time.perf_counter_ns(), _machine_ticks(PROC_STAT), rss_bytes)
        if self._measuring:
            self._rss_peak = max(self._rss_peak, rss_bytes)

    def closed(self) -> None:
        """The measured window ended."""
        self._end = self._snapshot()
        self.tick()
        self._measuring = False

    @property
    def window_s(self) -> float:
        """Length of the window."""
        return max(self._end.at_s - self._begin.at_s, 1e-9)

    def usage(self) -> Usage:
        """Cost of the window; slow, as it reads the proportional set size: not while measuring."""
        client_s = self._end.client_cpu_s - self._begin.client_cpu_s
        server = self._server() if self._service.members else None
        client = ClientUsage(client_s, client_s / self.window_s)
        return Usage(server, self._service.unknown, client, self._machine(server, client))

    def _snapshot(self) -> _Snapshot:
        return _Snapshot(
            at_s=time.perf_counter(),
            client_cpu_s=time.process_time() + sum(_cpu_seconds(self._clients).values()),
            server_cpu_s=_cpu_seconds(self._members),
            machine_ticks=_machine_ticks(PROC_STAT),
        )

    def _server(self) -> ServerUsage:
        begin, end = self._begin.server_cpu_s, self._end.server_cpu_s
        cpu_s = sum(end[pid] - begin.get(pid, 0.0) for pid in end)
        full = _full_memory(self._members)
        return ServerUsage(
            cpu_s=cpu_s,
            busy_cores=cpu_s / self.window_s,
            utilisation=cpu_s / self.window_s / self._cores,
            rss_peak_bytes=self._rss_peak,
            pss_bytes=None if full is None else full[0],
            uss_bytes=None if full is None else full[1],
            processes=len(end),
            ended=len(set(begin) - set(end)),
        )

    def _machine(self, server: ServerUsage | None, client: ClientUsage) -> MachineUsage | None:
        begin, end = self._begin.machine_ticks, self._end.machine_ticks
        passed = [b - a for a, b in zip(begin, end, strict=True)]
        if len(passed) < 8 or sum(passed) <= 0:
            return None
        user, nice, system, idle, iowait, irq, softirq, steal = passed[:8]
        busy = user + nice + system + irq + softirq
        total = busy + idle + iowait + steal
        # Ticks are not divided by the clock rate: a core that was taken away has no ticks at all.
        busy_cores = busy / total * (os.cpu_count() or 1)
        other = None if server is None else busy_cores - server.busy_cores - client.busy_cores
        return MachineUsage(
            busy_cores=busy_cores,
            steal_share=steal / total,
            other_cores=None if other is None else max(0.0, other),
            load_1min=os.getloadavg()[0],
        )


def _cpu_seconds(members: Iterable[psutil.Process]) -> dict[int, float]:
    seconds: dict[int, float] = {}
    for process in members:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue  # ended: it is missing in the result
        seconds[process.pid] = times.user + times.system
    return seconds


def _rss_bytes(members: Iterable[psutil.Process]) -> int:
    total = 0
    for process in members:
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total


def _full_memory(members: Iterable[psutil.Process]) -> tuple[int, int] | None:
    pss = uss = 0
    for process in members:
        try:
            full = process.memory_full_info()
        except psutil.NoSuchProcess:
            continue
        except (psutil.Error, OSError):
            return None  # a part of the tree would look like the whole
        pss, uss = pss + full.pss, uss + full.uss
    return pss, uss


def _machine_ticks(stat: Path) -> tuple[int, ...]:
    try:
        first = stat.read_text().partition("\n")[0].split()
    except OSError:
        return ()
    return tuple(int(ticks) for ticks in first[1:])
