"""Processes of a service, found by the port that it listens on."""

from __future__ import annotations

import os
from collections.abc import Iterable

import msgspec
import psutil

# Programs that hold a port for a service that runs elsewhere.
PROXIES = ("docker-proxy", "rootlessport", "slirp4netns", "ssh")


class ServiceProcesses(msgspec.Struct, frozen=True):
    """The process tree of a service, or the reason why it is not known.

    Attributes:
        members: The topmost holders of the listening socket and all their descendants.
        unknown: Reason why there are no members; empty where there are some.
    """

    members: tuple[psutil.Process, ...]
    unknown: str = ""


def find_service(port: int, *, local: bool) -> ServiceProcesses:
    """Find the process tree behind a local TCP port.

    In a pre-fork server the workers inherit the socket of the parent, so several processes hold
    it: the topmost ones are the service, with all their descendants. A port that only the workers
    hold, such as that of gRPC, gives the same processes: who holds another address at which they
    listen is of the service, too.
    """
    if not local:
        return ServiceProcesses((), "the service runs on another machine")
    heard = [(process, _listens(process)) for process in psutil.process_iter()]
    known = {address for _, addresses in heard for address in addresses if address[1] == port}
    if not known:
        return ServiceProcesses((), f"no visible process listens on port {port}")
    while True:
        sharing = [(process, addresses) for process, addresses in heard if addresses & known]
        more = known.union(*(addresses for _, addresses in sharing))
        if more == known:
            break
        known = more
    holders = {process.pid: process for process, _ in sharing}
    roots = [process for process in holders.values() if not _has_ancestor(process, holders)]
    if any(process.pid == os.getpid() for process in roots):
        return ServiceProcesses((), "the service runs in the process of the client")
    proxy = next((name for name in map(_name, roots) if name in PROXIES), None)
    if proxy is not None:
        return ServiceProcesses((), f"{proxy} holds port {port}; the service is behind it")
    return ServiceProcesses(tuple(with_descendants(roots)))


def with_descendants(roots: Iterable[psutil.Process]) -> list[psutil.Process]:
    """The living roots and all their descendants, each once, in order of their ids."""
    tree: dict[int, psutil.Process] = {}
    for root in roots:
        try:
            members = [root, *root.children(recursive=True)]
        except psutil.Error:
            continue  # it ended meanwhile
        tree.update({process.pid: process for process in members})
    return [tree[pid] for pid in sorted(tree)]


def _listens(process: psutil.Process) -> set[tuple[str, int]]:
    """Addresses and ports at which a process listens."""
    try:
        rows = process.net_connections(kind="tcp")
    except (psutil.Error, OSError):
        return set()  # another user's process, or ended
    return {
        (row.laddr.ip, row.laddr.port)
        for row in rows
        if row.status == psutil.CONN_LISTEN and row.laddr
    }


def _has_ancestor(process: psutil.Process, among: dict[int, psutil.Process]) -> bool:
    try:
        return any(parent.pid in among for parent in process.parents())
    except psutil.Error:
        return False


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return ""
