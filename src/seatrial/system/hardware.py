"""The hardware of this machine, and the part that this process may use."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import msgspec

CGROUP_ROOT = Path("/sys/fs/cgroup")


class Cpu(msgspec.Struct, frozen=True):
    """The processor, and the part of it that this process may use.

    Attributes:
        model: Name that the kernel reports.
        cores: Number of usable cores: by affinity or by cgroup quota, whichever is less.
        cores_online: Number of cores of the machine.
        quota_cores: CPU quota of the cgroup, in cores; None where there is none.
        features: Instruction sets that matter to inference engines.
    """

    model: str
    cores: int
    cores_online: int
    quota_cores: float | None
    features: tuple[str, ...]


FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def cgroup_quota_cores(root: Path = CGROUP_ROOT, own_cgroup: Path | None = None) -> float | None:
    """CPU quota of the control group, in cores; None without a limit.

    Reads cgroup v2 ``cpu.max`` from the process's own group up to the root (a parent's limit
    binds too), or v1 ``cpu.cfs_quota_us``. See cgroups(7).
    """
    own = own_cgroup if own_cgroup is not None else _own_cgroup()
    limits: list[float] = []
    folder = root / str(own).lstrip("/")
    while True:
        limits += _read_cpu_max(folder / "cpu.max")
        if folder == root or root not in folder.parents:
            break
        folder = folder.parent
    for controller in ("cpu", "cpu,cpuacct"):
        limits += _read_cfs(root / controller)
    return min(limits) if limits else None


def _own_cgroup() -> Path:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return Path("/")
    return next((Path(line[3:]) for line in lines if line.startswith("0::")), Path("/"))


def _read_cpu_max(file: Path) -> list[float]:
    try:
        quota, period = file.read_text().split()
    except (OSError, ValueError):
        return []
    return [] if quota == "max" else [int(quota) / int(period)]


def _read_cfs(folder: Path) -> list[float]:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return []
    return [quota / period] if quota > 0 else []


def usable_cores() -> int:
    """Number of cores that this process may keep busy, by affinity and cgroup quota; at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = cgroup_quota_cores()
    cores = affinity or 1
    # A quota of 1.5 cores keeps one thread busy; a second would be throttled half of the time.
    return max(1, min(cores, int(quota))) if quota is not None else cores


def cpu() -> Cpu:
    """The processor of this machine."""
    model, flags = platform.processor() or platform.machine(), set[str]()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                model = value.strip()
            elif key.strip() == "flags":
                flags = set(value.split())
                break
    except OSError:
        pass
    return Cpu(
        model=model,
        cores=usable_cores(),
        cores_online=os.cpu_count() or 1,
        quota_cores=cgroup_quota_cores(),
        features=tuple(name for name in FEATURES if name in flags),
    )


def memory_total_bytes() -> int:
    """Memory of the machine in bytes; a cgroup may allow less."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
