"""Memory that this process may use, and how it gives back what it used."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
from collections.abc import Mapping
from pathlib import Path

from seatrial.system.hardware import CGROUP_ROOT, memory_total_bytes, usable_cores

# Blocks from here on come from the kernel and go back to it at once. By itself glibc keeps blocks
# of up to 32 MiB for the thread that used them: gigabytes after a few large images. Smaller
# blocks, such as an ordinary image, stay: a new page costs more than a decoded one.
LARGE_BYTES = 8 * 2**20
# The first heap has room enough in its gaps for what a second one would keep (decision 0035).
CORES_OF_A_HEAP = 8
# Settings of glibc (from 2.35 on) that a program can only be started with.
TUNABLES, LARGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"


def memory_limit_bytes(root: Path = CGROUP_ROOT, membership: str | None = None) -> int:
    """Memory that this process may use: of its control groups or of the machine, whichever is less.

    Reads cgroup v2 ``memory.max`` and v1 ``memory.limit_in_bytes``, from the process's own group up
    to the root: a parent's limit binds too. See cgroups(7).

    Args:
        root: Where the control groups are mounted.
        membership: Content of ``/proc/self/cgroup``, which is read where it is None.
    """
    if membership is None:
        try:
            membership = Path("/proc/self/cgroup").read_text()
        except OSError:
            membership = ""
    limits = [memory_total_bytes()]
    for line in membership.splitlines() or ["0::/"]:
        _, _, rest = line.partition(":")
        controllers, _, own = rest.partition(":")
        if not controllers:
            limits += _up_the_tree(root, own, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _up_the_tree(root / "memory", own, "memory.limit_in_bytes")
    return min(limits)


def _up_the_tree(root: Path, own: str, name: str) -> list[int]:
    folder, found = root / own.lstrip("/"), []
    while True:
        with contextlib.suppress(OSError, ValueError):  # "max", or no such file
            found.append(int((folder / name).read_text()))
        if folder == root or root not in folder.parents:
            return found
        folder = folder.parent


def resident_bytes() -> int:
    """Memory of this process that is in RAM; 0 where that is not known."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def memory_left_bytes(processes: int = 1) -> int:
    """Memory that this process may still take, not below 0.

    Args:
        processes: Number of processes that share `memory_limit_bytes`.
    """
    pages, resident = Path("/proc/self/statm").read_text().split()[:2]
    page = os.sysconf("SC_PAGE_SIZE")
    left = memory_limit_bytes() // processes - int(resident) * page
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY:
        left = min(left, most - int(pages) * page)
    return max(0, left)


def give_back_freed_memory() -> None:
    """Have glibc return all free pages of its heaps to the kernel; see malloc_trim(3)."""
    with contextlib.suppress(OSError, AttributeError):  # musl, macOS
        ctypes.CDLL(None).malloc_trim(0)


def heap_environment(base: Mapping[str, str]) -> dict[str, str]:
    """Environment with which a process has what `keep_little_memory` sets from its first thread on.

    Its heaps are of pages of 2 MiB, too, where the kernel gives them to who asks (``madvise``): a
    processor finds what engines compute with sooner.

    Args:
        base: The caller's environment, whose own settings of glibc's heaps hold.
    """
    settings = {name: str(value) for name, (_, value) in _heap_settings().items()}
    return settings | {TUNABLES: LARGE_PAGES} | dict(base)


def keep_little_memory(environment: Mapping[str, str] = {}) -> bool:
    """Have glibc return freed blocks of `LARGE_BYTES` to the kernel, and keep few heaps.

    By itself it has up to eight heaps for each core, and each keeps the free blocks that the
    threads of its own left: a thread that is started takes any of them. Threads of Python that
    take memory at the same time are few, and so are heaps here. Threads that run already keep the
    heaps that they have for good: processes that this package starts have `heap_environment`
    besides.

    Args:
        environment: That of the process, whose own settings of glibc's heaps hold.

    Returns:
        Whether the C library is one that can: glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl, macOS
        return False
    wanted = {name: one for name, one in _heap_settings().items() if name not in environment}
    return all(mallopt(option, value) for option, value in wanted.values())


def _heap_settings() -> dict[str, tuple[int, int]]:
    """Variable of the environment (mallopt(3)) -> option of malloc.h and its value."""
    return {
        "MALLOC_ARENA_MAX": (-8, 1 + usable_cores() // CORES_OF_A_HEAP),
        "MALLOC_MMAP_THRESHOLD_": (-3, LARGE_BYTES),
        "MALLOC_TRIM_THRESHOLD_": (-1, 2 * LARGE_BYTES),
    }
