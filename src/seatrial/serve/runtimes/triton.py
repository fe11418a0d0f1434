"""A deployment on a Triton server: the repository is written, the server started and looked after.

The server is a child: what it says of a model that does not load becomes an error with a hint, and
signals go on to it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment
from seatrial.errors import ServiceFailed
from seatrial.progress import Progress, silent
from seatrial.serve.process import check_port, free_port, url
from seatrial.serve.triton.repository import Packaged, write_repository
from seatrial.serve.triton.running import FORWARDED, RunningTriton
from seatrial.serve.triton.server import (
    IMAGE,
    Ports,
    TritonServer,
    find_server,
    server_command,
)

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
READY_WITHIN_S = 600.0  # an image may have to be fetched, a network to be compiled for each lane


def ports_of(deployment: Deployment) -> Ports:
    """Ports of HTTP, gRPC and metrics: one after the other; three free ones for port 0.

    Raises:
        PortInUse: One of them is taken.
    """
    host, port = deployment.server.host, deployment.server.port
    if not port:
        return Ports(host, *free_ports(host, 3))
    for one in range(port, port + 3):
        check_port(host, one)
    return Ports(host, port, port + 1, port + 2)


def free_ports(host: str, count: int) -> list[int]:
    """Ports that no process listens on at this moment, all different."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port(host))
    return sorted(found)


def prepare(
    artifact: Artifact,
    deployment: Deployment,
    folder: Path,
    *,
    python: Path | None = None,
    image: str = IMAGE,
    environment: Mapping[str, str] = os.environ,
) -> tuple[TritonServer, Packaged]:
    """Find a server, and write what it serves.

    Args:
        artifact: The model.
        deployment: How to serve it.
        folder: Gets ``repository`` and what the server needs beside it; what an earlier run left
            there is replaced.
        python: See `find_server`.
        image: See `find_server`.
        environment: Variables of this process.

    Raises:
        MissingExtra: There is no server.
        SeatrialError: See `write_repository`.
    """
    server = find_server(
        folder, engine=deployment.engine, python=python, image=image, environment=environment
    )
    repository = folder / "repository"
    backend = "auto" if _has_backend(server, deployment) else "python"
    packaged = write_repository(repository, artifact, deployment, backend=backend, force=True)
    return server, packaged


def _has_backend(server: TritonServer, deployment: Deployment) -> bool:
    from seatrial.serve.triton.backends import OF_ENGINE

    return OF_ENGINE.get(deployment.engine, "python") in server.backends


def options_of(deployment: Deployment, packaged: Packaged) -> tuple[str, ...]:
    """Options of the server that follow from a deployment."""
    info = "true" if deployment.server.log == "requests" else "false"
    return (
        *packaged.server_options,
        f"--exit-timeout-secs={deployment.limits.drain_s}",
        f"--log-info={info}",
    )


def start(
    server: TritonServer,
    packaged: Packaged,
    deployment: Deployment,
    ports: Ports,
    environment: Mapping[str, str] = os.environ,
) -> RunningTriton:
    """Start a server; see `prepare`."""
    detector, _ = packaged.models
    command = server_command(
        server,
        Path(packaged.repository),
        ports,
        options_of(deployment, packaged),
        detector=detector.name,
        device=deployment.device,
    )
    own = {**environment, **server.environment}
    return RunningTriton(command, own, ports, sys.stderr, drain_s=deployment.limits.drain_s)


def run(
    server: TritonServer,
    packaged: Packaged,
    deployment: Deployment,
    ports: Ports,
    *,
    on_progress: Progress = silent,
    on_ready: Callable[[], object] = lambda: None,
) -> int:
    """Serve until a signal ends it; SIGTERM, SIGINT and SIGHUP go on to the server.

    Args:
        server: See `prepare`.
        packaged: See `prepare`.
        deployment: How to serve it.
        ports: See `ports_of`.
        on_progress: Told what is done until it is ready.
        on_ready: Called once when it is ready.

    Returns:
        Exit code: 0 where it was told to end, 130 where that was before it was ready.

    Raises:
        ServiceFailed: It did not start, or ended by itself.
    """
    told: list[int] = []
    running: list[RunningTriton] = []

    def forward(number: int, frame: FrameType | None) -> None:
        told.append(number)
        for one in running:
            _send(one.process, number)

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        one = start(server, packaged, deployment, ports)
        running.append(one)
        for number in told:  # came while it was started
            _send(one.process, number)
        try:
            if not one.wait_ready(READY_WITHIN_S, on_progress, lambda: bool(told)):
                return INTERRUPTED
            on_ready()
            while not told and one.process.poll() is None:
                signal_or_end(one.process)
        finally:
            code = one.leave() if told else one.end()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if not told:
        raise ServiceFailed(f"Triton ended by itself with code {code}: see what it said above")
    return 0


def signal_or_end(process: subprocess.Popen[str]) -> None:
    """Wait for the end of a process for a while; a signal is handled meanwhile."""
    try:
        process.wait(0.5)
    except subprocess.TimeoutExpired:
        return


def _send(process: subprocess.Popen[str], number: int) -> None:
    # The server takes SIGHUP for nothing; a terminal that closes ends it.
    if process.poll() is None:
        process.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)


def addresses(ports: Ports, deployment: Deployment) -> dict[str, str]:
    """Where each interface answers, as clients write it."""
    import msgspec

    def at(port: int) -> str:
        return url(msgspec.structs.replace(deployment.server, port=port))

    return {
        "HTTP": at(ports.http),
        "gRPC": at(ports.grpc).removeprefix("http://"),
        "metrics": f"{at(ports.metrics)}/metrics",
    }
