"""The process of ``seatrial serve --on triton``: it starts the server and looks after it.

    python -m seatrial.serve.runtimes.triton_process FOLDER

The server is a child: what it says of a model that does not load becomes an error with a hint, and
signals go on to it.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
from pathlib import Path
from types import FrameType

import msgspec

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment
from seatrial.errors import SeatrialError, ServiceFailed, in_one_line
from seatrial.serve.address import check_distinct, check_port, check_ports, free_port, grpc_url, url
from seatrial.serve.parent import end_with_owner
from seatrial.serve.runtimes import notify
from seatrial.serve.runtimes.handover import take_signals
from seatrial.serve.runtimes.supervise import INTERRUPTED
from seatrial.serve.triton.backends import OF_ENGINE
from seatrial.serve.triton.container import container_of, fetch_image
from seatrial.serve.triton.repository import Packaged, write_repository
from seatrial.serve.triton.running import LEAVE_S, RunningTriton
from seatrial.serve.triton.server import Ports, TritonServer, find_server, server_command

READY_WITHIN_S = 600.0  # an image may have to be fetched, a graph compiled for each lane
LOOK_S = 0.5


class Signals:
    """Signals that came: the first is noted, and each goes on to the server."""

    def __init__(self) -> None:
        self.came: list[int] = []
        self._running: RunningTriton | None = None
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup: it outlives its terminal
            signal.signal(number, self._take)
        take_signals()

    def forward_to(self, running: RunningTriton) -> None:
        """Send signals on to a server from now on, those that came before included."""
        self._running = running
        if self.came:
            running.tell(self.came[0])

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.came.append(number)
        if self._running is not None:
            self._running.tell(number)


def main(folder: str) -> None:
    """Serve until a signal ends it.

    Args:
        folder: See `seatrial.serve.service_folder.write_service`; what the server needs is written
            into it.
    """
    signals = Signals()
    end_with_owner()
    try:
        code = serve(Path(folder), signals)
    except SeatrialError as error:
        _say(f"error: the service did not start: {error.message}")
        if error.hint:
            _say(f"hint: {error.hint}")
        sys.exit(error.exit_code)
    if code:
        sys.stderr.write("interrupted\n")
    sys.exit(code)


def serve(folder: Path, signals: Signals) -> int:
    """Serve a service folder.

    Returns:
        Exit code: 0 where it was told to end, 130 where that was before it was ready.

    Raises:
        ServiceFailed: It did not start, or ended by itself.
        SeatrialError: See `find_server` and `write_repository`.
    """
    deployment = Deployment.read(folder / "deployment.toml")
    artifact = Artifact.open(folder / deployment.model)
    own = folder / "triton"
    server = find_server(own, deployment)
    packaged = prepare(own / "repository", artifact, deployment, server)
    if server.container and not fetch_image(server, _progress, lambda: bool(signals.came)):
        return INTERRUPTED
    ports = ports_of(deployment)
    running = start(server, packaged, deployment, ports)
    signals.forward_to(running)
    try:
        ready = running.wait_ready(READY_WITHIN_S, _progress, lambda: bool(signals.came))
        if ready:
            for kind, address in addresses(ports, deployment).items():
                _say(f"ready: {address} ({kind})")
            notify.notify(notify.READY)
            while running.lives(LOOK_S) and not signals.came:
                pass
            notify.notify(notify.STOPPING)
    finally:
        code = running.leave() if signals.came else running.end()
    if not signals.came:
        raise ServiceFailed(f"Triton ended by itself with code {code}: see what it said above")
    return 0 if ready else INTERRUPTED


def prepare(
    repository: Path, artifact: Artifact, deployment: Deployment, server: TritonServer
) -> Packaged:
    """Write what a server serves: with a backend that it has."""
    backend: str = deployment.triton.backend
    if backend == "auto" and OF_ENGINE.get(deployment.engine, "python") not in server.backends:
        backend = "python"
    packaged = write_repository(
        repository, artifact, deployment, backend=backend, force=True, edited=True
    )
    for note in packaged.notes:
        _say(f"note: {note}")
    for one in packaged.models:
        _say(f"{one.name}: {one.backend}")
    return packaged


def ports_of(deployment: Deployment) -> Ports:
    """Ports of HTTP, gRPC and metrics, of which the last is a free one where none is named.

    Raises:
        PortInUse: One of them is taken, or is another's.
    """
    server, metrics = deployment.server, deployment.triton.metrics_port
    check_distinct(server, metrics)
    check_ports(server)
    if metrics is None:
        metrics = free_port(server.host, (server.port, server.grpc_port))
    else:
        check_port(server.host, metrics, "triton.metrics_port")
    return Ports(server.host, server.port, server.grpc_port, metrics)


def start(
    server: TritonServer, packaged: Packaged, deployment: Deployment, ports: Ports
) -> RunningTriton:
    """Start a server on a repository."""
    info = "true" if deployment.server.log == "requests" else "false"
    options = (
        *packaged.server_options,
        f"--exit-timeout-secs={deployment.limits.drain_s}",
        f"--log-info={info}",
    )
    repository, own = Path(packaged.repository), {**os.environ, **server.environment}
    drain_s = deployment.limits.drain_s
    if not server.container:
        command = server_command(server, repository, ports, options)
        return RunningTriton(command, own, ports, sys.stderr, drain_s=drain_s)
    container = container_of(
        server,
        repository,
        ports,
        options,
        name=f"seatrial-{secrets.token_hex(8)}",
        detector=packaged.models[0].name,
        device=deployment.device,
        grace_s=drain_s + LEAVE_S,
    )
    return RunningTriton(
        container.command, own, ports, sys.stderr, drain_s=drain_s, container=container
    )


def addresses(ports: Ports, deployment: Deployment) -> dict[str, str]:
    """Where each interface answers, as clients write it."""
    server = deployment.server
    metrics = msgspec.structs.replace(server, port=ports.metrics)
    found = {"HTTP": url(server), "gRPC": grpc_url(server), "metrics": f"{url(metrics)}/metrics"}
    return {kind: address for kind, address in found.items() if address}


def _say(text: str) -> None:
    sys.stderr.write(f"{in_one_line(text)}\n")
    sys.stderr.flush()


def _progress(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> None:
    _say(what)


if __name__ == "__main__":
    main(*sys.argv[1:])
