"""Triton as a runtime: its server, on a model repository of the deployment."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment
from seatrial.errors import InvalidConfig
from seatrial.progress import Progress
from seatrial.report.numbers import counted
from seatrial.serve.address import check_ports
from seatrial.serve.runtimes.base import Launch
from seatrial.serve.service_folder import write_service
from seatrial.serve.triton.repository import lanes_of
from seatrial.serve.triton.server import find_server
from seatrial.system.token_files import SERVER_TOKENS


class TritonRuntime:
    """See `seatrial.serve.runtimes.base.Runtime`."""

    def require(self) -> None:
        """Nothing: a server is looked for where the deployment says, see `find_server`."""

    def launch(
        self,
        artifact: Artifact,
        deployment: Deployment,
        folder: Path,
        environment: Mapping[str, str],
        on_progress: Progress,
    ) -> Launch:
        """The process that looks after the server, on a service folder."""
        check_ports(deployment.server)
        check_clients(deployment, environment)
        write_service(folder, artifact, deployment, setting="SEATRIAL_HOME")
        server = find_server(folder / "triton", deployment, environment)
        shape = lanes_of(deployment)
        lanes = f"{counted(shape.lanes, 'lane')} x {counted(shape.threads, 'thread')}"
        on_progress(f"{artifact.manifest.name} on {deployment.engine}: {lanes}")
        on_progress(f"Triton: {server.words}")
        return Launch(_command(folder), dict(environment))

    def command(
        self, folder: Path, deployment: Deployment, environment: Mapping[str, str] = os.environ
    ) -> list[str]:
        """The process that looks after the server, on a service folder."""
        check_clients(deployment, environment)
        find_server(folder / "triton", deployment, environment)
        return _command(folder)

    def write(self, folder: Path, artifact: Artifact, deployment: Deployment) -> list[str]:
        """A folder with the model and the deployment."""
        check_clients(deployment, {})
        write_service(folder, artifact, deployment, with_package=True)
        return ["python", *_command(folder.absolute())[1:]]


def check_clients(deployment: Deployment, environment: Mapping[str, str]) -> None:
    """Refuse what only our own server does for a service: tokens, TLS, pages of other origins.

    Raises:
        InvalidConfig: The deployment asks for it.
    """
    server = deployment.server
    if server.token_file is not None or environment.get(SERVER_TOKENS):
        raise InvalidConfig(
            "Triton does not check bearer tokens: everybody could ask the service",
            hint="put a proxy that checks them before it, or serve with --on bentoml or uvicorn",
        )
    if server.tls_certificate is not None:
        raise InvalidConfig(
            "Triton does not speak https",
            hint="put a proxy that does before it, or serve with --on bentoml or uvicorn",
        )
    if server.cors_origins:
        raise InvalidConfig(
            "Triton does not allow pages of other origins",
            hint="leave cors_origins out, or serve with --on bentoml or uvicorn",
        )


def _command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "seatrial.serve.runtimes.triton_process", str(folder)]
