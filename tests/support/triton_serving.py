"""Deployments for a real Triton server, and the client that asks it."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from fresh_environments import ENVIRONMENT
from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Server
from seatrial.serve.address import free_port
from seatrial.serve.triton.server import Ports

Told = dict[str, Any]

HOST = "127.0.0.1"
ENGINE = "onnxruntime"
CLIENT = Path(__file__).with_name("triton_client.txt")


def deployment_of(artifact: Artifact, **changes: Any) -> Deployment:
    """A deployment in one process with one lane, on a free port."""
    plain = Deployment(
        str(artifact.path), engine=ENGINE, layout=CoreLayout(workers=1, instances=1, threads=1),
        server=Server(HOST, 0),
    )  # fmt: skip
    return msgspec.structs.replace(plain, **changes)


def free_ports() -> Ports:
    """Three ports that nobody listens on."""
    found: list[int] = []
    for _ in range(3):
        found.append(free_port(HOST, found))
    return Ports(HOST, *found)


@contextlib.contextmanager
def start_client(python: Path, ports: Ports, *words: str | Path) -> Iterator[subprocess.Popen[str]]:
    """The client's script, in the environment of a Python that has tritonclient.

    It has ended when the block is left.
    """
    script = [python, "-W", "ignore", "-c", CLIENT.read_text()]
    with subprocess.Popen(
        [*script, str(ports.http), str(ports.grpc), *words],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as client:  # fmt: skip
        try:
            yield client
        finally:
            client.kill()


def told_by(client: subprocess.Popen[str]) -> Told:
    """What the client's script prints, once it has ended."""
    printed, said = client.communicate(timeout=240)
    assert client.returncode == 0, said
    found: Told = json.loads(printed)
    return found


def ask(python: Path, ports: Ports, *words: str | Path) -> Told:
    """What the client's script prints."""
    with start_client(python, ports, *words) as client:
        return told_by(client)
