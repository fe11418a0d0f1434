"""How many connections a process may have: each takes a descriptor, and memory with TLS."""

from __future__ import annotations

import os
import resource

from seatrial.errors import ServiceFailed

MOST = 10_000  # connections of a process where the deployment names no limit
FEWEST = 16
SPARE_FILES = 32  # descriptors for files that a process opens later
# Memory of a connection that is encrypted: most of it is the buffer that event loops have for each.
TLS_BYTES = 300_000
TLS_SHARE = 0.25  # of what a process may still take, for such connections at most
PROBE_PLACES = 16  # connections beyond the limit, on which probes alone are answered


def share(connections: int) -> int:
    """Most connections of a server beside the HTTP server, of those of a process.

    Args:
        connections: Most connections of all servers together.
    """
    return max(1, connections // 2)


def tls_memory_bytes(left_bytes: int, wanted: int | None) -> int:
    """Memory that is set aside for connections which are encrypted.

    Args:
        left_bytes: What the process may still take.
        wanted: See `room`.
    """
    return min(int(TLS_SHARE * left_bytes), (wanted or MOST) * TLS_BYTES)


def most_encrypted(tls_bytes: int, wanted: int | None) -> int:
    """How many connections fit the memory of this process, where they are encrypted.

    Args:
        tls_bytes: From `tls_memory_bytes`.
        wanted: See `room`.

    Raises:
        ServiceFailed: Fewer than wanted, or fewer than `FEWEST`.
    """
    fits = min(wanted or MOST, tls_bytes // TLS_BYTES)
    if fits < (wanted or FEWEST):
        raise ServiceFailed(
            f"a process has {tls_bytes / 2**20:.0f} MiB for connections with TLS, which leaves "
            f"room for {fits}; it needs {wanted or FEWEST}",
            hint="give the service more memory, or set a lower limits.connections",
        )
    return fits


def room(wanted: int | None, beside: int = 0, most: int = MOST) -> int:
    """How many connections fit this process: descriptors that are left, less a few.

    The soft limit of open files is raised as far as is needed and allowed. Servers beside the HTTP
    server open connections before that has seen them: their share is there twice.

    Args:
        wanted: Limit of the deployment; None takes `most`, or what fits.
        beside: Number of servers beside the HTTP server.
        most: Most connections where the deployment names no limit; see `most_encrypted`.

    Raises:
        ServiceFailed: Fewer than wanted fit, or fewer than `FEWEST`.
    """

    def files(connections: int) -> int:
        return used + connections + beside * share(connections)

    used = len(os.listdir("/proc/self/fd")) + SPARE_FILES + PROBE_PLACES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = files(wanted or most)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    left = (needed if soft == resource.RLIM_INFINITY else min(soft, needed)) - used
    fits = wanted or most if left >= needed - used else 2 * left // (2 + beside)
    if fits < (wanted or FEWEST):
        least = files(wanted or FEWEST)
        raise ServiceFailed(
            f"a process may have {soft} open files, which leaves room for {max(0, fits)} "
            f"connections; it needs {wanted or FEWEST}",
            hint=f"allow more: ulimit -n {least}, or LimitNOFILE of systemd",
        )
    return fits
