"""Connections shared evenly among the processes of a service.

They all take connections from one listening socket, and whoever wakes first takes all that wait:
of eight clients that connect at once, one process can have all, and its requests wait while the
other processes have nothing to do. So a process gives a new connection, before anything is read of
it, to the process that has fewest, where that has two fewer.

Each process writes its number of connections into shared memory, and how many it was given by each
of the others: what it was given and has not taken yet counts as its own.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import math
import mmap
import os
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from seatrial.system.children import runs

NAME = "connections"  # of the shared memory, and of the sockets with a number behind it
WORD = 8  # bytes
# Words of a process: its id while it takes connections, their number, and those from each other.
PID, OPEN, TAKEN = 0, 1, 2
# A process that has not taken a connection after so long gets no more until it has.
STUCK_S = 0.05


Take = Callable[[socket.socket], Awaitable[object]]


class Peers:
    """The processes of a service, as one of them sees them. Only its event loop calls this.

    Args:
        folder: A folder that the processes share.
        index: Number of this process, from 0.
        count: Number of processes.
        take: Called with the socket of each connection that another process gives; makes a
            connection of it.

    Raises:
        OSError: The folder cannot be written, or its name is too long for a socket.
    """

    def __init__(self, folder: Path, index: int, count: int, take: Take) -> None:
        self._folder, self._index, self._take = folder, index, take
        self._others = [number for number in range(count) if number != index]
        self._given = dict.fromkeys(range(count), 0)
        self._pids = dict.fromkeys(range(count), 0)
        self._waits_s = dict.fromkeys(range(count), 0.0)  # since when one is on its way
        self._tasks: set[asyncio.Task[None]] = set()
        self._row = TAKEN + count
        own = self._path(index)
        own.unlink(missing_ok=True)  # of a process that was killed
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        try:
            self._socket.bind(str(own))
            size = count * self._row * WORD
            descriptor = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.ftruncate(descriptor, size)
                self._memory = memoryview(mmap.mmap(descriptor, size)).cast("q")
            finally:
                os.close(descriptor)
        except BaseException:
            self._socket.close()
            raise
        first = index * self._row
        for word in range(first, first + self._row):
            self._memory[word] = 0
        self._memory[first + PID] = os.getpid()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._receive)

    def has(self, connections: int) -> None:
        """Say how many connections this process has."""
        self._memory[self._index * self._row + OPEN] = connections

    def give(self, transport: asyncio.BaseTransport, connections: int) -> bool:
        """Give a connection away if another process has two fewer than this one.

        Args:
            transport: The connection, of which nothing is read. The caller ends it where this is
                true, which the other process does not notice.
            connections: Number of connections of this process without it.
        """
        best = min(self._others, key=self._load, default=self._index)
        if best == self._index or self._load(best) >= connections:
            return False
        if transport.get_extra_info("ssl_object") is not None or not runs(self._pids[best]):
            return False
        descriptor = transport.get_extra_info("socket").fileno()
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
        try:
            self._socket.sendmsg([bytes([self._index])], [rights], 0, str(self._path(best)))
        except OSError:  # it has just ended, or has enough to take
            return False
        if not self._under_way(best):
            self._waits_s[best] = time.monotonic()
        self._given[best] += 1
        return True

    def close(self) -> None:
        """Take no more; what was given before is taken."""
        if self._socket.fileno() < 0:
            return
        self._memory[self._index * self._row + PID] = 0
        self._path(self._index).unlink(missing_ok=True)
        self._loop.remove_reader(self._socket)
        self._receive()
        self._socket.close()

    def _load(self, peer: int) -> float:
        """Connections of another process, with those on their way to it."""
        first = peer * self._row
        pid = self._memory[first + PID]
        if pid != self._pids[peer]:  # another one in its place
            self._pids[peer], self._given[peer] = pid, 0
        under_way = self._under_way(peer)
        if not pid or (under_way and time.monotonic() - self._waits_s[peer] > STUCK_S):
            return math.inf
        return self._memory[first + OPEN] + under_way

    def _under_way(self, peer: int) -> int:
        taken = self._memory[peer * self._row + TAKEN + self._index]
        return max(0, self._given[peer] - taken)

    def _receive(self) -> None:
        space = socket.CMSG_SPACE(array.array("i").itemsize)
        with contextlib.suppress(BlockingIOError):
            while True:
                sender, ancillary, _, _ = self._socket.recvmsg(1, space)
                if not ancillary:  # no descriptor was left: the kernel has closed it
                    self._count(sender[0])
                for level, kind, data in ancillary:
                    if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                        given = socket.socket(fileno=array.array("i", data)[0])
                        task = self._loop.create_task(self._accept(given, sender[0]))
                        self._tasks.add(task)
                        task.add_done_callback(self._tasks.discard)

    async def _accept(self, given: socket.socket, sender: int) -> None:
        try:
            with contextlib.suppress(OSError):  # its client has gone
                await self._take(given)
        finally:
            self._count(sender)

    def _count(self, sender: int) -> None:
        """Count a connection that is not on its way any more."""
        self._memory[self._index * self._row + TAKEN + sender] += 1

    def _path(self, peer: int) -> Path:
        return self._folder / f"{NAME}-{peer}"
