"""Where a report was made: machine, placement, versions, load before the run."""

from __future__ import annotations

import os
import platform
from importlib import metadata

import msgspec
import psutil

from seatrial.system import hardware
from seatrial.system.processes import ServiceProcesses

CLIENT_PACKAGES = ("seatrial", "aiohttp", "uvloop", "msgspec", "pillow", "psutil")


class ServerProcess(msgspec.Struct, frozen=True):
    """One process of the service: its name, threads, and the cores that it may run on."""

    name: str
    threads: int
    affinity: tuple[int, ...]


class Environment(msgspec.Struct, frozen=True):
    """The machine of the client, and of the service where that is the same one.

    Attributes:
        local: The service runs on this machine.
        affinity: Cores that the client may run on.
        processes: The service's processes; empty where they cannot be seen.
        load_1min: Load average before the first request.
        versions: Python and the packages of the client; the service's are in its own answer.
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
    """Look at the machine before the load starts."""
    return Environment(
        local=local,
        system=platform.platform(),
        cpu=hardware.cpu(),
        memory_bytes=psutil.virtual_memory().total,
        affinity=tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else (),
        processes=tuple(row for row in map(_process, service.members) if row is not None),
        load_1min=os.getloadavg()[0],
        versions={"python": platform.python_version(), **_package_versions()},
    )


def _process(process: psutil.Process) -> ServerProcess | None:
    try:
        affinity = tuple(process.cpu_affinity() or ())
        return ServerProcess(process.name(), process.num_threads(), affinity)
    except psutil.Error:
        return None


def _package_versions() -> dict[str, str]:
    versions: dict[str, str] = {}
    for name in CLIENT_PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
