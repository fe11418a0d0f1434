"""TCP connections that a library of this process has accepted, and keeps to itself.

They are found among the descriptors of the process (``/proc/self/fd``, so on Linux alone, as the
limit of connections is). The library may close one at any moment, and its number may then be
another file's: a connection is a descriptor together with the number of its socket (inode).
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import time

DESCRIPTORS = "/proc/self/fd"
Peer = tuple[str, int]  # address and port of a client; IPv4 where it came as such, without a scope
AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: what is not sent is dropped when it is closed


class Accepted:
    """A connection.

    Attributes:
        peer: Its client.
        since: When it was first seen, on the monotonic clock.
    """

    __slots__ = ("_descriptor", "_inode", "peer", "since")

    def __init__(self, descriptor: int, inode: int, peer: Peer) -> None:
        self._descriptor, self._inode = descriptor, inode
        self.peer = peer
        self.since = time.monotonic()

    def end(self, *, drop: bool = False) -> bool:
        """End the connection for both sides: its library finds it closed.

        Args:
            drop: Drop what its client has not taken, which the system would keep for minutes.

        Returns:
            Whether it was still there.
        """
        try:
            # While this copy is open, its number cannot become another file's.
            copy = os.dup(self._descriptor)
        except OSError:  # it has just been closed
            return False
        try:
            facts = os.fstat(copy)
            if not stat.S_ISSOCK(facts.st_mode) or facts.st_ino != self._inode:
                return False
            connection = socket.socket(fileno=copy)
            try:
                if drop:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
                connection.shutdown(socket.SHUT_RDWR)
            finally:
                connection.detach()
        except OSError:  # its client has just left
            return False
        finally:
            os.close(copy)
        return True


class AcceptedConnections:
    """The connections to a port of this process that are open.

    Args:
        port: The port.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._found: dict[tuple[int, int], Accepted] = {}
        self._others: set[tuple[int, int]] = set()  # other sockets: those need one look alone

    def look(self) -> list[Accepted]:
        """The connections that are open now; those of the last look where none can be made."""
        try:
            numbers = [int(name) for name in os.listdir(DESCRIPTORS)]
        except OSError:
            return list(self._found.values())
        found: dict[tuple[int, int], Accepted] = {}
        others: set[tuple[int, int]] = set()
        for number in numbers:
            try:
                facts = os.fstat(number)
            except OSError:
                continue
            if not stat.S_ISSOCK(facts.st_mode):
                continue
            key = number, facts.st_ino
            if key in self._others:
                others.add(key)
            elif key in self._found:
                found[key] = self._found[key]
            elif (peer := self._peer(number)) is not None:
                found[key] = Accepted(*key, peer)
            else:
                others.add(key)
        self._found, self._others = found, others
        return list(found.values())

    def _peer(self, number: int) -> Peer | None:
        """The client of a connection to the port; None where the socket is something else."""
        try:
            borrowed = socket.socket(fileno=number)
        except OSError:
            return None
        try:
            if borrowed.family not in (socket.AF_INET, socket.AF_INET6):
                return None
            if borrowed.getsockname()[1] != self._port:
                return None
            host, port = borrowed.getpeername()[:2]
        except OSError:  # it listens, or its client has left
            return None
        finally:
            borrowed.detach()  # it is the library's to close
        return plain_address(host), port


def plain_address(host: str) -> str:
    """An address as `Peer` has it.

    Args:
        host: IPv4 or IPv6; IPv4 in IPv6 (``::ffff:192.0.2.1``) and a scope (``%eth0``) are taken.
    """
    host = host.partition("%")[0]
    return host[len("::ffff:") :] if host.startswith("::ffff:") and "." in host else host
