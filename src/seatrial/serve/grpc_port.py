"""The port of gRPC: one service has it for its whole life.

The server processes of a service share the port, and so do the servers of its certificates
(``SO_REUSEPORT``): the kernel lets any process of the same user listen there, too, and deals out
the connections. So a service claims the port before it loads anything. A claim is a socket without
a file. Its name is given once in a network namespace, as a port is, and is free again when the
process has ended, whatever ended it.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

from seatrial.deployment import Server
from seatrial.errors import PortInUse
from seatrial.serve.address import GRPC_PORT, check_port, not_listening
from seatrial.system.accepted_connections import plain_address

PREFIX = "seatrial/grpc/"
OPEN = Path("/proc/net/unix")  # the names that are taken, each at the end of a line
WAITING = 4096  # of those who ask whose a claim is; nobody takes their connections
ASKS, EVERY_S = 10, 0.01
CREDENTIALS = struct.Struct("3i")  # of SO_PEERCRED: process, user, group

# Until this process ends: the claims by their names, and the ports.
_held: dict[str, socket.socket] = {}
_ports: set[int] = set()


def claim(server: Server) -> None:
    """Claim the port of a service's gRPC until this process ends.

    Args:
        server: The service; without gRPC nothing is claimed.

    Raises:
        PortInUse: Another service of this user has it, or a process listens there.
    """
    port = server.grpc_port
    if port is None or port in _ports:
        return
    of_port = f"{PREFIX}{port}/"
    with ExitStack() as failed:
        for address in _addresses(server.host):
            name = of_port + address
            claimed = failed.enter_context(socket.socket(socket.AF_UNIX))
            try:
                claimed.bind(f"\0{name}")
                claimed.listen(WAITING)
            except OSError as error:
                # Of another user, or forbidden: the kernel keeps ports of two users apart itself.
                if error.errno == errno.EADDRINUSE and _is_of_this_user(name):
                    raise _taken(server.host, port) from error
                claimed.close()
                continue
            failed.callback(_held.pop, name)
            _held[name] = claimed
            for other in _claims(of_port) - _held.keys():
                both = (address, other.removeprefix(of_port))
                if any(ip_address(one).is_unspecified for one in both) and _is_of_this_user(other):
                    raise _taken(server.host, port)
        # Nobody who claims begins to listen from now on; who does already is found here.
        check_port(server.host, port, GRPC_PORT)
        failed.pop_all()
        _ports.add(port)


def _addresses(host: str) -> set[str]:
    """The addresses that are meant by one, or by a name."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # it is said where the port is looked at
        return set()
    return {str(ip_address(plain_address(str(one[4][0])))) for one in found}


def _claims(of_port: str) -> set[str]:
    """The names of all claims on a port; empty where they are not told."""
    try:
        lines = OPEN.read_text(errors="replace").splitlines()
    except OSError:
        return set()
    names = (line.rpartition(" ")[2] for line in lines)
    found = {name[1:] for name in names if name.startswith(f"@{of_port}")}
    return {name for name in found if _is_address(name.removeprefix(of_port))}


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_of_this_user(name: str) -> bool:
    """Whether a claim is that of a process of this user; strangers can take any name."""
    for _ in range(ASKS):
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(EVERY_S)
            try:
                asking.connect(f"\0{name}")
                told = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
            except OSError:  # it is taken at this moment, or has just gone
                time.sleep(EVERY_S)
                continue
        _, user, _ = CREDENTIALS.unpack(told)
        return bool(user == os.geteuid())
    return False


def _taken(host: str, port: int) -> PortInUse:
    return not_listening(
        host, port, OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)), GRPC_PORT
    )
