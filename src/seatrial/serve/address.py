"""Addresses that services listen on: free ones, and whether a service answers there."""

from __future__ import annotations

import contextlib
import errno
import http.client
import socket
from collections.abc import Iterator

import msgspec

from seatrial.deployment import Deployment, Server
from seatrial.errors import PortInUse


def check_port(host: str, port: int) -> None:
    """Check that an address is free, before anything is compiled.

    Raises:
        PortInUse: Another process listens there, or the address is not this machine's.
    """
    with bound(host, port):
        pass


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that has an address, and does not listen yet; closed when the block ends.

    Raises:
        PortInUse: Another process listens there, or the address is not this machine's.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (TypeError, ValueError) as error:  # no name of a host: too long, a NUL character
            raise PortInUse(
                f"cannot listen on {host!r}: {error}", hint="name an address with --host"
            ) from error
        except OSError as error:
            raise PortInUse(
                f"cannot listen on {host}:{port}: {error.strerror}",
                hint="choose another with --port; --port 0 takes a free one"
                if error.errno == errno.EADDRINUSE
                else "name an address of this machine with --host, and a port that is allowed",
            ) from error
        yield probe


def free_port(host: str) -> int:
    """A port that no process listens on at this moment.

    Raises:
        PortInUse: The address is not this machine's.
    """
    with bound(host, 0) as probe:
        return int(probe.getsockname()[1])


def with_port(deployment: Deployment) -> Deployment:
    """The deployment on a port that is known: port 0 becomes a free one."""
    server = deployment.server
    if server.port:
        return deployment
    server = msgspec.structs.replace(server, port=free_port(server.host))
    return msgspec.structs.replace(deployment, server=server)


def url(server: Server) -> str:
    """The address of a service, as clients write it."""
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"http://{host}:{server.port}"


def is_ready(server: Server) -> bool:
    """Whether a service answers there, and says that it is ready."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=2)
    try:
        path = "/v2/health/ready" if server.runtime == "triton" else "/readyz"
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
