"""Addresses that services listen on: free ones, and whether a service answers there."""

from __future__ import annotations

import contextlib
import errno
import http.client
import ipaddress
import socket
import ssl
from collections.abc import Collection, Iterator

import msgspec

from seatrial.deployment import Deployment, Server
from seatrial.errors import InvalidConfig, PortInUse
from seatrial.serve.control import LOOPBACK

# What names another port: the options of ``seatrial serve``, and the keys of a deployment file.
PORT = "--port, or server.port of the deployment"
GRPC_PORT = "--grpc-port, or server.grpc_port of the deployment"


def check_distinct(server: Server, metrics_port: int | None = None) -> None:
    """Check that no two ports of a service are the same one.

    Args:
        server: The service.
        metrics_port: Port of Triton's metrics; None: there is none, or it is chosen later.

    Raises:
        InvalidConfig: Two of them are the same.
    """
    if server.grpc_port == server.port:
        raise InvalidConfig(
            f"port {server.port} cannot be that of HTTP and of gRPC",
            hint=f"choose another with {GRPC_PORT}",
        )
    requests = (server.port, server.grpc_port)
    # Triton takes no commands.
    if server.runtime != "triton" and server.admin_port in requests and server.admin_port:
        raise InvalidConfig(
            f"port {server.admin_port} cannot be that of requests and of commands",
            hint="choose another server.admin_port",
        )
    if server.runtime == "triton" and metrics_port in requests and metrics_port:
        raise InvalidConfig(
            f"port {metrics_port} cannot be that of the metrics, too",
            hint="choose another triton.metrics_port",
        )


def check_ports(server: Server) -> None:
    """Check that the ports of a service are free, before anything is compiled.

    Raises:
        PortInUse: See `check_port`.
        InvalidConfig: See `check_distinct`.
    """
    check_distinct(server)
    check_port(server.host, server.port, PORT)
    if server.grpc_port is not None:
        check_port(server.host, server.grpc_port, GRPC_PORT)
    if server.admin_port is not None and server.runtime != "triton":  # which takes no commands
        check_port(LOOPBACK, server.admin_port, "server.admin_port")


def check_port(host: str, port: int, option: str = "--port") -> None:
    """Check that an address is free, before anything is compiled.

    Args:
        host: Address of an interface.
        port: Port.
        option: Option, key, or both that name another port, for the message.

    Raises:
        PortInUse: Another process listens there, or the address is not this machine's.
    """
    with bound(host, port, option):
        pass


@contextlib.contextmanager
def bound(
    host: str,
    port: int,
    option: str = "--port",
    *,
    backlog: int | None = None,
    shared: bool = False,
) -> Iterator[socket.socket]:
    """A socket that has an address; closed when the block ends.

    Args:
        host: Address of an interface.
        port: Port.
        option: See `check_port`.
        backlog: Connections that may wait to be taken. With it the socket listens, and nobody else
            gets the address; None: another process may listen there first.
        shared: Whether it shares the address with sockets that share it (``SO_REUSEPORT``).

    Raises:
        PortInUse: Another process listens there, or the address is not this machine's.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            probe.bind((host, port))
            if backlog is not None:  # two sockets can be bound, and one can listen
                probe.listen(backlog)
        except (TypeError, ValueError) as error:  # no name of a host: too long, a NUL character
            raise PortInUse(
                f"cannot listen on {host!r}: {error}", hint="name an address with --host"
            ) from error
        except OSError as error:
            raise not_listening(host, port, error, option) from error
        yield probe


def not_listening(host: str, port: int, error: OSError, option: str = "--port") -> PortInUse:
    """The error for an address on which a process cannot listen.

    Args:
        host: Address of an interface.
        port: Port.
        error: What the system says.
        option: See `check_port`.
    """
    hint = "name an address of this machine with --host, and a port that is allowed"
    if error.errno == errno.EADDRINUSE:
        word = option.partition(",")[0]
        free = f"; {word} 0 takes a free one" if word.startswith("--") else ""
        hint = f"choose another with {option}{free}"
    return PortInUse(f"cannot listen on {host}:{port}: {error.strerror}", hint=hint)


def free_port(host: str, besides: Collection[int | None] = ()) -> int:
    """A port that no process listens on at this moment.

    Args:
        host: Address of an interface.
        besides: Ports that are given away already: the system may give one of them again, as
            nobody listens there yet.

    Raises:
        PortInUse: The address is not this machine's.
    """
    while True:
        with bound(host, 0) as probe:
            port = int(probe.getsockname()[1])
        if port not in besides:
            return port


def with_port(deployment: Deployment) -> Deployment:
    """The deployment on ports that are known: port 0 becomes a free one."""
    server = deployment.server
    if not server.port:
        port = free_port(server.host, (server.grpc_port,))
        server = msgspec.structs.replace(server, port=port)
    if server.grpc_port == 0:
        port = free_port(server.host, (server.port,))
        server = msgspec.structs.replace(server, grpc_port=port)
    return msgspec.structs.replace(deployment, server=server)


def warning(host: str, *, needs_token: bool) -> str:
    """The warning for a service that strangers may reach; empty where it needs none.

    Args:
        host: Address that it really listens on, not a name.
        needs_token: Whether its requests need a token.
    """
    if needs_token or ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        return ""
    return (
        f"the service listens on {host} and needs no token: who reaches it can use it; "
        "see server.token_file"
    )


def url(server: Server) -> str:
    """The address of a service, as clients write it."""
    return f"{_scheme(server)}://{_host(server)}:{server.port}"


def grpc_url(server: Server) -> str:
    """The address of a service's gRPC; empty where it is not served."""
    if server.grpc_port is None:
        return ""
    scheme = "grpc" if server.tls_certificate is None else "grpcs"
    return f"{scheme}://{_host(server)}:{server.grpc_port}"


def urls(server: Server) -> str:
    """All addresses of a service."""
    return f"{url(server)} {grpc_url(server)}".rstrip()


def _host(server: Server) -> str:
    return f"[{server.host}]" if ":" in server.host else server.host


def _scheme(server: Server) -> str:
    return "http" if server.tls_certificate is None else "https"


def is_ready(server: Server) -> bool:
    """Whether a service answers there, and says that it is ready."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=2)
    if _scheme(server) == "https":
        # Only whether it is ready is of interest here, and no token is sent.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(
            server.host, server.port, timeout=2, context=context
        )
    try:
        path = "/v2/health/ready" if server.runtime == "triton" else "/readyz"
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
