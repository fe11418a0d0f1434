"""Deployments for a real Triton server, and the client that asks it."""

from __future__ import annotations

import json
import subprocess
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


def ask(python: Path, ports: Ports, *words: str | Path) -> Told:
    """What the client's script prints, in the environment of a Python that has tritonclient."""
    script = [python, "-W", "ignore", "-c", CLIENT.read_text()]
    done = subprocess.run(
        [*script, str(ports.http), str(ports.grpc), *words],
        env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: Told = json.loads(done.stdout)
    return found
