"""The conditions of a benchmark: machine, placement, versions, load before it began."""

from __future__ import annotations

import os
import platform

import msgspec
import psutil

from seatrial.system import hardware
from seatrial.system.processes import ServiceProcesses
from seatrial.system.versions import versions

CLIENT_PACKAGES = ("httptools", "uvloop", "msgspec", "pillow", "psutil")


class ServerProcess(msgspec.Struct, frozen=True):
    """One process of the service.

    Attributes:
        name: Its name.
        threads: Number of its threads.
        affinity: Cores that it may run on.
    """

    name: str
    threads: int
    affinity: tuple[int, ...]


class Environment(msgspec.Struct, frozen=True):
    """The machine of the client, and of the service where that is the same one.

    Attributes:
        local: Whether the service runs on this machine.
        system: Operating system.
        cpu: Processor.
        memory_bytes: Memory of the machine.
        affinity: Cores that the client may run on.
        processes: Processes of the service; empty where they cannot be seen.
        load_1min: Load average before the first request.
        versions: Versions of Python and of the client's packages; the service's own answer holds
            the service's.
    """

    local: bool
    system: str
    cpu: hardware.Cpu
    memory_bytes: int
    affinity: tuple[int, ...]
    processes: tuple[ServerProcess, ...]
    load_1min: float
    versions: dict[str, str]


def describe_environment(service: ServiceProcesses, *, local: bool) -> Environment:
    """Describe the machine; called before the load starts."""
    return Environment(
        local=local,
        system=platform.platform(),
        cpu=hardware.cpu(),
        memory_bytes=psutil.virtual_memory().total,
        affinity=tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else (),
        processes=tuple(row for row in map(_describe, service.members) if row is not None),
        load_1min=os.getloadavg()[0],
        versions={"python": platform.python_version(), **versions(*CLIENT_PACKAGES)},
    )


def _describe(process: psutil.Process) -> ServerProcess | None:
    try:
        affinity = tuple(process.cpu_affinity() or ())
        return ServerProcess(process.name(), process.num_threads(), affinity)
    except psutil.Error:
        return None
